package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// flakePrefix begins the names of directories that hold an unpacked flake while it is built.
const flakePrefix = "flake-"

// outcome is what has become of a round, and so of its messages.
type outcome struct {
	kind  outcomeKind
	next  time.Time // of the next attempt, when it failed
	fresh bool      // applied: something was activated in this round
	err   error
}

type outcomeKind int

const (
	outcomeApplied  outcomeKind = iota // applied now or before: nothing is left to do
	outcomeBooting                     // what is left to do is a restart of the machine
	outcomeFailed                      // will be tried again, a few times
	outcomeHindered                    // will be tried again until it works
	outcomeRejected                    // given up on until something changes
	outcomePaused
	outcomeNewer   // overtaken: begin again
	outcomeStopped // the agent is to end
)

// hindrance marks an error that is not the publish's: the store's, or this machine's. It is
// tried again for as long as it lasts and never leads to a rejection.
type hindrance struct {
	by string // one of the following
	error
}

const (
	byStore   = "the store cannot be read"
	byFetch   = "the flake cannot be fetched"
	byMachine = "this machine cannot do the work"
)

func (h hindrance) Unwrap() error { return h.error }

// loadConfig reads config.json, overrides included.
func (a *Agent) loadConfig() (config.Config, error) {
	c, err := a.Dir.LoadConfig()
	if err != nil {
		return config.Config{}, err
	}
	return a.Override(c)
}

// connects reports whether an agent made with the settings o reaches what c names.
func connects(c, o config.Config) bool {
	return c.Remote == o.Remote && c.RemoteRegion == o.RemoteRegion && c.QueueURL == o.QueueURL &&
		c.Host == o.Host && c.LeaseSecs == o.LeaseSecs
}

// recall reads what the round must know: settings, memory, and what runs. A config.json that
// was damaged meanwhile is reported once, and the settings read last are kept.
func (a *Agent) recall(ctx context.Context, r *round) error {
	if c, err := a.loadConfig(); err != nil {
		a.reporter.failed("config", "config.json cannot be used; the settings read before stay in force", err)
	} else {
		a.reporter.worked("config", "config.json can be used again")
		a.config = c
	}
	if !connects(a.config, a.Options.Config) {
		return ErrReconnect
	}
	r.config = a.config
	a.inbox.setOpen(!r.config.Paused.Active(time.Now()))
	a.recorder.setRefresh(r.config.RecordRefresh())
	running, err := a.Host.Current(ctx)
	if err != nil {
		return hindrance{byMachine, err}
	}
	r.previous, r.running = running, running
	r.state, err = loadState(a.Dir, r.config, running, a.Log)
	if err != nil {
		return hindrance{byMachine, err}
	}
	if r.state.Applied != nil {
		a.since = r.state.Applied.At
	}
	if !a.swept {
		a.sweep()
		a.swept = true
	}
	if err := a.resume(ctx, r); err != nil {
		return err
	}
	a.lookForReboot(ctx, r)
	return nil
}

// resume brings to its end what an earlier agent left behind: an activation that was ordered, and
// a hook that was cut short.
func (a *Agent) resume(ctx context.Context, r *round) error {
	in := r.state.Intent
	act, found, err := a.Host.Resume(ctx, a.order(r.config, in))
	var failed *activation.Error
	if err != nil && !errors.As(err, &failed) {
		return hindrance{byMachine, err}
	}
	if found {
		if r.running, err = a.Host.Current(ctx); err != nil {
			return hindrance{byMachine, err}
		}
		r.previous = r.running
	}
	if found && act.Phase == activation.RebootPending {
		r.bootsNext, r.bootsFrom = act.System, act.Previous
	}
	switch ours := found && in != nil && in.Activation != "" && act.ID == in.Activation; {
	case in == nil:
	case !ours, failed != nil && failed.Cause == activation.CauseBusy:
		// The work was cut short before anything was changed.
		r.state.Intent = nil
		if err := a.save(r); err != nil {
			return err
		}
	case failed != nil:
		a.Log.Warn("the activation that was under way when the agent ended was taken back", "system", act.System, "why", act.Reason)
		r.attempt = in.Attempt
		a.takenBack(r, in.Target, failed)
		if err := a.save(r); err != nil {
			return err
		}
	case act.Phase == activation.RebootPending:
		in.Stage = StageBooting
	default:
		a.Log.Info("the activation that was under way when the agent ended is complete", "system", act.System)
		r.trigger, r.attempt, r.times = in.Trigger, in.Attempt, in.Times
		r.times.Activated = time.Now()
		r.previous = nix.System{Path: act.Previous}
		r.setApplied(in.Target, act.System)
		r.previous = r.running // what is decided next is about what runs now
		r.state.Hook = hookAfter(r, HookPostActivate, act, nil)
		if err := a.save(r); err != nil {
			return err
		}
	}
	return a.runHook(ctx, r)
}

// takenBack takes note of an activation that failed, and whose version is not tried again unless it
// was no fault of its own.
func (a *Agent) takenBack(r *round, t Target, e *activation.Error) {
	r.setFailure(t, r.attempt, e, e.Tail)
	f := r.state.Failure
	if e.Cause.Transient() && !e.RollbackFailed() {
		f.DelaySecs = 0
	} else {
		f.Rejected, f.RolledBack = true, !e.RollbackFailed()
	}
	// Else what runs is the previous system, and so what was applied, or chosen by somebody.
	strange := r.state.Applied == nil || r.running.Path != r.state.Applied.System
	// What boots was not set anew where the activation did not come to that.
	r.state.Unsettled = e.RollbackFailed() || r.state.Unsettled && (strange || !e.Installed)
	r.state.Hook = hookAfter(r, HookOnFailure, e.Journal, e)
}

// save makes the round's state durable; not to be able to is this machine's fault.
func (a *Agent) save(r *round) error {
	if err := saveState(a.Dir, r.state); err != nil {
		return hindrance{byMachine, err}
	}
	a.reporter.worked("state", "state.json can be written again")
	return nil
}

func (r *round) setApplied(t Target, system string) {
	previous := r.previous.Path
	if a := r.state.Applied; a != nil && (previous == "" || previous == system) {
		previous = a.System
	}
	r.state.Applied = &Applied{
		Target: t, System: system, Previous: previous, At: time.Now().UTC(),
		Trigger: r.trigger, Attempt: r.attempt, Times: r.times,
	}
	r.state.Intent = nil
	r.state.Unsettled = false
	r.state.Failure = nil
}

// setFailure takes note of a failed attempt and plans the next, or rejects the target.
func (r *round) setFailure(t Target, attempt int, err error, tail []string) {
	delay, again := r.config.RetryDelay(attempt)
	r.state.Failure = &Failure{
		Target: t, Attempts: attempt, At: time.Now().UTC(), DelaySecs: jitter(delay, 0.1).Seconds(),
		Error: err.Error(), Tail: tail, RetryToken: r.config.RetryToken,
		Rejected: !again || errors.Is(err, store.ErrUnsafe),
	}
	r.state.Intent = nil
}

// recordState is what a record says of a failure.
func (f *Failure) recordState() RecordState {
	switch {
	case f.RolledBack:
		return StateRolledBack
	case f.Rejected:
		return StateRejected
	}
	return StateFailed
}

// known is the version that a conditional look at the store may answer with.
func (r *round) known() store.Version {
	if a := r.state.Applied; a != nil && a.Remote == r.config.Remote {
		return a.version()
	}
	return store.Version{}
}

// published tells when v was published: to the millisecond where one of the messages is about
// it, else as exactly as the store knows.
func (r *round) published(v store.Version) time.Time {
	for _, d := range slices.Backward(r.held) {
		i := slices.IndexFunc(d.Notices, func(n events.Notice) bool { return n.ETag == v.ETag && !n.At.IsZero() })
		if i >= 0 {
			return d.Notices[i].At
		}
	}
	return v.Modified
}

// leave ends a round in which nothing is to be applied.
func (a *Agent) leave(r *round, d Decision, why string) outcome {
	a.Log.Debug("nothing to apply", "decision", d, "why", why, "trigger", r.trigger, "etag", r.target.ETag)
	switch d {
	case Wait:
		a.report(r, StatePaused)
		a.status(why)
		return outcome{kind: outcomePaused, err: errors.New(why)}
	case Booting:
		a.report(r, StateActivating)
		a.status("waiting for a restart of the machine to run " + r.target.ETag)
		return outcome{kind: outcomeBooting, err: errors.New(why)}
	case Rejected:
		a.report(r, r.state.Failure.recordState())
		a.status("rejected " + r.target.ETag + "; waiting for another version")
		return outcome{kind: outcomeRejected, err: errors.New(why)}
	case BackOff:
		a.report(r, r.state.Failure.recordState())
		return outcome{kind: outcomeFailed, next: r.state.Failure.Next(), err: errors.New(why)}
	case Drifted:
		a.reporter.failed("drift", "the host was switched by hand; left alone, as correct_drift is off", errors.New(why))
		a.report(r, StateDrifted)
		a.status("drifted from " + r.target.ETag)
		return outcome{kind: outcomeApplied, err: errors.New(why)}
	default:
		a.reporter.worked("drift", "the host runs the applied system again")
		a.report(r, StateApplied)
		a.status("up to date with " + r.target.ETag)
		return outcome{kind: outcomeApplied}
	}
}

// takeBack takes back what is only to boot next, as something else is wanted by now: it would boot even
// if nothing came of that.
func (a *Agent) takeBack(ctx context.Context, r *round) error {
	if r.bootsNext == "" {
		return nil
	}
	a.Log.Info("taking back the system that was to boot next", "system", r.bootsNext)
	if err := a.Host.Abandon(ctx); err != nil {
		return hindrance{byMachine, err}
	}
	r.bootsNext = ""
	a.lookForReboot(ctx, r)
	return nil
}

// begin makes the intent durable.
func (a *Agent) begin(r *round) error {
	r.attempt = 1
	if f := r.state.Failure; f != nil && f.Same(r.target) && f.RetryToken == r.config.RetryToken && !f.Rejected {
		r.attempt = f.Attempts + 1
	}
	r.state.Intent = &Intent{Target: r.target, Stage: StageBuilding, Attempt: r.attempt, Activation: strings.ToLower(rand.Text()), Trigger: r.trigger, Since: time.Now().UTC()}
	if err := a.save(r); err != nil {
		return err
	}
	a.report(r, StateBuilding)
	a.status("building " + r.target.ETag)
	return nil
}

// applied takes note that the target is reached.
func (a *Agent) applied(ctx context.Context, r *round, s nix.System) outcome {
	r.times.Acknowledged = time.Now()
	if c, err := a.loadConfig(); err == nil {
		r.config = c // the system may have brought hooks of its own
	}
	if in := r.state.Intent; in.Stage == StageActivating {
		r.state.Hook = hookAfter(r, HookPostActivate, activation.Journal{ID: in.Activation, System: s.Path, Previous: r.previous.Path}, nil)
	}
	r.setApplied(r.target, s.Path)
	r.running = s
	a.lookForReboot(ctx, r)
	a.Force = false
	a.since = r.state.Applied.At
	if err := saveState(a.Dir, r.state); err != nil {
		// The host runs the target; without memory of it the next round finds that out.
		a.reporter.failed("state", "state.json cannot be written", err)
	}
	a.reporter.worked(byFetch, "flakes can be fetched again")
	a.reporter.worked(byMachine, "this machine can do the work again")
	a.reporter.worked("drift", "the host runs the applied system again")
	a.Log.Info("applied", "configuration", r.target.Configuration, "etag", r.target.ETag, "system", s.Path,
		"activated", !r.times.Activated.IsZero(), "after", time.Since(r.times.Noticed).Round(time.Millisecond))
	a.report(r, StateApplied)
	a.status("up to date with " + r.target.ETag)
	if err := a.runHook(ctx, r); err != nil {
		a.reporter.failed("state", "state.json cannot be written", err)
	}
	return outcome{kind: outcomeApplied, fresh: !r.times.Activated.IsZero()}
}

// failed ends a round whose target could not be reached.
func (a *Agent) failed(ctx context.Context, r *round, err error) outcome {
	var back *activation.Error
	switch {
	case errors.Is(err, errNewer) || errors.Is(err, store.ErrChanged):
		a.Log.Info("begun anew", "etag", r.target.ETag, "why", err)
		if r.last {
			return a.hindered(ctx, r, err)
		}
		return outcome{kind: outcomeNewer, err: err}
	case errors.Is(err, errPaused):
		a.forget(r)
		a.report(r, StatePaused)
		return outcome{kind: outcomePaused, err: err}
	case errors.As(err, new(rebootDue)):
		return a.booting(ctx, r, err)
	case ctx.Err() != nil && (r.state.Intent.Stage != StageActivating || errors.Is(err, ctx.Err())):
		return a.hindered(ctx, r, err)
	case errors.As(err, &back) && back.Cause == activation.CauseBusy:
		return a.hindered(ctx, r, hindrance{byMachine, err})
	case errors.Is(err, nix.ErrMachine) && back == nil:
		return a.hindered(ctx, r, hindrance{byMachine, err})
	case errors.As(err, new(hindrance)):
		return a.hindered(ctx, r, err)
	}
	a.Force = false
	if running, err := a.Host.Current(context.WithoutCancel(ctx)); err == nil {
		r.running = running
	}
	if back != nil {
		a.takenBack(r, r.target, back)
	} else {
		act := activation.Journal{ID: r.state.Intent.Activation, System: r.state.Intent.System, Previous: r.running.Path}
		r.setFailure(r.target, r.attempt, err, logTail(err))
		r.state.Hook = hookAfter(r, HookOnFailure, act, err)
	}
	if err := saveState(a.Dir, r.state); err != nil {
		a.reporter.failed("state", "state.json cannot be written", err)
	}
	f := r.state.Failure
	a.report(r, f.recordState())
	defer func() {
		if err := a.runHook(ctx, r); err != nil {
			a.reporter.failed("state", "state.json cannot be written", err)
		}
	}()
	if f.Rejected {
		a.Log.Error("rejected; waiting for another version, or `npcnix retry`", "etag", r.target.ETag, "attempts", r.attempt, "error", err)
		a.status("rejected " + r.target.ETag)
		return outcome{kind: outcomeRejected, err: err}
	}
	a.Log.Error("attempt failed", "etag", r.target.ETag, "attempt", r.attempt, "next", f.Next().Format(time.RFC3339), "error", err)
	a.status("attempt at " + r.target.ETag + " failed; the next is at " + f.Next().Format(time.RFC3339))
	return outcome{kind: outcomeFailed, next: f.Next(), err: err}
}

// hindered ends a round that something else than the publish stopped: it counts as no attempt.
func (a *Agent) hindered(ctx context.Context, r *round, err error) outcome {
	if in := r.state.Intent; in != nil && in.Stage == StageBuilding {
		a.forget(r) // else an activation may be under way, which resume takes up
	}
	if ctx.Err() != nil || errors.Is(err, ErrReconnect) {
		return outcome{kind: outcomeStopped, err: err}
	}
	var h hindrance
	if !errors.As(err, &h) {
		h = hindrance{byMachine, err}
	}
	a.reporter.failed(h.by, h.by+"; trying again until that is over", err)
	a.status(err.Error())
	return outcome{kind: outcomeHindered, next: time.Now().Add(a.pause.NextBackOff()), err: err}
}

// booting ends a round whose system boots next. The intent is kept until the machine was restarted.
func (a *Agent) booting(ctx context.Context, r *round, why error) outcome {
	r.state.Intent.Stage, r.state.Failure = StageBooting, nil
	r.bootsNext, r.bootsFrom = r.state.Intent.System, r.running.Path
	a.lookForReboot(ctx, r)
	if err := saveState(a.Dir, r.state); err != nil {
		a.reporter.failed("state", "state.json cannot be written", err)
	}
	a.Force = false
	a.Log.Warn(why.Error(), "system", r.state.Intent.System)
	a.report(r, StateActivating)
	a.status("waiting for a restart of the machine to run " + r.target.ETag)
	return outcome{kind: outcomeBooting, fresh: true, err: why}
}

// forget takes the intent back.
func (a *Agent) forget(r *round) {
	r.state.Intent = nil
	if err := saveState(a.Dir, r.state); err != nil {
		a.reporter.failed("state", "state.json cannot be written", err)
	}
}

// logTail returns the last lines of the log that an error of the nix package carries.
func logTail(err error) []string {
	var build *nix.BuildError
	var veto *vetoError
	switch {
	case errors.As(err, &build):
		return build.Tail
	case errors.As(err, &veto):
		return veto.tail
	}
	return nil
}

// report asks for the host's record to be brought up to date.
func (a *Agent) report(r *round, s RecordState) {
	rec := Record{
		Remote: store.Redact(r.target.Remote), Configuration: r.target.Configuration,
		Version: RecordVersion{r.target.ETag, r.target.VersionID},
		State:   s, System: r.running.Path, Trigger: r.trigger, Attempt: r.attempt,
		Agent: a.Version, Times: r.times, RebootDue: r.reboot != "",
	}
	rec.Times.Acknowledged = time.Now()
	if r.state.Unsettled {
		rec.Warning = "an activation could not be taken back: what runs or boots may not be what it should"
	}
	switch f, applied := r.state.Failure, r.state.Applied; {
	case s == StateApplied:
		rec.System, rec.PreviousSystem = applied.System, applied.Previous
		rec.Trigger, rec.Attempt, rec.Times = applied.Trigger, applied.Attempt, applied.Times
	case (s == StateFailed || s == StateRejected || s == StateRolledBack) && f != nil:
		rec.Attempt, rec.Error, rec.LogTail = f.Attempts, bounded(f.Error, maxError), boundedTail(f.Tail, maxTail)
	}
	a.recorder.put(rec)
}

// status tells the service manager, in words, what it has not been told already.
func (a *Agent) status(s string) {
	s = strings.Join(strings.Fields(s), " ")
	if s != a.said {
		a.said = s
		a.Status(s)
	}
}

// sweep removes what an agent that was killed left in the data directory.
func (a *Agent) sweep() {
	left, _ := filepath.Glob(a.Dir.Path(flakePrefix + "*"))
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
}
