package agent

import (
	"context"
	"errors"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/metrics"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Metrics are made here of what the agent knows: of its health at each change, of a round at its end.

// attemptResults are the endings that count as attempts.
var attemptResults = []ending{reached, rebootPending, failed, rolledBack, rejected}

// measured returns the metrics of an agent that has done nothing yet. That nothing was counted is told of all
// labels, so that a first count is seen as an increase.
func measured(o Options, m *health.Monitor) *metrics.Writer {
	w := metrics.NewWriter(func(err error) {
		if err != nil {
			m.Failing(health.Metrics, err)
			return
		}
		m.Working(health.Metrics)
	})
	w.Update(func(s metrics.Samples) {
		s.Info(metrics.BuildInfo, "version", o.Version)
		for _, e := range attemptResults {
			s.Add(metrics.Attempts, 0, "result", string(e))
		}
		for _, c := range activation.RollbackCauses {
			s.Add(metrics.Rollbacks, 0, "cause", string(c))
		}
		for _, reason := range release.Reasons {
			s.Add(metrics.SignatureRejections, 0, "reason", string(reason))
		}
		for _, fate := range inbox.Fates {
			s.Add(metrics.Messages, 0, "result", string(fate))
		}
	})
	m.Watch(func(now health.Health) {
		w.Update(func(s metrics.Samples) { measureHealth(s, now) })
	})

	return w
}

func measureHealth(s metrics.Samples, now health.Health) {
	healthy := now.TransientError == ""
	for _, p := range now.Parts {
		healthy = healthy && p.Works
	}
	s.Bool(metrics.Healthy, healthy)
	s.Bool(metrics.SystemHealthy, now.Unhealthy == "")
	s.Bool(metrics.RebootPending, now.RebootDue != "")
	s.At(metrics.LastNotice, now.LastEvent)
	s.Clear(metrics.QueueHealthy)
	if queue, known := now.Parts[health.Queue]; known {
		s.Bool(metrics.QueueHealthy, queue.Works)
	}
}

// put writes a record, and measures its status.
func (a *Agent) put(rec record.Record) {
	a.record.Put(rec)
	a.metrics.Update(func(s metrics.Samples) {
		for _, status := range record.Statuses {
			s.Bool(metrics.Status, status == rec.Status, "status", string(status))
		}
	})
}

// measure takes note of a round at its end.
func (a *Agent) measure(ctx context.Context, r *round, res result) {
	a.metrics.Update(func(s metrics.Samples) {
		if !r.unread() {
			measureState(s, r.state, r.running)
		}
		if r.target.ETag != "" {
			s.At(metrics.LastPoll, r.times.Noticed)
		}
		if res.attempted() {
			measureAttempt(s, res.ending, r.attempt, r.times)
		}
		var refusal *release.Refused
		if errors.As(res.err, &refusal) {
			s.Add(metrics.SignatureRejections, 1, "reason", string(refusal.Reason))
		}
		measureRollback(s, res.err)
	})
	a.measureClosure(ctx, r)
}

func measureState(s metrics.Samples, state State, running nix.System) {
	s.Bool(metrics.NeedsRepair, state.NeedsRepair)
	s.Clear(metrics.ReleaseInfo)
	s.Clear(metrics.ReleaseSerial)
	applied := state.Applied
	if applied == nil {
		return
	}

	s.At(metrics.LastSuccess, applied.At)
	s.At(metrics.ReleasePublished, applied.Times.Published)
	if applied.Serial != 0 {
		s.Set(metrics.ReleaseSerial, float64(applied.Serial))
	}
	if applied.System == running.Path || running.Path == "" {
		name := applied.Release
		if name == "" {
			name = applied.ETag
		}
		s.Info(metrics.ReleaseInfo, "remote", store.Redact(applied.Remote), "configuration", applied.Configuration,
			"release", name, "rev", applied.Rev)
	}
}

// measureAttempt takes note of an attempt that has ended. Only the first at a version tells how long its notice took.
func measureAttempt(s metrics.Samples, result ending, number int, t record.Times) {
	now := time.Now()
	succeeded := result == reached || result == rebootPending
	s.Add(metrics.Attempts, 1, "result", string(result))
	s.At(metrics.LastAttempt, now)
	s.Bool(metrics.LastAttemptSuccess, succeeded)
	if !succeeded {
		s.At(metrics.LastFailure, now)
	}

	s.Clear(metrics.StageDuration)
	stage := func(name string, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			s.Set(metrics.StageDuration, to.Sub(from).Seconds(), "stage", name)
		}
	}
	if number == 1 {
		stage("notice", t.Published, t.Noticed)
	}
	stage("fetch", t.Noticed, t.Fetched)
	stage("build", t.Fetched, t.Built)
	stage("activate", t.Built, t.Activated)
	stage("acknowledge", t.Activated, t.Acknowledged)
}

// measureResumed takes note of an attempt that an earlier agent has begun.
func (a *Agent) measureResumed(in *Intent, result ending, t record.Times, err error) {
	a.metrics.Update(func(s metrics.Samples) {
		measureAttempt(s, result, in.Attempt, t)
		measureRollback(s, err)
	})
}

func measureRollback(s metrics.Samples, err error) {
	var back *activation.Error
	if errors.As(err, &back) && back.Cause != activation.CauseBusy {
		s.Add(metrics.Rollbacks, 1, "cause", string(back.Cause))
	}
}

// closureTimeout is how long nix may take to add up a closure.
const closureTimeout = time.Minute

// measureClosure asks for the size of the applied system, once. That it cannot be told costs nothing else.
func (a *Agent) measureClosure(ctx context.Context, r *round) {
	if a.ClosureSize == nil || !a.metrics.On() || r.state.Applied == nil || r.state.Applied.System == a.sized {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, closureTimeout)
	defer cancel()
	a.sized = r.state.Applied.System
	size, err := a.ClosureSize(ctx, nix.System{Path: a.sized})
	a.metrics.Update(func(s metrics.Samples) {
		s.Clear(metrics.ClosureBytes)
		if err == nil {
			s.Set(metrics.ClosureBytes, float64(size))
		}
	})
}
