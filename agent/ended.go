package agent

import (
	"context"
	"errors"
	"time"

	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// left is the result of a round in which nothing is to be applied.
func left(d Decision) result {
	res := result{ending: ending(d.Status), left: true, next: d.Next}
	if res.ending != reached {
		res.err = errors.New(d.Why)
	}

	return res
}

// reached is the result of a round whose target is what runs.
func (a *Agent) reached(ctx context.Context, r *round, s nix.System) result {
	r.times.Acknowledged = time.Now()
	if c, _, err := a.loadConfig(); err == nil {
		r.config = c // the system may have brought hooks of its own
	}
	activated := r.state.Intent.Status == record.Activating
	act := r.state.Intent.Activation
	r.move(r.state.reach(r.appliedAs(s.Path, r.before.Path)))
	if activated {
		r.move(r.state.hookDue(hook.New(hook.PostActivate, r.subject(act, s.Path, r.before.Path)), r.config))
	}

	r.running, a.since = s, r.state.Applied.At
	a.planReboot(ctx, r)

	return result{ending: reached, fresh: !r.times.Activated.IsZero(), system: s.Path, after: time.Since(r.times.Noticed)}
}

// ended is the result of a round whose work ended with err.
func (a *Agent) ended(ctx context.Context, r *round, err error) result {
	activating := r.state.Intent != nil && r.state.Intent.Status == record.Activating
	res := result{ending: classify(err, ctx.Err() != nil, activating, !r.last), err: err}

	switch res.ending {
	case failed:
		return a.failed(ctx, r, err)
	case refused:
		if r.state.Intent != nil {
			r.move(r.state.interrupt())
		}
	case paused:
		r.move(r.state.forget())
	case rebootPending:
		r.move(r.state.waitForReboot())
		r.pending, r.pendingFrom = r.state.Intent.System, r.running.Path
		res.fresh, res.system = true, r.pending
		a.planReboot(ctx, r)
	case transient:
		res.next = time.Now().Add(a.pause.NextBackOff())
		fallthrough
	case overtaken, terminated:
		if next := r.state.interrupt(); next.Intent != r.state.Intent {
			r.move(next)
		}
	}

	return res
}

// failed is the result of a round whose version is to blame, or was rolled back.
func (a *Agent) failed(ctx context.Context, r *round, err error) result {
	if running, err := a.Host.Current(context.WithoutCancel(ctx)); err == nil {
		r.running = running
	}

	at := attempt{r.target, r.attempt, r.times}
	subject := r.subject(r.state.Intent.Activation, r.state.Intent.System, r.running.Path)
	var back *activation.Error
	if errors.As(err, &back) {
		a.rollbackRetry(back)
		r.move(r.state.rollBack(at, back, r.running, r.config, time.Now()))
		subject.System, subject.Previous = back.System, back.Previous
	} else {
		r.move(r.state.fail(at, err, r.config, time.Now()))
	}
	subject.Error = err
	r.move(r.state.hookDue(hook.New(hook.OnFailure, subject), r.config))

	f := r.state.Failure

	return result{ending: ending(f.Status()), err: err, next: f.Next()}
}
