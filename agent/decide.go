package agent

import (
	"fmt"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
)

// Decision is what to do about a target.
type Decision int

const (
	Wait      Decision = iota // paused: nothing is to change
	Unchanged                 // the target is applied already
	Drifted                   // it was applied, but something else runs since; left alone
	Booting                   // what was built boots next: a restart of the machine is due
	Rejected                  // given up on until something changes
	BackOff                   // failed, and the next attempt is not due yet
	Apply
)

func (d Decision) String() string {
	return [...]string{"wait", "unchanged", "drifted", "booting", "rejected", "back off", "apply"}[d]
}

// Known is what an agent knows when it decides.
type Known struct {
	State
	Paused       *config.Pause
	RetryToken   string     // the operator's last retry
	Running      nix.System // zero where it cannot be told
	CorrectDrift bool
	Force        bool // apply what is unchanged, backing off or rejected
}

// drifted reports whether something else runs than what was applied, and by somebody else's doing.
func (s State) drifted(running nix.System) bool {
	a := s.Applied
	booting := s.Intent != nil && s.Intent.Stage == StageBooting
	return a != nil && !s.Unsettled && !booting && running.Path != "" && a.System != "" && running.Path != a.System
}

// Decide says what to do about the target want, and why, in words for a log. It is pure:
// everything it knows is in its arguments.
func Decide(have Known, want Target, now time.Time) (Decision, string) {
	if have.Paused.Active(now) {
		return Wait, have.Paused.String()
	}
	if have.Force {
		return Apply, "asked to apply whatever is known"
	}
	booting := have.Intent != nil && have.Intent.Stage == StageBooting
	if booting && have.Intent.Same(want) {
		return Booting, "it boots next: a restart of the machine is due"
	}
	if a := have.Applied; a != nil && a.Same(want) && !have.Unsettled && !booting {
		switch {
		case !have.drifted(have.Running):
			return Unchanged, "already applied"
		case !have.CorrectDrift:
			return Drifted, fmt.Sprintf("switched by hand since it was applied: %s runs; left alone", have.Running.Path)
		}
	}
	if f := have.Failure; f != nil && f.Same(want) && f.RetryToken == have.RetryToken {
		if f.Rejected {
			return Rejected, fmt.Sprintf("given up after %d attempts: %s", f.Attempts, f.Error)
		}
		// A failure in the future means that the clock was set back: waiting for it could
		// take years.
		if now.Before(f.Next()) && !now.Before(f.At) {
			return BackOff, fmt.Sprintf("attempt %d failed, next at %s", f.Attempts, f.Next().UTC().Format(time.RFC3339))
		}
		return Apply, fmt.Sprintf("attempt %d", f.Attempts+1)
	}
	switch a := have.Applied; {
	case booting:
		return Apply, "another version boots next"
	case a == nil:
		return Apply, "nothing applied yet"
	case a.Same(want) && have.Unsettled:
		return Apply, "returning to the applied version after a failed activation"
	case a.Same(want):
		return Apply, "correcting drift"
	case a.Remote != want.Remote:
		return Apply, "remote changed"
	case a.Configuration != want.Configuration:
		return Apply, "configuration changed"
	default:
		return Apply, "new version"
	}
}
