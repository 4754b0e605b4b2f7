package agent

import (
	"context"
	"errors"
	"strings"
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

func TestResuming(t *testing.T) {
	t.Run("what became of an activation is found out after a crash", func(t *testing.T) {
		v2 := Target{Remote: testRemote, Configuration: "web1", ETag: "v2"}
		activating := Intent{Target: v2, Status: record.Activating, Attempt: 1, System: "/nix/store/sys-2", Activation: "id"}
		last := activating
		last.Attempt = 4
		on := func(phase activation.Phase, interrupted bool) *activation.Journal {
			cause := activation.CauseVersion
			if interrupted {
				cause = activation.CauseInterrupted
			}
			return &activation.Journal{ID: "id", System: "/nix/store/sys-2", Previous: "/nix/store/old", Phase: phase, Cause: cause, Reason: "why"}
		}
		for _, c := range []struct {
			name    string
			intent  Intent
			left    *activation.Journal
			running string
			trace   []string
			state   record.Status // of the last record
		}{
			{"killed while building, it builds again, and that is no failure", Intent{Target: v2, Status: record.Building, Attempt: 1}, nil, "/nix/store/old",
				[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
			{"killed before the activation was requested, it begins again", activating, nil, "/nix/store/old",
				[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
			{"what is on disk is an older activation", activating, &activation.Journal{ID: "other", Phase: activation.RolledBack}, "/nix/store/old",
				[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
			{"killed before the commit was remembered, nothing is activated again", activating, on(activation.Committed, false), "/nix/store/sys-2",
				nil, record.Applied},
			{"killed before the verification, the next agent verifies it", activating, on(activation.Verifying, false), "/nix/store/sys-2",
				nil, record.Applied},
			{"the rollback timer has rolled it back, it is rejected", activating, on(activation.RolledBack, false), "/nix/store/old",
				nil, record.RolledBack},
			{"it was interrupted, it is attempted again", activating, on(activation.RolledBack, true), "/nix/store/old",
				[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
			{"interrupted at the last attempt, it is to be attempted again all the same", last, on(activation.RolledBack, true), "/nix/store/old",
				nil, record.Failed},
			{"it becomes active with the next boot, it waits for that", activating, on(activation.RebootPending, false), "/nix/store/old",
				nil, record.RebootPending},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t)
				r.store.etag, r.host.system, r.host.running, r.host.left = "v2", "/nix/store/sys-2", c.running, c.left
				if err := saveState(r.dir, State{Intent: &c.intent}); err != nil {
					t.Fatal(err)
				}
				r.start()
				time.Sleep(time.Minute)
				r.end()
				equal(t, "trace", r.of("fetch", "build", "activate"), c.trace)
				equal(t, "drift", r.of("record drifted"), nil)
				rec := r.store.lastRecord()
				if rec.Status != c.state || rec.Version.ETag != "v2" || rec.RebootDue != (c.state == record.RebootPending) {
					t.Errorf("record: %+v", rec)
				}
				s := r.state()
				if applied := s.Applied != nil && s.Applied.ETag == "v2"; applied != (c.state == record.Applied) {
					t.Errorf("applied: %+v", s.Applied)
				}
				if rejected := s.Failure != nil && s.Failure.Rejected; rejected != (c.state == record.RolledBack || c.state == record.Rejected) {
					t.Errorf("failure: %+v", s.Failure)
				}
			})
		}
	})

	inBubble(t, "an activation that a later agent completes has the soak of its rollout", func(t *testing.T) {
		r := newRig(t)
		r.left(record.Activating, activation.Journal{Phase: activation.Verifying})
		s := r.state()
		s.Intent.SoakSecs = 600
		if err := saveState(r.dir, s); err != nil {
			t.Fatal(err)
		}
		r.store.etag, r.host.running = "v2", "/nix/store/sys-2"
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if a := r.state().Applied; a.ETag != "v2" || a.SoakSecs != 600 {
			t.Errorf("applied: %+v", a)
		}
	})

	inBubble(t, "what was abandoned for a newer version is no failure", func(t *testing.T) {
		r := newRig(t)
		r.left(record.RebootPending, activation.Journal{Phase: activation.RolledBack, Cause: activation.CauseSuperseded})
		r.store.etag, r.host.system = "v3", "/nix/store/sys-3"
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if n := r.logs.count("was rolled back"); n != 0 || r.state().Failure != nil {
			t.Errorf("logged %d times, failure: %+v", n, r.state().Failure)
		}
	})

	inBubble(t, "a version that runs all the same has not failed", func(t *testing.T) {
		r := newRig(t)
		r.left(record.Activating, activation.Journal{Phase: activation.Committed})
		s := r.state()
		s.Intent, s.Failure = nil, &Failure{Target: s.Applied.Target, Attempts: 4, Rejected: true, Error: "drift could not be corrected", At: time.Now()}
		if err := saveState(r.dir, s); err != nil {
			t.Fatal(err)
		}
		r.host.left = nil
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if f := r.state().Failure; f != nil {
			t.Errorf("failure: %+v", f)
		}
	})

	t.Run("what an operator must look at is not attempted again", func(t *testing.T) {
		for name, act := range map[string]activation.Journal{
			"interrupted, and an operator has switched": {Phase: activation.RolledBack, OperatorSystem: "/nix/store/fix"},
			"interrupted, and not rolled back":          {Phase: activation.RollbackFailed, RollbackError: "the boot loader is full"},
		} {
			inBubble(t, name, func(t *testing.T) {
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
		}
	})

	inBubble(t, "a system whose intent is lost must reach the store too", func(t *testing.T) {
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

func TestRebootPending(t *testing.T) {
	// A pending system would boot whatever became of the newer version, with no activation left to verify it.
	inBubble(t, "a newer version abandons it before it is attempted", func(t *testing.T) {
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

	t.Run("the machine is not rebooted if an operator has switched meanwhile", func(t *testing.T) {
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
	})
}

func TestNeedsRepair(t *testing.T) {
	// The applied version runs and is in the profile again, but the boot loader may have the other.
	inBubble(t, "after a failed rollback the applied version is activated again", func(t *testing.T) {
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

	// An activation that was rolled back before it installed a boot entry has repaired nothing.
	inBubble(t, "a failed rollback is remembered until something is activated", func(t *testing.T) {
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

	t.Run("a rollback that failed is tried again, and then its version is judged by the cause", func(t *testing.T) {
		for cause, status := range map[activation.Cause]record.Status{
			activation.CauseVersion: record.RolledBack, activation.CauseMachine: record.Applied,
		} {
			inBubble(t, string(cause), func(t *testing.T) {
				r := newRig(t)
				r.left(record.Activating, activation.Journal{Phase: activation.RollbackFailed, Cause: cause, RollbackError: "no reply", RollbackRetryAt: time.Now().Add(time.Minute)})
				r.store.etag, r.host.system = "v2", "/nix/store/sys-2"
				r.start()
				time.Sleep(30 * time.Second)
				if rec := r.store.lastRecord(); rec.Status != record.Rejected || rec.Warning == "" || !strings.Contains(rec.Error, "no reply; it is tried again") {
					t.Errorf("record before: %+v", rec)
				}
				time.Sleep(time.Hour)
				r.end()
				equal(t, "rollbacks", r.of("retry"), []string{"retry the rollback"})
				if rec := r.store.lastRecord(); rec.Status != status || rec.Warning != "" {
					t.Errorf("record: %+v", rec)
				}
			})
		}
	})
}
