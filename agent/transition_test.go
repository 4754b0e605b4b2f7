package agent

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

var (
	v1, v2 = Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Target{Remote: testRemote, Configuration: "web1", ETag: "v2"}
	// midway is a host that runs v1 and activates v2.
	midway = State{
		Applied: &Applied{Target: v1, System: "/one", Previous: "/zero"},
		Intent:  &Intent{Target: v2, Status: record.Activating, Attempt: 1, System: "/two", Activation: "id"},
	}
)

func TestTransitions(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	short := config.Config{RetryDelaysSecs: []int64{60}}
	first, last := attempt{target: v2, number: 1}, attempt{target: v2, number: 2}
	repair := midway
	repair.NeedsRepair = true
	rolledBack := func(cause activation.Cause, installed bool) *activation.Error {
		return &activation.Error{Journal: activation.Journal{ID: "id", Phase: activation.RolledBack, Cause: cause, Installed: installed}}
	}
	rollbackFailed := &activation.Error{Journal: activation.Journal{ID: "id", Phase: activation.RollbackFailed, Cause: activation.CauseInterrupted}}

	for _, c := range []struct {
		name   string
		from   State
		to     func(State) State
		status record.Status // of the failure; "" for none
		intent record.Status // "" for none
		repair bool
		next   [2]time.Duration // that the next attempt is due after, at least and at most
	}{
		{"reaching a target ends the attempt, and repairs the host", repair,
			func(s State) State { return s.reach(Applied{Target: v2, System: "/two"}) }, "", "", false, [2]time.Duration{}},
		{"an attempt that fails is repeated after the delay", midway,
			func(s State) State { return s.fail(first, errBuild, short, now) }, record.Failed, "", false, [2]time.Duration{54 * time.Second, 66 * time.Second}},
		{"the last attempt that fails rejects the version", midway,
			func(s State) State { return s.fail(last, errBuild, short, now) }, record.Rejected, "", false, [2]time.Duration{}},
		{"an unsafe archive is rejected at the first attempt", midway,
			func(s State) State { return s.fail(first, store.ErrUnsafe, short, now) }, record.Rejected, "", false, [2]time.Duration{0, time.Hour}},
		{"a rollback rejects the version", midway,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseVersion, true), nix.System{Path: "/one"}, short, now)
			},
			record.RolledBack, "", false, [2]time.Duration{0, time.Hour}},
		{"a rollback that the version was not to blame for is repeated at once", midway,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseInterrupted, false), nix.System{Path: "/one"}, short, now)
			},
			record.Failed, "", false, [2]time.Duration{}},
		{"and never rejects it, but waits after the last delay", midway,
			func(s State) State {
				return s.rollBack(last, rolledBack(activation.CauseInterrupted, false), nix.System{Path: "/one"}, short, now)
			},
			record.Failed, "", false, [2]time.Duration{54 * time.Second, 66 * time.Second}},
		{"nor is a delay of 0 one without a pause, if the machine is to blame", midway,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseMachine, false), nix.System{Path: "/one"}, config.Config{RetryDelaysSecs: []int64{0}}, now)
			},
			record.Failed, "", false, [2]time.Duration{9 * time.Second, 11 * time.Second}},
		{"a rollback that is complete at last says what became of its version", midway.rollBack(first, rollbackFailed, nix.System{Path: "/two"}, short, now),
			func(s State) State {
				return s.repaired(rolledBack(activation.CauseVersion, true), nix.System{Path: "/one"}, short, now)
			},
			record.RolledBack, "", false, [2]time.Duration{0, time.Hour}},
		{"and says nothing of a version that has failed since", midway.rollBack(first, rollbackFailed, nix.System{Path: "/two"}, short, now).fail(attempt{target: v1, number: 1}, store.ErrUnsafe, short, now),
			func(s State) State {
				return s.repaired(rolledBack(activation.CauseVersion, true), nix.System{Path: "/one"}, short, now)
			},
			record.Rejected, "", false, [2]time.Duration{0, time.Hour}},
		{"a failed rollback rejects the version, whatever the cause, and needs repair", midway,
			func(s State) State { return s.rollBack(first, rollbackFailed, nix.System{Path: "/two"}, short, now) },
			record.Rejected, "", true, [2]time.Duration{0, time.Hour}},
		{"a rollback that installed the boot entry again repairs the host", repair,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseVersion, true), nix.System{Path: "/one"}, short, now)
			},
			record.RolledBack, "", false, [2]time.Duration{0, time.Hour}},
		{"one that did not repairs nothing", repair,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseVersion, false), nix.System{Path: "/one"}, short, now)
			},
			record.RolledBack, "", true, [2]time.Duration{0, time.Hour}},
		{"nor one after which another system runs", repair,
			func(s State) State {
				return s.rollBack(first, rolledBack(activation.CauseVersion, true), nix.System{Path: "/other"}, short, now)
			},
			record.RolledBack, "", true, [2]time.Duration{0, time.Hour}},
		{"an interrupt keeps the intent of an activation", midway,
			State.interrupt, "", record.Activating, false, [2]time.Duration{}},
		{"and forgets that of a build", midway.intend(Intent{Target: v2, Status: record.Building}),
			State.interrupt, "", "", false, [2]time.Duration{}},
		{"what waits for a reboot is no failure", midway.fail(first, errBuild, short, now).intend(*midway.Intent),
			State.waitForReboot, "", record.RebootPending, false, [2]time.Duration{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := deep(c.from)
			got := c.to(c.from)
			if !reflect.DeepEqual(c.from, before) {
				t.Errorf("the state it came from has changed: %+v", c.from)
			}

			status, next := record.Status(""), time.Duration(0)
			if f := got.Failure; f != nil {
				status, next = f.Status(), f.Next().Sub(now)
			}
			intent := record.Status("")
			if got.Intent != nil {
				intent = got.Intent.Status
			}
			if status != c.status || intent != c.intent || got.NeedsRepair != c.repair {
				t.Errorf("failure %q, intent %q, needs repair %v", status, intent, got.NeedsRepair)
			}
			if next < c.next[0] || next > c.next[1] {
				t.Errorf("the next attempt is due after %s, want %s to %s", next, c.next[0], c.next[1])
			}
		})
	}
}

// deep copies what a transition could change in place.
func deep(s State) State {
	if s.Applied != nil {
		a := *s.Applied
		s.Applied = &a
	}
	if s.Intent != nil {
		in := *s.Intent
		s.Intent = &in
	}
	if s.Failure != nil {
		f := *s.Failure
		s.Failure = &f
	}
	return s
}

func TestTransitionsDoNotChangeWhatTheyCameFrom(t *testing.T) {
	c := config.Config{Hooks: config.Hooks{PostActivate: []string{"/bin/true"}}}
	for name, to := range map[string]func(State) State{
		"built":         func(s State) State { return s.built(nix.System{Path: "/x"}, record.Times{}, true) },
		"activate":      State.activate,
		"waitForReboot": State.waitForReboot,
		"forget":        State.forget,
		"reach":         func(s State) State { return s.reach(Applied{Target: v2, System: "/two"}) },
		"fail":          func(s State) State { return s.fail(attempt{target: v2, number: 1}, errBuild, c, time.Now()) },
		"hookDue":       func(s State) State { return s.hookDue(hook.New(hook.PostActivate, hook.Subject{}), c) },
		"hookDone":      State.hookDone,
		"requestReboot": func(s State) State { return s.requestReboot("/one", "boot") },
		"intend":        func(s State) State { return s.intend(Intent{Target: v1}) },
	} {
		t.Run(name, func(t *testing.T) {
			before := deep(midway)
			_ = to(midway)
			if !reflect.DeepEqual(midway, before) {
				t.Errorf("the state it came from has changed: %+v", midway)
			}
		})
	}
}

func TestAttempts(t *testing.T) {
	failed := Failure{Target: v2, Attempts: 2, RetryToken: "a"}
	rejected := failed
	rejected.Rejected = true
	for _, c := range []struct {
		name    string
		failure *Failure
		target  Target
		token   string
		want    int
	}{
		{"the first", nil, v2, "a", 1},
		{"one after others", &failed, v2, "a", 3},
		{"the first after a retry", &failed, v2, "b", 1},
		{"the first at another version", &failed, v1, "a", 1},
		{"one that is forced after a rejection", &rejected, v2, "a", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (State{Failure: c.failure}).attempt(c.target, c.token); got != c.want {
				t.Errorf("it is attempt %d, want %d", got, c.want)
			}
		})
	}
}

func TestReachRemembersWhatRanBefore(t *testing.T) {
	for _, c := range []struct{ name, previous, want string }{
		{"what ran", "/other", "/other"},
		{"the applied system, if it cannot be told what ran", "", "/one"},
		{"the applied system, if the new one ran already", "/two", "/one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := midway.reach(Applied{Target: v2, System: "/two", Previous: c.previous}).Applied.Previous
			if got != c.want {
				t.Errorf("previous is %s, want %s", got, c.want)
			}
		})
	}
}

func TestTailsOfErrors(t *testing.T) {
	tail := []string{"one", "two"}
	for _, err := range []error{&nix.BuildError{Tail: tail, Err: errBuild}, &hook.Veto{Err: errors.New("no"), Tail: tail}} {
		if got := tailOf(err); !reflect.DeepEqual(got, tail) {
			t.Errorf("%T: %q", err, got)
		}
	}
	if got := tailOf(errBuild); got != nil {
		t.Errorf("a plain error: %q", got)
	}
}

func TestRepublishedReleases(t *testing.T) {
	was := State{Applied: &Applied{Target: Target{
		Remote: testRemote, Configuration: "web1", ETag: "v1", Release: "r", Rev: "abc", Message: "first", Serial: 1,
	}}}
	next := was.Applied.Target
	next.ETag, next.VersionID, next.Rev, next.Message, next.Serial = "v2", "2", "def", "second", 2
	if got := was.republish(next, 60).Applied; got.Target != next || got.SoakSecs != 60 {
		t.Errorf("%+v", got)
	}
	asBase := next
	asBase.Rev, asBase.Message = "", "the base of another"
	if got := was.republish(asBase, 0).Applied; got.Serial != 2 || got.Rev != "abc" || got.Message != "first" {
		t.Errorf("as the base of a rollout: %+v", got)
	}
}
