package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
)

// ErrReconnect ends Run when config.json was changed in a way that needs another store or
// queue: make a new agent.
var ErrReconnect = errors.New("remote or queue changed")

const (
	maxRestarts = 2 // of a build, in a row, by newer versions
	// While paused the clock is looked at this often, as it may be set.
	pausedLook = 10 * time.Minute
	// When the first poll comes after a start: a server that has not noticed yet that the
	// last agent's long poll was cancelled may hand a message to it, where it is lost for a
	// lease (aws-sdk-go-v2#2068). By then every such poll has ended.
	startedLook = 25 * time.Second
	// How long after an event that brought nothing new the next one may wait, so that a burst
	// that trickles in costs a few looks at the store and not one for each message.
	breath = time.Second
)

// Run reconciles at start and then on every event, poll and poke, until ctx ends (nil, but for
// OnceAny an error), until Once is fulfilled (nil, or why it cannot be), or until it returns
// ErrReconnect. Whatever it started has ended when it returns, and messages that are not settled
// are back in the queue.
func (a *Agent) Run(ctx context.Context) error {
	background, stop := context.WithCancel(ctx)
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	var inbox, recorder, pulse sync.WaitGroup
	inbox.Go(func() { a.inbox.run(background) })
	recorder.Go(func() { a.recorder.run(recording) })
	if a.pulse != nil {
		pulse.Go(func() { a.pulse.run(recording) })
	}
	defer func() {
		stop()
		var last sync.WaitGroup
		last.Go(func() {
			inbox.Wait()
			a.inbox.giveBack(ctx)
		})
		last.Go(func() { a.flush(recording) })
		last.Wait()
		stopRecording()
		recorder.Wait()
		pulse.Wait()
	}()

	trigger := TriggerStart
	for {
		out := a.round(ctx, trigger)
		if out.kind == outcomeStopped {
			if errors.Is(out.err, ErrReconnect) {
				return ErrReconnect
			}
			return a.interrupted(ctx)
		}
		if done, err := a.fulfilled(out); done {
			return err
		}
		if trigger = a.await(ctx, out, trigger == TriggerStart); trigger == "" {
			return a.interrupted(ctx)
		}
	}
}

// interrupted returns what the end of ctx means: nothing to a daemon, failure to who waits.
func (a *Agent) interrupted(ctx context.Context) error {
	if a.Once == OnceAny {
		return fmt.Errorf("ended before the host was brought up to date: %w", context.Cause(ctx))
	}
	return nil
}

// flush gives the recorder a moment to write the latest record. One that takes longer holds up
// nothing, and is written later.
func (a *Agent) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleGrace)
	defer cancel()
	a.recorder.flush(ctx)
}

// fulfilled reports whether Once is, or cannot be any more.
func (a *Agent) fulfilled(out outcome) (bool, error) {
	if out.kind == outcomeHindered {
		a.hindrances++
	} else {
		a.hindrances = 0
	}
	switch a.Once {
	case OnceActivate:
		return (out.kind == outcomeApplied || out.kind == outcomeBooting) && out.fresh, nil
	case OnceAny:
		_, again := a.config.RetryDelay(a.hindrances + 1)
		switch {
		case out.kind == outcomeApplied && out.err != nil:
			return true, fmt.Errorf("%w; --correct-drift switches it back", out.err)
		case out.kind == outcomeApplied, out.kind == outcomeBooting:
			return true, nil
		case out.kind == outcomePaused:
			return true, fmt.Errorf("%w; `npcnix unpause` lifts it", out.err)
		case out.kind == outcomeRejected, out.kind == outcomeHindered && !again:
			return true, out.err
		}
	}
	return false, nil
}

// await waits for the next thing to reconcile for; empty when ctx ended.
func (a *Agent) await(ctx context.Context, out outcome, started bool) Trigger {
	healthy := a.inbox.view().healthy
	wait := a.delay(out, healthy)
	if started && out.kind != outcomePaused {
		wait = min(wait, jitter(startedLook, 0.1))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	a.pulse.next(time.Now().Add(wait))
	defer a.pulse.next(time.Time{})
	restart, stopRestart := a.restartTimer(out)
	defer func() { stopRestart() }()
	var breathed <-chan time.Time
	for {
		v := a.inbox.view()
		switch {
		case v.fresh && time.Since(a.idled) >= breath:
			return TriggerEvent
		case v.fresh && breathed == nil:
			breathed = time.After(time.Until(a.idled.Add(breath)))
		case v.healthy && !healthy:
			return TriggerPoll // events may have been lost meanwhile
		case !v.healthy && healthy:
			healthy = false
			wait = a.delay(out, false)
			timer.Reset(wait)
			a.pulse.next(time.Now().Add(wait))
		}
		select {
		case <-v.changed:
		case <-breathed:
			return TriggerEvent
		case <-timer.C:
			return TriggerPoll
		case <-restart:
			a.restartMachine(ctx)
			stopRestart()
			restart, stopRestart = a.restartTimer(out)
		case <-a.Poke:
			return TriggerManual
		case <-ctx.Done():
			return ""
		}
	}
}

// delay says how long to wait after a round for the next poll or attempt.
func (a *Agent) delay(out outcome, healthyQueue bool) time.Duration {
	poll := pollInterval(a.config, healthyQueue, time.Since(a.since))
	switch out.kind {
	case outcomeHindered:
		return time.Until(out.next)
	case outcomeFailed:
		return min(poll, time.Until(out.next))
	case outcomePaused:
		if p := a.config.Paused; p != nil && p.Type == config.Until {
			return min(pausedLook, time.Until(p.Until))
		}
		return pausedLook
	}
	return poll
}

// round reconciles, beginning again when overtaken by a newer version, and settles.
func (a *Agent) round(ctx context.Context, trigger Trigger) outcome {
	var out outcome
	var r *round
	for restarts := 0; restarts <= maxRestarts; restarts++ {
		r = &round{trigger: trigger, held: a.inbox.take(), last: restarts == maxRestarts, times: Times{Noticed: time.Now()}}
		out = a.reconcile(ctx, r)
		if out.kind != outcomeNewer {
			break
		}
	}
	a.pulse.looked(r, out, a.restart.at)
	a.settle(ctx, out)
	if trigger == TriggerEvent && out.kind == outcomeApplied && !out.fresh {
		a.idled = time.Now()
	}
	return out
}

// settle decides what becomes of the messages of a round.
func (a *Agent) settle(ctx context.Context, out outcome) {
	if ctx.Err() != nil { // told to stop meanwhile: what is done is settled all the same
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleGrace)
		defer cancel()
		ctx = bounded
	}
	var how func([]events.Delivery) error
	switch out.kind {
	case outcomeApplied, outcomeBooting:
		a.flush(ctx)
		a.pause.Reset()
		how = func(ds []events.Delivery) error { return a.Queue.Ack(ctx, ds) }
	case outcomeFailed:
		how = func(ds []events.Delivery) error { return a.Queue.Extend(ctx, ds, time.Until(out.next)) }
	case outcomeRejected:
		// Left alone: the queue's redrive policy moves them to the dead-letter queue.
		how = func([]events.Delivery) error { return nil }
	case outcomePaused:
		// Not at once: a poll that is still in the air would have them again.
		how = func(ds []events.Delivery) error { return a.Queue.Extend(ctx, ds, startedLook) }
	default:
		// Hindered: held on to, for the next round to settle, as giving them back each time
		// would bring them to the dead-letter queue. Stopped: given back when Run ends.
		return
	}
	err := a.inbox.settle(func(ds []events.Delivery) error {
		err := how(ds)
		if err == nil && out.kind != outcomeRejected {
			a.reporter.worked("settle", "messages can be settled again")
		}
		return err
	})
	if err != nil {
		a.reporter.failed("settle", "messages cannot be settled; they will be delivered again, which does no harm", err)
	}
}
