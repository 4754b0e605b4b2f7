package agent

import (
	"context"
	"errors"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/activation"
)

// resume ends an activation that an earlier agent has begun.
func (a *Agent) resume(ctx context.Context, r *round) error {
	in := r.state.Intent
	j, found, err := a.Host.Resume(ctx, a.request(r.config, in))
	var back *activation.Error
	if err != nil && !errors.As(err, &back) {
		return transientError{health.Machine, err}
	}
	if found {
		if r.running, err = a.Host.Current(ctx); err != nil {
			return transientError{health.Machine, err}
		}
		r.before = r.running
	}
	if found && j.Phase == activation.RebootPending {
		r.pending, r.pendingFrom = j.System, j.Previous
	}
	a.rollbackRetry(back)

	if in == nil && back != nil && back.RollbackRetries > 0 && !back.RollbackFailed() && r.state.NeedsRepair {
		a.Log.Info("the rollback that had failed is complete", "system", j.Previous)
		r.move(r.state.repaired(back, r.running, r.config, time.Now()))
		return a.save(r)
	}
	if in != nil {
		a.resumed(r, j, found && in.Activation != "" && j.ID == in.Activation, back)
		if err := a.save(r); err != nil {
			return err
		}
	}
	return nil
}

// rollbackRetry takes note of when a rollback that failed is tried again, if the activation ended so.
func (a *Agent) rollbackRetry(back *activation.Error) {
	a.retryAt = time.Time{}
	if back != nil && back.RollbackFailed() {
		a.retryAt = back.RollbackRetryAt
	}
}

// resumed takes note of what has become of the intent that an earlier agent left. Ours says that j is the
// activation of that intent, and back is its error.
func (a *Agent) resumed(r *round, j activation.Journal, ours bool, back *activation.Error) {
	in := r.state.Intent
	now := *r
	r.target, r.attempt = in.Target, in.Attempt
	defer func() { r.target, r.attempt, r.trigger, r.times = now.target, now.attempt, now.trigger, now.times }()

	switch {
	case !ours, back != nil && back.NothingAgainst():
		r.move(r.state.forget()) // there is no activation of it to be judged: what runs decides
	case back != nil:
		a.Log.Warn("the activation that was in progress when the agent ended was rolled back", "system", j.System, "why", j.Reason)
		r.move(r.state.rollBack(attempt{in.Target, in.Attempt, in.Times}, back, r.running, r.config, time.Now()))
		a.measureResumed(in, ending(r.state.Failure.Status()), in.Times, back)
		subject := r.subject(j.ID, j.System, j.Previous)
		subject.Error = back
		r.move(r.state.hookDue(hook.New(hook.OnFailure, subject), r.config))
	case j.Phase == activation.RebootPending:
		if in.Status != record.RebootPending { // else it was counted
			a.measureResumed(in, rebootPending, in.Times, nil)
		}
		r.move(r.state.waitForReboot())
	default:
		a.Log.Info("the activation that was in progress when the agent ended is complete", "system", j.System)
		r.trigger, r.times = in.Trigger, in.Times
		r.times.Activated = time.Now()
		r.times.Acknowledged = r.times.Activated
		r.warning = j.Warning
		a.measureResumed(in, reached, r.times, nil)
		r.move(r.state.reach(r.appliedAs(j.System, j.Previous)))
		r.move(r.state.hookDue(hook.New(hook.PostActivate, r.subject(j.ID, j.System, j.Previous)), r.config))
	}
}
