package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix/activation"
)

// left has the host run and have applied v1, with an activation of v2 that another agent has left.
func (r *rig) left(status record.Status, act activation.Journal) {
	r.t.Helper()
	target := func(etag string) Target {
		return Target{Remote: testRemote, Configuration: "web1", ETag: etag}
	}
	err := saveState(r.dir, State{
		Applied: &Applied{Target: target("v1"), System: "/nix/store/sys-1", At: time.Now()},
		Intent:  &Intent{Target: target("v2"), Status: status, Attempt: 1, System: "/nix/store/sys-2", Activation: "two"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	act.ID, act.System, act.Previous = "two", "/nix/store/sys-2", "/nix/store/sys-1"
	r.host.running, r.host.left = "/nix/store/sys-1", &act
}

// A system that is pending a reboot would be booted whatever became of the newer version, and nobody would
// verify it.
func TestASystemThatIsPendingARebootIsAbandonedBeforeANewerVersionIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{1} })
		r.left(record.RebootPending, activation.Journal{Phase: activation.RebootPending})
		r.host.build = func(context.Context) error { return errBuild }
		r.store.etag = "v3"
		r.start()
		time.Sleep(time.Minute)
		r.end()
		steps := r.of("abandon", "fetch", "activate")
		equal(t, "steps", steps[:min(2, len(steps))], []string{"abandon /nix/store/sys-2", "fetch v3"})
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || rec.Version.ETag != "v3" || rec.RebootDue {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestASystemWhoseRequestIsForgottenMustReachTheStoreToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Reach = func(context.Context, config.Config, bool) error { r.add("reach"); return errors.New("cut off") }
		r.host.running = "/nix/store/sys-2"
		r.host.left = &activation.Journal{ID: "two", System: "/nix/store/sys-2", Previous: "/nix/store/sys-1", Phase: activation.Verifying}
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if len(r.of("reach")) == 0 {
			t.Error("the store was not asked for")
		}
		if r.host.left.System == "/nix/store/sys-2" && r.host.left.Phase != activation.RolledBack {
			t.Errorf("the system that is cut off is %s", r.host.left.Phase)
		}
	})
}

func TestWhatIsNotToBeTriedAgainByItself(t *testing.T) {
	for name, act := range map[string]activation.Journal{
		"interrupted, and an operator has switched": {Phase: activation.RolledBack, OperatorSystem: "/nix/store/fix"},
		"interrupted, and not rolled back":          {Phase: activation.RollbackFailed, RollbackError: "the boot loader is full"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				act.Cause, act.Reason = activation.CauseInterrupted, "the machine was restarted"
				if act.OperatorSystem != "" {
					act.Cause = activation.CauseOperator
				}
				r.left(record.Activating, act)
				if act.OperatorSystem != "" {
					r.host.running = act.OperatorSystem
				}
				r.store.etag = "v2"
				r.start()
				time.Sleep(time.Hour)
				r.end()
				equal(t, "activations", r.of("activate"), nil)
				if f := r.state().Failure; f == nil || !f.Rejected {
					t.Errorf("failure: %+v", f)
				}
				if rec := r.store.lastRecord(); (rec.Warning != "") != (act.Phase == activation.RollbackFailed) {
					t.Errorf("record: %+v", rec)
				}
			})
		})
	}
}

// The applied version runs and is in the profile again, but the boot loader may have the other.
func TestAfterARollbackThatFailedTheAppliedVersionIsActivatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.left(record.RebootPending, activation.Journal{Phase: activation.RollbackFailed, Cause: activation.CauseInterrupted, Installed: true, BootOnly: true, RollbackError: "the boot loader is full"})
		r.start()
		time.Sleep(time.Minute)
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Warning != "" {
			t.Errorf("record: %+v", rec)
		}
	})
}

// What was rolled back since, and did not get as far as setting the boot default, has repaired nothing.
func TestARollbackThatFailedIsRememberedUntilSomethingIsActivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.left(record.RebootPending, activation.Journal{Phase: activation.RollbackFailed, Cause: activation.CauseInterrupted, Installed: true, BootOnly: true, RollbackError: "the boot loader is full"})
		r.store.etag, r.host.system = "v3", "/nix/store/sys-3"
		r.host.activate = func() error {
			return &activation.Error{Journal: activation.Journal{Phase: activation.RolledBack, Reason: "a check"}}
		}
		r.start()
		time.Sleep(time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.RolledBack || rec.Warning == "" {
			t.Errorf("record: %+v", rec)
		}
		r.store.set(func(s *fakeStore) { s.etag = "v1" })
		r.host.set(func(h *fakeHost) { h.system, h.activate = "/nix/store/sys-1", nil })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-3", "activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Warning != "" {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestAHostThatAnOperatorSwitchesWhileARebootIsPendingIsNotRebooted(t *testing.T) {
	for _, c := range []struct {
		before, after string // the agent began
		restarts      int
	}{
		{"/nix/store/fix", "/nix/store/fix", 0},
		{"/nix/store/sys-1", "/nix/store/fix", 0},
		{"/nix/store/sys-1", "/nix/store/sys-1", 1},
		{"/nix/store/sys-2", "/nix/store/sys-2", 1}, // it was chosen in the boot menu, say
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) { c.Reboot = config.RebootWhenNeeded })
			m := &fakeMachine{trace: r.trace}
			r.opts.Machine, r.opts.BootID = m, m.bootID
			r.left(record.RebootPending, activation.Journal{Phase: activation.RebootPending})
			r.store.etag, r.host.running = "v2", c.before
			r.start()
			synctest.Wait()
			r.host.set(func(h *fakeHost) { h.running = c.after })
			time.Sleep(5 * time.Hour)
			r.end()
			if got := len(r.of("reboot")); min(got, 1) != c.restarts {
				t.Errorf("%+v: %d restarts", c, got)
			}
		})
	}
}
