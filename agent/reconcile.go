package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// reconcile makes the host run what the store holds. It is the only way anything is done.
func (a *Agent) reconcile(ctx context.Context, r *round) result {
	unlock, err := a.Dir.LockActivation(ctx, func() { a.Log.Info("waiting for another npcnix to end its activation") })
	if err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, transientError{health.Machine, err}))
	}
	defer unlock()

	if err := a.load(ctx, r); err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, err))
	}

	a.runHook(ctx, r) // one that was interrupted

	decision, err := a.decide(ctx, r)
	if err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, err))
	}
	if !decision.Apply {
		return a.finish(ctx, r, left(decision))
	}

	if err := a.begin(ctx, r, decision.Why); err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, err))
	}

	system, err := a.unlessOvertaken(ctx, r, func(ctx context.Context) (nix.System, error) { return a.obtain(ctx, r) })
	if err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, err))
	}

	if err := a.activate(ctx, r, system); err != nil {
		return a.finish(ctx, r, a.ended(ctx, r, err))
	}

	return a.finish(ctx, r, a.reached(ctx, r, system))
}

// load reads what the round must know: settings, memory, and what runs. It ends what an earlier agent has
// begun.
func (a *Agent) load(ctx context.Context, r *round) error {
	c, damaged, err := a.loadConfig()
	if err == nil {
		a.config = c
	}
	if r.unusable = cmp.Or(err, damaged); r.unusable != nil {
		a.monitor.Failing(health.Config, r.unusable)
	} else {
		a.monitor.Working(health.Config)
	}
	if !connects(a.config, a.Options.Config) || a.Stale() {
		return ErrReconnect
	}
	r.config = a.config
	a.inbox.SetOpen(!r.config.Paused.Active(time.Now()))
	a.record.SetRefresh(r.config.RecordRefresh())
	if a.Once != OnceAny { // a long-running agent beside this run has its own
		a.metrics.SetPath(r.config.MetricsTextfile)
	}

	if err := a.Host.Check(ctx); err != nil {
		return transientError{health.Machine, err}
	}
	running, err := a.Host.Current(ctx)
	if err != nil {
		return transientError{health.Machine, err}
	}
	r.before, r.running = running, running
	if r.state, err = loadState(a.Dir, a.Log); err != nil {
		return transientError{health.Machine, err}
	}
	if adopted := r.state.adopt(r.config, running); adopted.Applied != r.state.Applied {
		r.move(adopted)
	}
	if r.state.Applied != nil {
		a.since = r.state.Applied.At
	}
	a.sweep()

	if err := a.resume(ctx, r); err != nil {
		return err
	}
	a.planReboot(ctx, r)
	a.lookAtBoot(ctx, r)

	return nil
}

// decide looks at the store and decides about what it holds. A paused host does not ask.
func (a *Agent) decide(ctx context.Context, r *round) (Decision, error) {
	r.target = Target{Remote: r.config.Remote, Configuration: r.config.Configuration}
	known := Known{
		State: r.state, Paused: r.config.Paused, RetryToken: r.config.RetryToken, Running: r.countsAs(),
		CorrectDrift: r.config.CorrectDrift, Force: r.force,
	}
	if r.config.Paused.Active(time.Now()) {
		return Decide(known, r.target, time.Now()), nil
	}

	etag, at := r.announced()
	latest, err := a.Store.LatestAnnounced(ctx, r.known(), etag, at)
	if err != nil {
		return Decision{}, transientError{health.Store, err}
	}
	a.monitor.Working(health.Store)
	if latest.ETag == etag || latest.Modified.IsZero() || !latest.Modified.Before(at.Truncate(time.Second)) {
		etag = "" // the store shows what was announced, or what came later
	}
	a.unshown.note(etag, latest.ETag)
	r.target.ETag, r.target.VersionID = latest.ETag, latest.ID
	r.target = r.state.remembered(r.target)
	r.times.Published = r.published(latest)

	decision := Decide(known, r.target, time.Now())
	if !decision.Apply {
		if f := r.state.Failure; f != nil && decision.Status == record.Applied && (f.Same(r.target) || f.samePublish(r.target)) {
			r.move(r.state.recovered()) // an operator has switched back to it
		}
		return decision, nil
	}

	if err := a.vet(ctx, r); err != nil {
		return Decision{}, err
	}
	known.Held = r.admission.held
	decision = Decide(known, r.target, time.Now())
	if decision.Status == record.Held && a.heldBack != r.target.ETag {
		a.heldBack = r.target.ETag
		a.Log.Info("held back by its rollout", "etag", r.target.ETag, "why", decision.Why)
	}
	if again := r.state.republish(r.target, r.soak()); !decision.Apply && again.Applied != r.state.Applied {
		r.move(again) // the same release in another object
	}

	return decision, nil
}

// begin makes the intent durable. What is only to become active with the next boot is abandoned before:
// it would boot even if nothing came of this attempt.
func (a *Agent) begin(ctx context.Context, r *round, why string) error {
	if r.pending != "" {
		a.Log.Info("abandoning the system that was to become active with the next boot", "system", r.pending)
		if err := a.Host.Abandon(ctx); err != nil {
			return transientError{health.Machine, err}
		}
		r.pending = ""
		a.planReboot(ctx, r)
	}

	r.attempt = r.state.attempt(r.target, r.config.RetryToken)
	r.move(r.state.intend(Intent{
		Target: r.target, Status: record.Building, Attempt: r.attempt, Activation: strings.ToLower(rand.Text()),
		Trigger: r.trigger, Since: time.Now().UTC(), SoakSecs: r.soak(),
	}))
	if err := a.save(r); err != nil {
		return err
	}

	a.put(a.recordOf(r, record.Building))
	a.status("building " + r.target.ETag)
	a.Log.Log(ctx, a.firstTime("applying", r), "applying", "configuration", r.target.Configuration, "etag", r.target.ETag, "trigger", r.trigger, "attempt", r.attempt, "why", why)

	return nil
}

// fetch downloads and unpacks the target.
func (a *Agent) fetch(ctx context.Context, r *round) (flake string, remove func(), err error) {
	dir, err := os.MkdirTemp(string(a.Dir), flakePrefix)
	if err != nil {
		return "", nil, transientError{health.Machine, fmt.Errorf("make a directory for the flake: %w", err)}
	}
	remove = func() { _ = os.RemoveAll(dir) } // what stays is swept at the next start

	flake = filepath.Join(dir, "flake")
	if err := a.Store.FetchSigned(ctx, r.target.version(), r.archive(), flake); err != nil {
		remove()
		switch {
		case errors.Is(err, store.ErrNotSigned): // no fault of the release: what is signed can come back
			return "", nil, a.refuseArchive(r, err)
		case errors.Is(err, store.ErrUnsafe):
			return "", nil, err
		}
		return "", nil, transientError{health.Fetch, err}
	}
	r.times.Fetched = time.Now()
	if a.unsigned.is(r) {
		a.unsigned = unsigned{}
		a.monitor.Working(health.Trust)
	}

	return flake, remove, nil
}

// build builds the target's configuration, within the time that the settings give it.
func (a *Agent) build(ctx context.Context, r *round, flake string) (nix.System, error) {
	limit := r.config.BuildTimeout()
	ctx, cancel := limited(ctx, limit, fmt.Errorf("the build was ended after %s: shorten it, or raise build_timeout_secs", limit))
	defer cancel()
	system, err := a.Host.Build(ctx, flake, r.target.Configuration)
	if err != nil {
		return nix.System{}, err
	}
	r.times.Built = time.Now()

	return system, nil
}

// limited ends a context after a time, because of tooLong; never, if the limit is 0.
func limited(ctx context.Context, limit time.Duration, tooLong error) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return context.WithCancel(ctx)
	}

	return context.WithTimeoutCause(ctx, limit, tooLong)
}

// unlessOvertaken does the work, and cancels it when a newer version is seen meanwhile.
func (a *Agent) unlessOvertaken(ctx context.Context, r *round, work func(context.Context) (nix.System, error)) (nix.System, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	settings, since, now := r.config, a.since, pursuit{r.target, r.state, r.config}
	poll := func(healthyQueue bool) time.Duration { return pollInterval(settings, healthyQueue, time.Since(since)) }
	go func() {
		defer close(watched)
		if !r.last {
			a.watchForNewer(ctx, now, poll, cancel)
		}
	}()
	defer func() { cancel(nil); <-watched }()

	system, err := work(ctx)
	if err != nil && context.Cause(ctx) != nil {
		return nix.System{}, context.Cause(ctx)
	}

	return system, err
}

// watchForNewer looks at the store whenever a message about the remote arrives, and as often as an agent polls
// that has nothing else to do. It cancels when the store holds another version than the target's, unless only the
// release's rollout has gone on.
func (a *Agent) watchForNewer(ctx context.Context, now pursuit, poll func(healthyQueue bool) time.Duration, cancel context.CancelCauseFunc) {
	v := a.inbox.View()
	timer := time.NewTimer(poll(v.Healthy))
	defer timer.Stop()
	for due := false; ; v = a.inbox.View() {
		if v.Fresh || due {
			latest, err := a.Store.Latest(ctx, now.target.version())
			if ctx.Err() == nil {
				a.lookedMeanwhile(err)
			}
			if err == nil && latest.ETag != now.target.ETag {
				if !a.admitsStill(ctx, now, latest) {
					cancel(errNewer)
					return
				}
				now.target.ETag, now.target.VersionID = latest.ETag, latest.ID
			}
		}

		due = false
		select {
		case <-v.Changed:
		case <-timer.C:
			due = true
			timer.Reset(poll(v.Healthy))
		case <-ctx.Done():
			return
		}
	}
}
