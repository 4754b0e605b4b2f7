package integration

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/integration/moto"
)

// TestRolloutOnAMachine has a canary with real systemd, which follows a bucket of moto's, take releases by waves: one
// that fails its verification stops there, one that is healthy for the soak completes, and a rollback brings back
// what ran before. One that turns unhealthy or dies in the soak does not pass, and no other host sees its release.
func TestRolloutOnAMachine(t *testing.T) {
	t.Parallel()
	f := newCanary(t)
	f.npcnix(0, "push", "--src", f.flake(nspawn.System{Version: "zero"}), "--rev", "zero", "--sign-key", f.key)
	f.runs("zero")

	broken := nspawn.System{Version: "broken", Units: map[string]string{"web.service": daemonUnit("/bin/false")}}
	out := f.npcnix(3, f.waves(broken)...)
	if !strings.Contains(out, "rolled back") || !strings.Contains(out, "the rollout is halted") {
		t.Errorf("of a canary that fails: %s", out)
	}
	if r := f.record(); r.Status != record.RolledBack || f.m.Version() != "zero" {
		t.Errorf("%s runs, and the record is %+v", f.m.Version(), r)
	}

	f.npcnix(0, f.waves(nspawn.System{Version: "good"})...)
	f.runs("good")
	if r := f.record(); r.HealthySecs < 1 {
		t.Errorf("the canary was not healthy for the soak: %+v", r)
	}

	out = f.npcnix(0, "rollback", "--sign-key", f.key, "--yes")
	if !strings.Contains(out, "web1 runs good, and will run zero") {
		t.Errorf("before a rollback: %s", out)
	}
	f.runs("zero")
	f.soaks()
}

// soaks has the canary turn unhealthy after it has confirmed a release, and die after it has confirmed another one.
func (f *canary) soaks() {
	f.t.Helper()
	checks := []config.Check{{Name: "web", Command: []string{"/bin/sh", "-c", "! [ -e /run/ill ]"}}}
	f.set(map[string]any{"checks": checks})
	rollout := f.begin(append(f.waves(nspawn.System{Version: "ill"}), "--soak", "1h", "--wave-timeout", "2h")...)
	f.runs("ill")
	second := f.second()
	second.isHeld()
	f.m.Write("/run/ill", "")
	out := rollout.ends(3)
	if !strings.Contains(out, "web1 (unhealthy: ") || !strings.Contains(out, "the rollout is halted") {
		f.t.Errorf("of a canary that turns unhealthy: %s", out)
	}
	second.isHeld()
	if f.m.Version() != "ill" {
		f.t.Errorf("of a halted rollout the canary runs %s", f.m.Version())
	}
	f.m.Must("rm", "/run/ill")
	builds := func() int {
		return strings.Count(f.m.Must("journalctl", "--no-pager", "--unit=npcnix.service"), `msg="nix build"`)
	}
	before := builds()
	f.npcnix(0, "rollout", "revert", "--rollout-key", f.key)
	f.m.Await("the base to run", func() bool { return f.m.Version() == "zero" && f.record().Status == record.Applied })
	if after := builds(); before == 0 || after != before {
		f.t.Errorf("the journal has %d lines of builds after the revert, and had %d", after, before)
	}

	f.set(map[string]any{"checks": checks, "health_interval_secs": 3600}) // it dies before the first look
	rollout = f.begin(append(f.waves(nspawn.System{Version: "mortal"}), "--soak", "3s", "--wave-timeout", "10m")...)
	f.runs("mortal")
	f.m.Kill()
	f.must(rollout.cmd.Process.Signal(os.Interrupt))
	rollout.ends(1)
	out = f.npcnix(4, "rollout", "resume", "--rollout-key", f.key, "--wave-interval", "200ms", "--wave-timeout", "3001ms")
	if !strings.Contains(out, "1 hosts have not passed: web1 (it soaks)") {
		f.t.Errorf("of a canary that has died: %s", out)
	}
	second.isHeld()
}

// heldHost is a host beside the machine, whose wave is never admitted.
type heldHost struct {
	*host
	downloads, looks atomic.Int64 // of the object: the whole, or its end
}

// second starts it.
func (f *canary) second() *heldHost {
	f.t.Helper()
	behind, err := url.Parse(f.endpoint)
	f.must(err)
	h := &heldHost{host: newHost(f.world, "web2")}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, key) {
			if r.Header.Get("Range") == "" {
				h.downloads.Add(1)
			} else {
				h.looks.Add(1)
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	f.t.Cleanup(server.Close)
	h.configure(map[string]any{
		"remote": remote + "?region=us-east-1&endpoint=" + server.URL, "configuration": "web2", "signers": f.settings["signers"],
		"min_sleep_secs": 1, "max_sleep_secs": 1,
	})
	h.start()
	return h
}

// isHeld tells whether it has seen what the remote holds, and has neither downloaded nor built it.
func (h *heldHost) isHeld() {
	h.t.Helper()
	h.await("it to be held", func() bool {
		r := h.record()
		return r.Status == record.Held && r.Version.ETag == h.etag()
	})
	if h.looks.Load() == 0 || h.downloads.Load() != 0 {
		h.t.Errorf("web2 has looked %d times, and downloaded %d times", h.looks.Load(), h.downloads.Load())
	}
	if built := h.log.count("nix build") + h.log.count("msg=applying"); built != 0 || h.switches() != 0 {
		h.t.Error("web2 has built or switched")
	}
}

// canary is a machine whose agent polls a bucket of moto's that keeps versions, and takes what one key signs.
type canary struct {
	*guarded
	endpoint, key string
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	endpoint := moto.Start(t)
	f := &canary{endpoint: endpoint, key: filepath.Join(t.TempDir(), "key"), guarded: &guarded{
		world: newWorld(t, endpoint), name: "web1",
		units: map[string]string{
			"npcnix.service":       agentUnit(agentBinary + " follow --log-level debug"),
			"npcnix-rearm.service": rearmUnit,
			"web.service":          daemonUnit("/bin/sleep infinity"),
		},
	}}
	f.must(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f.key).Run())
	public, err := os.ReadFile(f.key + ".pub")
	f.must(err)
	_, err = f.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(bucket), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	f.must(err)
	f.m = nspawn.Boot(t, nspawn.Options{
		Binds: map[string]string{agentBinary: npcnix},
		Env:   map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"},
	})
	f.settings = map[string]any{
		"configuration": "web1", "host": "web1", "remote": remote + "?region=us-east-1&endpoint=" + f.m.Proxy(endpoint),
		"signers": []string{strings.TrimSpace(string(public))}, "min_sleep_secs": 1, "max_sleep_secs": 1,
		"verify_timeout_secs": 60, "settle_secs": 0, "health_interval_secs": 1,
	}
	f.set(nil)
	f.m.Install(f.system(nspawn.System{Version: "installed"}))
	return f
}

// flake writes the flake of a system. It is so large that a look at the object's end does not have it.
func (f *canary) flake(s nspawn.System) string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "flake")
	f.must(nspawn.Flake(dir, "rollout", map[string]nspawn.System{f.name: f.system(s)}))
	noise := make([]byte, 100<<10)
	_, _ = rand.Read(noise)
	f.must(os.WriteFile(filepath.Join(dir, "noise"), noise, 0o600))
	return dir
}

func (f *canary) waves(s nspawn.System) []string {
	return []string{
		"rollout", "--src", f.flake(s), "--rev", s.Version, "--sign-key", f.key, "--wave", "web1", "--wave", "100%",
		"--soak", "1s", "--wave-interval", "200ms", "--wave-timeout", "5m",
	}
}

// npcnix runs a command for the remote, which is to end with this code, and returns all that it printed.
func (f *canary) npcnix(code int, args ...string) string {
	f.t.Helper()
	return f.begin(args...).ends(code)
}

// running is a command that runs.
type running struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  lockedBuffer
	done sync.Once
}

// begin begins a command for the remote.
func (f *canary) begin(args ...string) *running {
	f.t.Helper()
	r := &running{t: f.t, cmd: exec.Command(npcnix, append(args, "--remote", remote+"?region=us-east-1&endpoint="+f.endpoint)...)}
	r.cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	f.must(r.cmd.Start())
	f.t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // unless it has ended
		r.wait()
	})
	return r
}

func (r *running) wait() { r.done.Do(func() { _ = r.cmd.Wait() }) }

// ends waits for the command, which is to end with this code, and returns all that it printed.
func (r *running) ends(code int) string {
	r.t.Helper()
	r.wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		r.t.Fatalf("%q ended with %d, want %d:\n%s", r.cmd.Args, got, code, r.out.String())
	}
	return r.out.String()
}

// runs waits until the machine has applied a version.
func (f *canary) runs(version string) {
	f.t.Helper()
	f.m.Await(version+" to be applied", func() bool {
		r := f.record()
		return r.Status == record.Applied && r.Version.Rev == version && f.m.Version() == version
	})
}
