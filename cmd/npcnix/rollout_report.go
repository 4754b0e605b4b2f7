package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
)

// runRollout takes a rollout through its waves, and tells a CI system how that ended, as a wait does.
func runRollout(ctx context.Context, c *common, r *rollout.Rollout, junit string) error {
	began, views := time.Now(), ciViews(c, junit)
	if screen := terminal(c.stderr); screen != nil {
		view := table(screen)
		r.Say = view.Note
		r.Show = newRolloutTable(r, view).show
		views = append(views, view)
	}
	err := r.Run(ctx)
	if outcome := rolloutOutcome(err); outcome != "" {
		result := rolloutResult(r, outcome, err)
		result.Elapsed = time.Since(began)
		for _, view := range views {
			view.End(result)
		}
	}
	return rolloutCode(err)
}

// rolloutTable shows a rollout to a person, as a wait is shown: a line for each host, those of the next waves last.
type rolloutTable struct {
	rollout *rollout.Rollout
	view    fleet.View
	stood   map[string]fleet.Host // as last shown
}

func newRolloutTable(r *rollout.Rollout, view fleet.View) *rolloutTable {
	return &rolloutTable{r, view, map[string]fleet.Host{}}
}

func (t *rolloutTable) show(watched time.Duration) {
	r := t.rollout
	m := r.Manifest()
	p := fleet.Progress{
		Remote: r.Remote.URL(), Version: r.Version(), Release: fleet.Release{ID: m.Release, Rev: m.Source.Rev, Message: m.Source.Message},
		Elapsed: watched, Timeout: r.WaveTimeout,
	}
	for _, h := range r.Tally().Hosts {
		host := rolloutHost(h)
		host.State = fmt.Sprintf("%s, wave %d", host.State, h.Wave)
		if before, shown := t.stood[h.Name]; shown && before.State == host.State {
			host.Since = before.Since
		} else {
			host.Since = time.Now()
		}
		t.stood[h.Name] = host
		switch host.Verdict {
		case fleet.Done:
			p.Done++
		case fleet.Failed:
			p.Failed++
		default:
			p.Missing++
		}
		p.Hosts = append(p.Hosts, host)
	}
	p.Need = len(p.Hosts)
	t.view.Update(p, nil)
}

// rolloutHost is where a host stands, in the words of a wait.
func rolloutHost(h rollout.Host) fleet.Host {
	host := fleet.Host{Name: h.Name, State: string(h.Standing), Why: h.Why, Verdict: fleet.Missing}
	switch h.Standing {
	case rollout.Passed:
		host.Verdict = fleet.Done
	case rollout.Failed:
		host.Verdict = fleet.Failed
	}
	return host
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
		switch h.Standing {
		case rollout.Passed:
			result.Done++
		case rollout.Failed:
			result.Failed++
		case rollout.Waiting:
			result.Missing++
		default:
			continue
		}
		result.Hosts = append(result.Hosts, rolloutHost(h))
	}
	return result
}
