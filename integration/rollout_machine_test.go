package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/integration/moto"
)

// TestRolloutOnAMachine has a canary with real systemd, which follows a bucket of moto's, take releases by waves: one
// that fails its verification stops there, one that is healthy for the soak completes, and a rollback brings back
// what ran before.
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

// flake writes the flake of a system.
func (f *canary) flake(s nspawn.System) string {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "flake")
	f.must(nspawn.Flake(dir, "rollout", map[string]nspawn.System{f.name: f.system(s)}))
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
	cmd := exec.Command(npcnix, append(args, "--remote", remote+"?region=us-east-1&endpoint="+f.endpoint)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		f.t.Fatalf("npcnix %s ended with %d, want %d:\n%s", args[0], got, code, out)
	}
	return string(out)
}

// runs waits until the machine has applied a version.
func (f *canary) runs(version string) {
	f.t.Helper()
	f.m.Await(version+" to be applied", func() bool {
		r := f.record()
		return r.Status == record.Applied && r.Version.Rev == version && f.m.Version() == version
	})
}
