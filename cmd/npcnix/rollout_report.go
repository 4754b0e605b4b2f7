package main

import (
	"context"
	"errors"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
)

// runRollout takes a rollout through its waves, and tells a CI system how that ended, as a wait does.
func runRollout(ctx context.Context, c *common, r *rollout.Rollout, junit string) error {
	began := time.Now()
	err := r.Run(ctx)
	if outcome := rolloutOutcome(err); outcome != "" {
		result := rolloutResult(r, outcome, err)
		result.Elapsed = time.Since(began)
		for _, view := range ciViews(c, junit) {
			view.End(result)
		}
	}
	return rolloutCode(err)
}

// rolloutOutcome is how a rollout ended, in the words of a wait; "" if its command failed.
func rolloutOutcome(err error) fleet.Outcome {
	switch {
	case err == nil:
		return fleet.Passed
	case errors.Is(err, rollout.ErrHosts):
		return fleet.HostsFailed
	case errors.Is(err, rollout.ErrTime):
		return fleet.TimedOut
	case errors.Is(err, rollout.ErrOvertaken), errors.Is(err, rollout.ErrStopped):
		return fleet.Superseded
	case errors.Is(err, context.Canceled):
		return fleet.Interrupted
	}
	return ""
}

// rolloutResult has the hosts of the admitted waves. Those that are held, or silent, count nowhere.
func rolloutResult(r *rollout.Rollout, outcome fleet.Outcome, why error) fleet.Result {
	result := fleet.Result{Outcome: outcome, Because: why}
	result.Remote, result.Version = r.Remote.URL(), r.Version()
	for _, h := range r.Tally().Hosts {
		host := fleet.Host{Name: h.Name, State: string(h.Standing), Why: h.Why, Verdict: fleet.Missing}
		switch h.Standing {
		case rollout.Passed:
			host.Verdict = fleet.Done
			result.Done++
		case rollout.Failed:
			host.Verdict = fleet.Failed
			result.Failed++
		case rollout.Waiting:
			result.Missing++
		default:
			continue
		}
		result.Hosts = append(result.Hosts, host)
	}
	return result
}
