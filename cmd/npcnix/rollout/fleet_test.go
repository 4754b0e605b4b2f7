package rollout

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// world is a remote in a folder, keys, and hosts that do what their release and its progress say.
type world struct {
	t          *testing.T
	dir        string
	remote     *store.Remote
	key        string // file of the release key
	rolloutKey string // file of the rollout key
	signers    release.Signers
	hosts      map[string]*host
	said       []string
	pack       func(text string) []byte // nil: hosts do not read what is packed
	soak       int64                    // seconds, of each plan; hosts are healthy for as long at once
	seed       string                   // of each plan
}

// host is one host: what it runs, and what a release does to it.
type host struct {
	name       string
	runs       string          // release
	ran        map[string]bool // releases
	off        bool
	asleep     time.Time                          // it looks at nothing before
	breaks     func(release string) record.Status // what becomes of a release; "" if it is applied
	ill, still bool                               // it is unhealthy with what it runs; it has died since it applied that
	says       string                             // its record, in short
	step       int64
	serial     int64
}

func newWorld(t *testing.T, hosts ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), hosts: map[string]*host{}}
	remote, err := store.Open(t.Context(), "file://"+filepath.Join(w.dir, "remotes", "dev.npcnix"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.remote = remote
	if err := os.MkdirAll(filepath.Join(w.dir, "remotes"), 0o755); err != nil {
		t.Fatal(err)
	}
	var public ssh.PublicKey
	w.key, public = newKey(t, w.dir, "release")
	w.signers = release.Signers{public}
	w.rolloutKey, _ = newKey(t, w.dir, "rollout")
	for _, name := range hosts {
		w.hosts[name] = &host{name: name, ran: map[string]bool{}}
	}
	return w
}

func newKey(t *testing.T, dir, name string) (file string, public ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return file, key.PublicKey()
}

// publisher opens the keys; with a rollout key alone it can take a rollout on, and nothing else.
func (w *world) publisher(plan *release.Plan, keys ...string) *publish.Publisher {
	w.t.Helper()
	p, err := publish.Open(w.t.Context(), publish.Options{
		Remote: w.remote.Name(), KeyNames: keys, Signers: w.signers, RolloutKeyNames: []string{w.rolloutKey}, Plan: plan,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Close() })
	return p
}

// publish publishes a release of that text, in waves if there are any, and returns its name.
func (w *world) publish(text string, waves ...string) string {
	w.t.Helper()
	var plan *release.Plan
	if len(waves) > 0 {
		plan = &release.Plan{Soak: w.soak, Seed: w.seed}
		for _, wave := range waves {
			plan.Waves = append(plan.Waves, strings.Split(wave, ","))
		}
	}
	p := w.publisher(plan, w.key)
	last, err := p.Last(w.t.Context(), w.remote)
	if err != nil {
		w.t.Fatal(err)
	}
	var serial int64
	if last.Release != nil {
		serial = last.Release.Serial
	}
	if plan != nil {
		if plan.Base, err = last.Base(false); err != nil {
			w.t.Fatal(err)
		}
	}
	file, err := os.CreateTemp(w.dir, "packed-*")
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	packed := []byte("a packed flake: " + text)
	if w.pack != nil {
		packed = w.pack(text)
	}
	if _, err := file.Write(packed); err != nil {
		w.t.Fatal(err)
	}
	m, err := p.Frame(w.t.Context(), file, serial)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.remote.PublishOver(w.t.Context(), file, info.Size(), last.Version); err != nil {
		w.t.Fatal(err)
	}
	return m.Release
}

// object is what the remote holds.
func (w *world) object() (store.Version, *release.Verified, *release.VerifiedProgress) {
	w.t.Helper()
	v, err := w.remote.Latest(w.t.Context(), store.Version{})
	if err != nil {
		w.t.Fatal(err)
	}
	f, _, err := publish.Read(w.t.Context(), w.remote, v)
	if err != nil || f == nil {
		w.t.Fatal(f, err)
	}
	policy := release.Policy{Remote: w.remote.Name(), Signers: w.signers, RolloutSigners: w.publisher(nil).RolloutSigners}
	verified, err := policy.Verify(f)
	if err != nil {
		w.t.Fatal(err)
	}
	policy.RolloutSigners = nil
	policy.Signers = nil // who signed the progress is tested with the hosts
	p, err := policy.VerifyProgress(f, verified)
	if err != nil {
		w.t.Fatal(err)
	}
	return v, verified, p
}

// look has each host that is on do what the remote asks of it.
func (w *world) look() {
	w.t.Helper()
	v, m, p := w.object()
	for _, h := range w.hosts {
		if h.off || time.Now().Before(h.asleep) || h.still && h.runs == m.Release {
			continue
		}
		target, held := m.Release, false
		if p != nil {
			if m.Serial == h.serial && p.Step < h.step {
				w.t.Fatalf("step %d after %d", p.Step, h.step)
			}
			h.step, h.serial = p.Step, m.Serial
			admitted := m.Rollout.Admits(p.Admitted, h.name, "c") && p.Admitting()
			switch {
			case p.State == release.Reverted:
				target = m.Rollout.Base.Release
			case !admitted && h.runs != m.Release:
				held = true
			}
		}
		h.take(w, v, m.Serial, target, held)
	}
}

func (h *host) take(w *world, v store.Version, serial int64, target string, held bool) {
	status := record.Applied
	switch {
	case held:
		status = record.Held
	case h.runs == target:
	case h.breaks != nil && h.breaks(target) != "":
		status = h.breaks(target)
	default:
		h.runs = target
		h.ran[target] = true
	}
	r := record.Record{
		Remote: w.remote.URL(), Configuration: "c", Status: status, Version: record.Version{ETag: v.ETag, Release: target, Serial: serial},
		Running: &record.Version{Release: h.runs}, HealthySecs: w.soak,
	}
	if h.ill && h.runs == target {
		r.Unhealthy, r.HealthySecs = "check web: it answers 500", 0
	}
	if says := fmt.Sprint(status, v.ETag, target, h.runs, h.ill); says != h.says {
		h.says = says
	} else {
		return
	}
	if err := record.Write(w.t.Context(), w.remote, h.name, r); err != nil {
		w.t.Fatal(err)
	}
}

// tick is how often the hosts and the command look.
const tick = time.Minute

// run takes the rollout on by a command of its own, with nothing but the rollout key, while the hosts look.
func (w *world) run(ctx context.Context, change ...func(*Options)) error {
	w.t.Helper()
	o := Options{
		Remote: w.remote, Publisher: w.publisher(nil), Interval: tick, WaveTimeout: time.Hour,
		Say: func(line string) { w.said = append(w.said, line) },
	}
	for _, c := range change {
		c(&o)
	}
	r, err := Open(ctx, o)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for {
		select {
		case err := <-done:
			w.look()
			return err
		case <-time.After(tick + time.Second):
			w.look()
		}
	}
}

func (w *world) running(name string) (hosts []string) {
	for _, h := range w.hosts {
		if h.runs == name {
			hosts = append(hosts, h.name)
		}
	}
	slices.Sort(hosts)
	return hosts
}

func (w *world) ever(name string) int {
	n := 0
	for _, h := range w.hosts {
		if h.ran[name] {
			n++
		}
	}
	return n
}

func names(n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("web%d", i))
	}
	return hosts
}

func breaks(status record.Status, name *string) func(string) record.Status {
	return func(release string) record.Status {
		if release == *name {
			return status
		}
		return ""
	}
}

// heardLongAgo has a host's record be three hours older than what is published. The store's clock is not the bubble's.
func (w *world) heardLongAgo(hosts ...string) {
	w.t.Helper()
	v, _, _ := w.object()
	long := v.Modified.Add(-3 * time.Hour)
	for _, name := range hosts {
		if err := os.Chtimes(w.recordOf(name), long, long); err != nil {
			w.t.Fatal(err)
		}
	}
}

// recordOf is the file of a host's record.
func (w *world) recordOf(name string) string { return w.remote.Key() + ".acks/" + name + ".json" }

// archiveOf is what the remote holds before the frame.
func (w *world) archiveOf() []byte {
	w.t.Helper()
	data, err := os.ReadFile(w.remote.Key())
	if err != nil {
		w.t.Fatal(err)
	}
	archive, _, _ := bytes.Cut(data, []byte{0x5B, 0x2A, 0x4D, 0x18})
	return archive
}
