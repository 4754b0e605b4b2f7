package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// These tests show docs/safety.md on real systemd: whatever happens to a host during an activation,
// it ends with the new system, confirmed and acknowledged, or with the old one, and says so.

const (
	agentBinary = "/usr/local/bin/npcnix"
	dataDir     = "/var/lib/npcnix"

	rearmUnit = `[Unit]
Description=npcnix: roll back what was not confirmed before the reboot
Before=npcnix.service
[Service]
Type=oneshot
RemainAfterExit=yes
X-RestartIfChanged=false
X-StopIfChanged=false
Environment=HOME=/root
StateDirectory=npcnix
ExecStart=` + agentBinary + ` activation rearm
[Install]
WantedBy=multi-user.target
`
)

// agentUnit is the unit of an agent that is started by a command, with what nix/module.nix gives it.
func agentUnit(command string) string {
	return `[Unit]
Description=npcnix
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
X-RestartIfChanged=false
X-StopIfChanged=false
Environment=HOME=/root
StateDirectory=npcnix
WatchdogSec=2min
Restart=always
RestartSec=100ms
KillMode=control-group
OOMPolicy=continue
ExecStart=` + command + `
[Install]
WantedBy=multi-user.target
`
}

// daemonUnit is the text of a unit that runs a command for as long as that runs.
func daemonUnit(command string, more ...string) string {
	return "[Service]\nExecStart=" + command + "\n" + strings.Join(more, "\n") + "\n[Install]\nWantedBy=multi-user.target\n"
}

// guarded is a machine whose agent follows a cloud of its own.
type guarded struct {
	*world
	cloud       *awsfake.Cloud
	m           *nspawn.Machine
	name, queue string
	units       map[string]string // of each system, unless it says otherwise
	settings    map[string]any
	before      string // the version that was applied last
	nix         string // folder of another nix than the suite's: see withNix
	cache       string // URL of the binary cache of what is built elsewhere; "" if the host builds
}

// newGuarded boots a machine that runs the version "zero", and has applied it.
func newGuarded(t testing.TB, o nspawn.Options, settings map[string]any) *guarded {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	g := &guarded{
		world: newWorld(t, cloud.URL()), cloud: cloud, name: "web1",
		units: map[string]string{
			"npcnix.service":       agentUnit(agentBinary + " follow --log-level debug"),
			"npcnix-rearm.service": rearmUnit,
			"web.service":          daemonUnit("/bin/sleep infinity"),
		},
		settings: map[string]any{
			"configuration": "web1", "host": "web1", "lease_secs": 2, "poll_interval_secs": 3600,
			"verify_timeout_secs": 60, "settle_secs": 0, "retry_delays_secs": []int{1, 1, 1},
		},
	}
	maps.Copy(g.settings, settings)
	if o.Binds == nil {
		o.Binds = map[string]string{}
	}
	o.Binds[agentBinary] = npcnix
	o.Env = map[string]string{}
	for _, e := range cloud.Env() {
		if name, value, _ := strings.Cut(e, "="); name != "AWS_ENDPOINT_URL" { // the way to it is the remote's
			o.Env[name] = value
		}
	}
	g.m = nspawn.Boot(t, o)
	through := g.m.Proxy(cloud.URL())
	_, _ = g.world.queue(g.name, 5)
	g.queue = through + "/" + awsfake.Account + "/" + g.name
	g.settings["queue_url"] = g.queue
	g.settings["remote"] = remote + "?region=" + awsfake.Region + "&endpoint=" + through
	g.set(nil)
	g.m.Install(g.system(nspawn.System{Version: "zero"}))
	p := g.publish(nspawn.System{Version: "zero"})
	p.want(record.Applied)
	g.before = "zero"
	return g
}

// set writes settings, in place of those of the same names.
func (g *guarded) set(settings map[string]any) {
	g.t.Helper()
	all := maps.Clone(g.settings)
	maps.Copy(all, settings)
	text, err := json.Marshal(all)
	g.must(err)
	g.m.Write("/etc/npcnix/settings.json", string(text))
}

// system adds what each system of the host has. A unit that is "" is left out.
func (g *guarded) system(s nspawn.System) nspawn.System {
	units := maps.Clone(g.units)
	maps.Copy(units, s.Units)
	maps.DeleteFunc(units, func(_, text string) bool { return text == "" })
	s.Units = units
	return s
}

// published is one version, and what becomes of it.
type published struct {
	*guarded
	version, etag string
	message       string // its id
	deleted       bool   // it may be, whatever becomes of the version
	switched      int    // the runs of switch-to-configuration before it
}

// publish publishes a system.
func (g *guarded) publish(s nspawn.System) published {
	g.t.Helper()
	dir := filepath.Join(g.t.TempDir(), "flake")
	// Salted, as a flake that is as the one before changes nothing.
	g.must(nspawn.Flake(dir, "safety", map[string]nspawn.System{g.name: g.system(s)}))
	p := published{guarded: g, version: s.Version, switched: len(g.m.Switches())}
	sent := g.count(awsfake.Sent, "")
	if g.cache != "" {
		p.etag = g.pushPrebuilt(dir, g.settings["remote"].(string))
	} else {
		p.etag = g.put(dir)
	}
	p.message = g.awaitEntry("the message of "+s.Version, func(e awsfake.Entry) bool {
		if e.What == awsfake.Sent && e.Queue == g.name {
			sent--
		}
		return sent < 0
	}).MessageID
	return p
}

// put packs the flake in dir, publishes that, and returns its ETag.
func (g *guarded) put(dir string) (etag string) {
	g.t.Helper()
	var packed bytes.Buffer
	g.must(store.Pack(g.t.Context(), dir, &packed, store.PackOptions{}))
	out, err := g.s3.PutObject(g.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(packed.Bytes()),
	})
	g.must(err)
	return strings.Trim(*out.ETag, `"`)
}

// count tells how often something has become of a message of the host's queue, or of any.
func (g *guarded) count(what awsfake.What, message string) int {
	n := 0
	for _, e := range g.cloud.Trace() {
		if e.What == what && e.Queue == g.name && (message == "" || e.MessageID == message) {
			n++
		}
	}
	return n
}

func (g *guarded) awaitEntry(what string, want func(awsfake.Entry) bool) awsfake.Entry {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	e, err := g.cloud.Await(ctx, want)
	if err != nil {
		g.t.Fatalf("does not come about: %s: %v", what, err)
	}
	return e
}

// record returns the host's acknowledgement record; the zero one where there is none.
func (g *guarded) record() record.Record {
	g.t.Helper()
	var r record.Record
	out, err := g.s3.GetObject(g.t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key + ".acks/" + g.name + ".json"),
	})
	if err != nil {
		return r
	}
	defer out.Body.Close()
	g.must(json.NewDecoder(out.Body).Decode(&r))
	return r
}

// activation returns activation.json; the zero one where there is none.
func (g *guarded) activation() activation.Journal {
	var a activation.Journal
	_ = json.Unmarshal([]byte(g.m.Read(filepath.Join(dataDir, "activation.json"))), &a)
	return a
}

// final returns the record once nothing more is to become of the version.
func (p published) final() record.Record {
	p.t.Helper()
	var r record.Record
	p.m.Await(fmt.Sprintf("the end of %s", p.version), func() bool {
		r = p.record()
		switch r.Status {
		case record.Applied, record.RolledBack, record.Rejected:
			return r.Version.ETag == p.etag
		}
		return false
	})
	return r
}

// want waits for the end of the version, which is to be state, and checks all that is to hold then:
// what runs, what boots, what becomes of the message, and that nothing is left of the way there. The
// record is to say each of the texts.
func (p published) want(state record.Status, says ...string) record.Record {
	p.t.Helper()
	r := p.final()
	if r.Status != state {
		p.t.Errorf("%s is %s: %s %q", p.version, r.Status, r.Error, r.LogTail)
	}
	for _, text := range says {
		if !strings.Contains(r.Error+"\n"+strings.Join(r.LogTail, "\n"), text) {
			p.t.Errorf("the record of %s lacks %q: %s %q", p.version, text, r.Error, r.LogTail)
		}
	}
	runs := p.before
	if r.Status == record.Applied {
		runs = p.version
		p.awaitEntry("the message of "+p.version+" deleted", func(e awsfake.Entry) bool {
			return e.What == awsfake.Deleted && e.MessageID == p.message
		})
	} else if !p.deleted && p.count(awsfake.Deleted, p.message) != 0 {
		p.t.Errorf("the message of %s is deleted", p.version)
	}
	p.stands(runs)
	if r.System != p.m.Link(nspawn.CurrentSystem) {
		p.t.Errorf("the record says that %s runs", r.System)
	}
	if r.Status == record.Applied {
		p.guarded.before = p.version
	}
	return r
}

// stands checks that the host runs and boots a version, and that nothing is under way.
func (g *guarded) stands(version string) {
	g.t.Helper()
	running := g.m.Link(nspawn.CurrentSystem)
	if g.m.Version() != version {
		g.t.Errorf("%s runs, not %s", g.m.Version(), version)
	}
	for _, link := range []string{nspawn.Profile, nspawn.BootDefault} {
		if to := g.m.Link(link); to != running {
			g.t.Errorf("%s runs, but %s leads to %s", running, link, to)
		}
	}
	if a := g.activation(); a.Phase != "" && !a.Phase.Ended() {
		g.t.Errorf("the activation of %s is %s", a.System, a.Phase)
	}
	g.m.Await("no unit of npcnix's to be left", func() bool {
		left := g.m.Must("systemctl", "list-units", "--all", "--plain", "--no-legend", "npcnix-activate*", "npcnix-rollback*")
		return strings.TrimSpace(left) == ""
	})
	g.m.Await("the agent and the host's own daemon to run", func() bool {
		return g.m.Unit("npcnix", "ActiveState") == "active" && g.m.Unit("web", "ActiveState") == "active"
	})
}

// activated checks how often the version was activated since it was published.
func (p published) activated(times int) {
	p.t.Helper()
	if got := p.runsOf(p.version, "test"); len(got) != times {
		p.t.Errorf("%s was activated %d times, want %d: %v", p.version, len(got), times, p.m.Switches()[p.switched:])
	}
}

// runsOf returns how the runs of a switch-to-configuration since the publish have ended.
func (p published) runsOf(version, action string) (statuses []string) {
	for _, s := range p.m.Switches()[p.switched:] {
		if s.Version == version && s.Action == action {
			statuses = append(statuses, s.Status)
		}
	}
	return statuses
}

// buried waits until the message is in the dead-letter queue.
func (p published) buried() {
	p.t.Helper()
	p.awaitEntry("the message of "+p.version+" in the dead-letter queue", func(e awsfake.Entry) bool {
		return e.What == awsfake.Buried && e.MessageID == p.message
	})
}

func eachSuite(t *testing.T, test func(*testing.T, string)) {
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			test(t, suite)
		})
	}
}

func TestActivation(t *testing.T) {
	t.Parallel()
	t.Run("applies a good version once", appliedOnce)
}

func appliedOnce(t *testing.T) {
	t.Parallel()
	eachSuite(t, func(t *testing.T, suite string) {
		g := newGuarded(t, nspawn.Options{Suite: suite}, nil)
		pid := g.m.Unit("npcnix", "MainPID")
		p := g.publish(nspawn.System{Version: "one", Units: map[string]string{"web.service": daemonUnit("/bin/sleep 1000000")}})
		r := p.want(record.Applied)
		p.activated(1)
		if r.PreviousSystem == "" || r.RebootDue || r.Trigger != record.Event || r.Attempt != 1 {
			t.Errorf("record: %+v", r)
		}
		if g.m.Unit("npcnix", "MainPID") != pid {
			t.Error("the agent was restarted")
		}
		g.m.Kill()
		g.m.Boot()
		g.stands("one")
		p.activated(1)
		for _, version := range []string{"two", "three"} {
			g.publish(nspawn.System{Version: version}).want(record.Applied)
			g.quiet()
		}
	})
}

// quiet checks that nothing of npcnix's has failed since the boot, or was worth a warning to systemd.
func (g *guarded) quiet() {
	g.t.Helper()
	if failed := g.m.Must("systemctl", "list-units", "--failed", "--plain", "--no-legend"); strings.TrimSpace(failed) != "" {
		g.t.Errorf("failed: %s", failed)
	}
	for line := range strings.Lines(g.m.Must("journalctl", "--boot", "--priority=warning", "--no-pager", "--output=short")) {
		if strings.Contains(line, "npcnix") {
			g.t.Error(line)
		}
	}
}
