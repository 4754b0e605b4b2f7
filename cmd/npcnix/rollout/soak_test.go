package rollout

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store/release"
)

// soaking is a fleet whose canary, web1, runs "two" and is to be healthy for an hour. Ended has what the command ends
// with. The canary's check fails as soon as the file broken is there.
func soaking(t *testing.T, change ...func(*Options)) (a *agents, broken string, ended chan error) {
	t.Helper()
	a, ended = newAgents(t), make(chan error, 1)
	broken = filepath.Join(t.TempDir(), "broken")
	a.join("web1", func(c *config.Config) {
		often := int64(1)
		c.HealthIntervalSecs = &often
		c.Checks = []config.Check{{Name: "web", Command: []string{"test", "!", "-e", broken}}}
	})
	a.begun("web1", "web2")
	a.soak = 3600
	a.publish("two", "web1", "100%")
	command, err := a.command(change...)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- command.Run(t.Context()) }()
	a.poke()
	a.until("the canary has applied it", func() bool {
		r := a.says("web1")
		return r.Status == record.Applied && r.Running != nil && r.Running.Release == command.Manifest().Release
	})
	return a, broken, ended
}

// frame is what the remote holds, verified as a host does: the release by the release key, its progress by the rollout
// key.
func (a *agents) frame() (*release.Frame, *release.VerifiedProgress) {
	a.t.Helper()
	v, verified, _ := a.object()
	f, _, err := publish.Read(a.t.Context(), a.remote, v)
	if err != nil {
		a.t.Fatal(err)
	}
	p, err := release.Policy{RolloutSigners: release.Signers{a.rolloutSigner()}}.VerifyProgress(f, verified)
	if err != nil {
		a.t.Fatal(err)
	}
	return f, p
}

// back tells whether the canary runs the base, which it has not evaluated again, and the other host has never seen the
// release. The release key has signed nothing since before, and the rollout key alone has signed that it is reverted.
func (a *agents) back(before *release.Frame) {
	a.t.Helper()
	a.poke()
	a.until("the canary runs the base", func() bool { return a.running("one") == 2 })
	a.evaluated("web1", "one", "two")
	a.evaluated("web2", "one")
	f, p := a.frame()
	if p.State != release.Reverted || p.Admitted != 1 {
		a.t.Errorf("it is %s, and %d waves are admitted", p.State, p.Admitted)
	}
	if !bytes.Equal(f.Manifest, before.Manifest) || !slices.Equal(f.Signatures, before.Signatures) {
		a.t.Error("the release was signed again")
	}
	if rollout := ssh.FingerprintSHA256(a.rolloutSigner()); len(f.ProgressSignatures) != 1 || !slices.Equal(p.Keys, []string{rollout}) {
		a.t.Errorf("%d signatures of %q, want one of %s", len(f.ProgressSignatures), p.Keys, rollout)
	}
}

// A canary passes its verification, and its check fails in the soak.
func TestCanariesTurnUnhealthyInTheSoak(t *testing.T) {
	turnsUnhealthy := func(t *testing.T, a *agents, broken string, ended chan error) {
		t.Helper()
		if err := os.WriteFile(broken, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), "web1 (unhealthy: ") {
			t.Errorf("%v", err)
		}
	}

	t.Run("the rollout is halted, and rollout revert has the canary go back", func(t *testing.T) {
		a, broken, ended := soaking(t)
		before, _ := a.frame()
		turnsUnhealthy(t, a, broken, ended)
		a.stopped(1)
		a.poke()
		halted, _, _ := a.object()
		a.until("the other host is held", func() bool { return a.says("web2").Version.ETag == halted.ETag })
		if a.running("two") != 1 || a.running("one") != 1 {
			t.Error("the canary has not kept the release that is halted")
		}
		command, err := a.command()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Step(t.Context(), 1, release.Reverted); err != nil {
			t.Fatal(err)
		}
		a.back(before)
	})

	t.Run("with --on-failure revert it goes back at once", func(t *testing.T) {
		a, broken, ended := soaking(t, func(o *Options) { o.Revert = true })
		before, _ := a.frame()
		turnsUnhealthy(t, a, broken, ended)
		a.back(before)
	})
}
