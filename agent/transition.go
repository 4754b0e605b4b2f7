package agent

import (
	"errors"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// The transitions of the agent's memory. They are pure but for the spread of pauses: each returns the
// state that follows. Nothing else changes a State.

// adopt takes over the memory of the Rust npcnix, so that taking a host over builds nothing again.
func (s State) adopt(c config.Config, running nix.System) State {
	if s.Applied == nil && s.Intent == nil && s.Failure == nil && c.LastETag != "" {
		s.Applied = fromRust(c, running)
	}

	return s
}

// named takes note of the name under which the record is written.
func (s State) named(host string) State {
	s.Host = host

	return s
}

// told takes note of the version whose failure was told; "" once a recovery was.
func (s State) told(version string) State {
	s.Told = version

	return s
}

// intend begins an attempt at the intent's target.
func (s State) intend(in Intent) State {
	s.Intent = &in

	return s
}

// attempt is the number of the next attempt at t.
func (s State) attempt(t Target, retryToken string) int {
	if f := s.Failure; f != nil && (f.Same(t) || f.samePublish(t)) && f.RetryToken == retryToken && !f.Rejected {
		return f.Attempts + 1
	}

	return 1
}

// built takes note of the system that an attempt has built, before it is activated.
func (s State) built(system nix.System, times record.Times, queueReached bool) State {
	in := *s.Intent
	in.System, in.Times, in.Queue = system.Path, times, queueReached
	s.Intent = &in

	return s
}

// activate begins the activation of what was built.
func (s State) activate() State {
	in := *s.Intent
	in.Status = record.Activating
	s.Intent = &in

	return s
}

// waitForReboot takes note that the system of the intent becomes active with the next boot.
func (s State) waitForReboot() State {
	in := *s.Intent
	in.Status = record.RebootPending
	s.Intent, s.Failure = &in, nil

	return s
}

// forget ends an attempt that has come to nothing, and that counts as none.
func (s State) forget() State {
	s.Intent = nil

	return s
}

// interrupt is forget, unless an activation may be in progress, which the next round takes up.
func (s State) interrupt() State {
	if s.Intent != nil && s.Intent.Status == record.Building {
		return s.forget()
	}

	return s
}

// reach takes note that a target is reached. Previous is what ran before; "" if that cannot be told.
func (s State) reach(a Applied) State {
	if before := s.Applied; before != nil && (a.Previous == "" || a.Previous == a.System) {
		a.Previous = before.System
	}
	s.Applied, s.Intent, s.Failure, s.NeedsRepair = &a, nil, nil, false
	s.Ran = remembering(s.Ran, a)

	return s
}

// keepRan is how many releases are remembered that a rollout may go back to.
const keepRan = 3

// remembering is ran with the release of a.
func remembering(ran []Ran, a Applied) []Ran {
	if a.Release == "" || a.System == "" {
		return ran
	}
	next := []Ran{{a.Release, a.Configuration, a.System}}
	for _, r := range ran {
		if r.Release != a.Release && len(next) < keepRan {
			next = append(next, r)
		}
	}

	return next
}

// republish takes note that the applied release was published again, as another object.
func (s State) republish(t Target, soak int64) State {
	if s.Applied == nil || !s.Applied.SameRelease(t) {
		return s
	}
	a := *s.Applied
	a.ETag, a.VersionID, a.Serial, a.SoakSecs = t.ETag, t.VersionID, t.Serial, soak
	a.Expires, a.Renew = t.Expires, t.Renew
	if t.Rev != "" || a.Rev == "" { // the base of a rollout names none
		a.Rev, a.Message = t.Rev, t.Message
	}
	s.Applied = &a

	return s
}

// recovered takes note that what had failed runs all the same.
func (s State) recovered() State {
	s.Failure = nil

	return s
}

// An attempt is one try at a target.
type attempt struct {
	target Target
	number int // from 1
	times  record.Times
}

// fail takes note of an attempt that failed before its activation, and plans the next or rejects the
// target. Only a publisher's fault rejects at once.
func (s State) fail(at attempt, err error, c config.Config, now time.Time) State {
	delay, again := c.RetryDelay(at.number)
	at.times.Acknowledged = now.UTC()
	s.Intent = nil
	s.Failure = &Failure{
		Target: at.target, Attempts: at.number, At: now.UTC(), DelaySecs: wait.Jitter(delay, 0.1).Seconds(),
		Error: err.Error(), Tail: tailOf(err), RetryToken: c.RetryToken, Times: at.times,
		Rejected: !again || errors.Is(err, store.ErrUnsafe) || errors.Is(err, nix.ErrUntrusted),
	}

	return s
}

// rollBack takes note of an activation that was rolled back. Its version is rejected, unless the cause is
// transient. CauseOperator is not transient: the operator's system stays, so the version must not be tried again.
func (s State) rollBack(at attempt, e *activation.Error, running nix.System, c config.Config, now time.Time) State {
	s = s.fail(at, e, c, now)
	f := s.Failure
	f.Tail, f.Activation = e.Tail, e.ID
	switch {
	case e.RollbackFailed():
		f.Rejected = true
	case e.Cause.Transient():
		f.Rejected, f.DelaySecs = false, blamelessDelay(at.number, e.Cause, c).Seconds()
	default:
		f.Rejected, f.RolledBack = true, true
	}

	// If the applied system runs, only what boots may need repair, and that only if it was not installed again.
	runsOther := s.Applied == nil || running.Path != s.Applied.System
	s.NeedsRepair = e.RollbackFailed() || s.NeedsRepair && (runsOther || !e.Installed)

	return s
}

// repaired takes note that a rollback is complete that had failed. What became of its version is judged
// again, as the rollback's cause has it, unless another version has failed since.
func (s State) repaired(e *activation.Error, running nix.System, c config.Config, now time.Time) State {
	if f := s.Failure; f != nil && f.Rejected && !f.RolledBack && f.Activation == e.ID {
		s = s.rollBack(attempt{f.Target, f.Attempts, f.Times}, e, running, c, now)
	}
	s.NeedsRepair = false

	return s
}

// minBlamelessDelay is the shortest pause before another attempt, where nothing but pauses bounds their number.
const minBlamelessDelay = 10 * time.Second

// blamelessDelay is the time until the next attempt at a version that was not to blame. It is never
// rejected: after the last of the retry delays it goes on with that.
func blamelessDelay(attempts int, cause activation.Cause, c config.Config) time.Duration {
	delay, more := c.RetryDelay(attempts)
	switch {
	case !more:
		delay = c.LastRetryDelay()
	case cause != activation.CauseMachine:
		return 0 // what interrupted it is over
	}

	return wait.Jitter(max(delay, minBlamelessDelay), 0.1)
}

// hookDue takes note of a hook that is to run, if the operator has set one.
func (s State) hookDue(h *hook.Run, c config.Config) State {
	s.Hook = nil
	if len(h.Command(c.Hooks)) > 0 {
		s.Hook = h
	}

	return s
}

// hookDone takes note that the hook has run.
func (s State) hookDone() State {
	s.Hook = nil

	return s
}

// requestReboot takes note of a reboot that is about to be requested. It counts only once it has come.
func (s State) requestReboot(system, boot string) State {
	s.RebootedFor, s.RebootedIn = system, boot

	return s
}

// tailOf returns the last lines of the log that an error carries.
func tailOf(err error) []string {
	var build *nix.BuildError
	var veto *hook.Veto
	switch {
	case errors.As(err, &build):
		return build.Tail
	case errors.As(err, &veto):
		return veto.Tail
	}

	return nil
}
