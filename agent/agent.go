// Package agent keeps one host at the version that its store holds.
//
//	publish → notice → decide → fetch → build → activate → verify → acknowledge
//
// It promises: whatever triggers it (start, event, poll, operator), the same reconcile runs, one at a
// time per host. What to run is read from the store, never from a message. A message is acknowledged when
// nothing is left to do for it but a reboot of the machine, and not before. Intent is durable before it is
// acted on, so that any instant may be the last. An error of the store, the queue, the network or a
// publisher never ends the agent: it backs off, logs that once, and heals by itself.
//
// Begin with [Agent.Run], the event loop, and reconcile.go, the way of one version through it. Decide says
// what is to be done, transition.go what is remembered, and the table in result.go what follows from how
// a round ended.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/metrics"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
)

// New checks the options and the data directory.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := o.Config
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Remote == "" || c.Configuration == "" {
		return nil, errors.New("remote and configuration must both be set: `npcnix config set remote URL` and `npcnix config set configuration NAME`")
	}

	return wire(o), nil
}

// wire returns the agent of valid options.
func wire(o Options) *Agent {
	c := o.Config
	a := &Agent{Options: o, config: c, settings: &config.Reader{Dir: o.Dir}, since: c.LastReconfiguration}
	file := o.Dir
	if o.Once == OnceAny {
		file = "" // a long-running agent beside this run has its own
	}
	a.monitor = health.New(file, o.Version, o.Log)
	a.monitor.Update(func(now *health.Health) { now.QueueURL = c.QueueURL })
	a.metrics = measured(o, a.monitor)
	a.pause = wait.NewBackOff(max(time.Second, c.MinSleep()), max(time.Second, c.MaxSleep()))
	a.inbox = inbox.New(inbox.Options{
		Queue: o.Queue, Ours: o.Ours, Lease: c.Lease(), Open: !c.Paused.Active(time.Now()), Monitor: a.monitor,
		Count: func(f inbox.Fate, n int) {
			a.metrics.Update(func(s metrics.Samples) { s.Add(metrics.Messages, float64(n), "result", string(f)) })
		},
	})
	a.record = record.NewWriter(o.Store, o.Name, func(err error) {
		if err != nil {
			a.monitor.Failing(health.Record, err)
			return
		}
		a.monitor.Working(health.Record)
	})

	return a
}

const (
	// maxRestarts is how often, in a row, newer versions cancel a build.
	maxRestarts = 2
	// breath is how long after an event that brought nothing new the next one may wait, so that a burst
	// that trickles in costs a few looks at the store and not one for each message.
	breath = time.Second
)

// Run reconciles at start and then on every event, poll and poke, until ctx ends (nil, but for OnceAny an
// error), until Once is fulfilled (nil, or why it cannot be), or until it returns ErrReconnect or why it has lost its
// data directory. Whatever
// it started has ended when it returns, and messages that are not done are back in the queue.
func (a *Agent) Run(ctx context.Context) error {
	stop := a.start(ctx)
	defer stop()

	force := a.Force
	trigger := record.Start
	for {
		if err := a.Lost(); err != nil {
			return err
		}
		res := a.round(ctx, trigger, force)
		if res.ending == terminated {
			if errors.Is(res.err, ErrReconnect) {
				return ErrReconnect
			}
			return a.interrupted(ctx)
		}
		if force && res.attempted() {
			force = false // it is for one attempt
		}
		if trigger == record.Start || res.attempted() {
			a.Idle()
		}
		if done, err := a.fulfilled(res); done {
			return err
		}
		if trigger = a.await(ctx, res, trigger == record.Start); trigger == "" {
			return a.interrupted(ctx)
		}
	}
}

// start starts what works beside the rounds. Stop ends it: messages are released and the latest record is
// written, both within a bound.
func (a *Agent) start(ctx context.Context) (stop func()) {
	receiving, stopReceiving := context.WithCancel(ctx)
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	var received, written sync.WaitGroup
	received.Go(func() { a.inbox.Run(receiving) })
	written.Go(func() { a.record.Run(writing) })
	written.Go(func() { a.keepWatch(receiving) })
	written.Go(func() { a.monitor.Run(writing) })
	written.Go(func() { a.metrics.Run(writing) })

	return func() {
		stopReceiving()
		var last sync.WaitGroup
		last.Go(func() {
			received.Wait()
			a.inbox.Release(ctx)
		})
		last.Go(func() { a.flush(writing) })
		last.Wait()
		stopWriting()
		written.Wait()
		a.noteShutdown()
	}
}

// noteShutdown takes note of an orderly shutdown. Without the note, the next boot checks the store.
func (a *Agent) noteShutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), finishGrace)
	defer cancel()
	if err := a.Host.NoteShutdown(ctx); err != nil {
		a.Log.Warn("that the machine is shut down in an orderly way could not be noted; the next boot checks the store", "error", err)
	}
}

// round reconciles, and begins again when overtaken by a newer version.
func (a *Agent) round(ctx context.Context, trigger record.Trigger, force bool) result {
	a.receives = a.inbox.View().Healthy
	var res result
	for restarts := 0; restarts <= maxRestarts; restarts++ {
		r := &round{
			trigger: trigger, held: a.inbox.Take(), force: force, last: restarts == maxRestarts,
			times: record.Times{Noticed: time.Now()},
		}
		if res = a.reconcile(ctx, r); res.ending != overtaken {
			break
		}
	}

	if trigger == record.Event && res.left && (res.ending == reached || res.ending == drifted || res.ending == held) {
		a.idled = time.Now()
	}

	return res
}

// interrupted returns what the end of ctx means: nothing to a daemon, failure to a caller that waits.
func (a *Agent) interrupted(ctx context.Context) error {
	if a.Once == OnceAny {
		return fmt.Errorf("ended before the host was brought up to date: %w", context.Cause(ctx))
	}

	return nil
}

// fulfilled reports whether Once is, or cannot be any more, and in that case why.
func (a *Agent) fulfilled(res result) (bool, error) {
	if res.ending == transient {
		a.transients++
	} else {
		a.transients = 0
	}

	switch a.Once {
	case OnceActivate:
		return res.fresh, nil
	case OnceAny:
		means := endings[res.ending].once
		if _, again := a.config.RetryDelay(a.transients + 1); res.ending == transient && !again {
			means = fails
		}
		return means != goesOn, a.outcome(res, means)
	}

	return false, nil
}

// outcome is the error of a run that ends with res.
func (a *Agent) outcome(res result, means once) error {
	switch {
	case means != fails:
		return nil
	case res.ending == drifted:
		return fmt.Errorf("%w; --correct-drift switches it back", res.err)
	case res.ending == paused:
		return fmt.Errorf("%w; `npcnix unpause` ends the pause", res.err)
	}

	return res.err
}

// await waits for the next thing to reconcile for; empty when ctx ended.
func (a *Agent) await(ctx context.Context, res result, started bool) record.Trigger {
	if a.Stale() && ctx.Err() == nil {
		return record.Poll // which begins with that
	}
	delay := a.delay(res, a.inbox.View().Healthy)
	if started && res.ending != paused {
		delay = min(delay, wait.Jitter(startedLook, 0.1))
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	a.nextLook(time.Now().Add(delay))
	defer a.nextLook(time.Time{})
	restart, stopRestart := a.rebootTimer(res)
	defer func() { stopRestart() }()

	var breathed <-chan time.Time
	for {
		v := a.inbox.View()
		switch {
		case v.Fresh && time.Since(a.idled) >= breath:
			return record.Event
		case v.Fresh && breathed == nil:
			breathed = time.After(time.Until(a.idled.Add(breath)))
		case v.Healthy != a.receives:
			return record.Poll // events may have been lost meanwhile, or with the answer that did not come
		}

		select {
		case <-v.Changed:
		case <-breathed:
			return record.Event
		case <-timer.C:
			return record.Poll
		case <-restart:
			if a.Stale() { // the window may be one of another time zone
				return record.Poll
			}
			a.rebootMachine(ctx)
			stopRestart()
			restart, stopRestart = a.rebootTimer(res)
		case <-a.Poke:
			return record.Manual
		case <-a.Switched:
			if running, err := a.Host.Current(ctx); err != nil || running.Path != a.ran {
				return record.Manual
			}
		case <-ctx.Done():
			return ""
		}
	}
}

// nextLook takes note of when the agent will look again, for agent.json.
func (a *Agent) nextLook(at time.Time) {
	a.monitor.Update(func(now *health.Health) {
		now.Next = time.Time{}
		if !at.IsZero() {
			now.Next = at.UTC().Truncate(time.Second)
		}
	})
}
