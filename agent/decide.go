package agent

import (
	"fmt"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
)

// Decision is what to do about a target: to apply it, or to leave the host alone.
type Decision struct {
	Apply  bool
	Status record.Status // of the target, unless it is to be applied
	Next   time.Time     // of the next attempt, with status failed
	Why    string        // in words for a log
}

// Known is what an agent knows when it decides.
type Known struct {
	State
	Paused       *config.Pause
	RetryToken   string     // the operator's last retry
	Running      nix.System // zero if it cannot be told
	CorrectDrift bool
	Held         string // why the target's rollout does not admit this host; "" if it does, or is not known to
	Force        bool   // apply what is unchanged, waits for its next attempt, or is rejected
}

// Decide says what to do about the target want. It is pure: everything it knows is in its arguments.
func Decide(have Known, want Target, now time.Time) Decision {
	failure := have.failure(want)
	switch {
	case have.Paused.Active(now):
		return leave(record.Paused, have.Paused.String())
	case have.Held != "" && failure != nil && failure.Rejected:
		return again(failure, now) // whoever judges the rollout must see it
	case have.Held != "" && !have.takes(want):
		return leave(record.Held, have.Held)
	case have.Force:
		return apply("asked to apply it in any case")
	case have.rebootPending() && (have.Intent.Same(want) || have.Intent.samePublish(want)):
		return leave(record.RebootPending, "it becomes active with the next boot: a reboot is due")
	}

	if a := have.Applied; a != nil && (a.Same(want) || a.SameRelease(want)) && !have.NeedsRepair && !have.rebootPending() {
		switch {
		case !have.drifted(have.Running):
			return leave(record.Applied, "already applied")
		case !have.CorrectDrift:
			return leave(record.Drifted, fmt.Sprintf("an operator has switched to %s since it was applied; left alone", have.Running.Path))
		}
	}
	if failure != nil {
		return again(failure, now)
	}

	return apply(have.why(want))
}

// failure is what is known of the target's failure since the operator's last retry; nil if nothing is.
func (have Known) failure(want Target) *Failure {
	if f := have.Failure; f != nil && (f.Same(want) || f.samePublish(want)) && f.RetryToken == have.RetryToken {
		return f
	}

	return nil
}

// takes reports whether the host has the target's release already, or will have it with the next boot. A rollout
// that stands still takes it from nobody.
func (have Known) takes(want Target) bool {
	return have.Applied != nil && have.Applied.SameRelease(want) || have.rebootPending() && have.Intent.samePublish(want)
}

// again decides about a target that has failed before.
func again(f *Failure, now time.Time) Decision {
	if f.Rejected {
		return leave(f.Status(), fmt.Sprintf("rejected after attempt %d: %s", f.Attempts, f.Error))
	}

	// A failure in the future means that the clock was set back: waiting for it could take years.
	if now.Before(f.Next()) && !now.Before(f.At) {
		d := leave(f.Status(), fmt.Sprintf("attempt %d failed, the next is due at %s", f.Attempts, f.Next().UTC().Format(time.RFC3339)))
		d.Next = f.Next()
		return d
	}

	return apply(fmt.Sprintf("attempt %d", f.Attempts+1))
}

// why says why want is to be applied that has not failed before.
func (have Known) why(want Target) string {
	switch a := have.Applied; {
	case have.rebootPending():
		return "another version becomes active with the next boot"
	case a == nil:
		return "nothing applied yet"
	case a.Same(want) && have.NeedsRepair:
		return "returning to the applied version after a failed rollback"
	case a.Same(want):
		return "correcting drift"
	case a.Remote != want.Remote:
		return "remote changed"
	case a.Configuration != want.Configuration:
		return "configuration changed"
	}

	return "new version"
}

func leave(s record.Status, why string) Decision { return Decision{Status: s, Why: why} }

func apply(why string) Decision { return Decision{Apply: true, Why: why} }
