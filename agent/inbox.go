package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/npcnix/npcnix/events"
)

const (
	// SQS allows a message 12 h of invisibility in all since its receipt (Amazon SQS
	// developer guide, "visibility timeout"); it is given up a while before.
	giveUpAfter = 11 * time.Hour
	// How many messages are held at most; more stay in the queue until these are settled.
	maxHeld = 2000
	// How long a long poll in the air may still answer when the agent stops: one that is
	// cancelled can strand messages until their lease ends (aws-sdk-go-v2#2068).
	pollGrace = time.Second
	// When messages given back at the end are visible again: later than the server may take
	// to notice that this agent's last long poll was cancelled, and would hand them to it.
	backAfter = 2 * time.Second
	// How long giving messages back may take after the agent was told to stop.
	settleGrace = 2 * time.Second
)

// inbox holds deliveries from their receipt until they are settled, and keeps their lease
// extended. Those that are not for this host it settles itself.
type inbox struct {
	queue Queue // nil: no events, only polls
	ours  func(events.Notice) bool
	lease time.Duration
	log   *reporter

	// settling is held during calls that change visibility or delete, so that an extension
	// cannot overtake what was settled.
	settling sync.Mutex

	mu        sync.Mutex
	extending context.CancelFunc // ends the extension under way; nil if there is none
	held      []item
	open      bool          // whether to receive
	healthy   bool          // whether the last receive worked
	reached   bool          // whether any has
	changed   chan struct{} // closed, and replaced, when any of the above changes
}

type item struct {
	events.Delivery
	at    time.Time // of the receipt
	taken bool      // part of the round under way
}

func newInbox(q Queue, ours func(events.Notice) bool, lease time.Duration, open bool, log *reporter) *inbox {
	return &inbox{queue: q, ours: ours, lease: lease, log: log, open: open, healthy: q != nil, changed: make(chan struct{})}
}

// run receives and keeps leases until ctx ends and both have stopped.
func (in *inbox) run(ctx context.Context) {
	if in.queue == nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { in.receive(ctx) })
	both.Go(func() { in.extend(ctx) })
	both.Wait()
}

// update changes the inbox under its lock and wakes whoever waits for a change.
func (in *inbox) update(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
	close(in.changed)
	in.changed = make(chan struct{})
}

// view is what the loop sees of the inbox while it waits.
type view struct {
	fresh   bool // something was received that no round has taken
	healthy bool
	reached bool // it is healthy, and not only so far as is known
	open    bool
	changed <-chan struct{} // closed at the next change
}

func (in *inbox) view() view {
	in.mu.Lock()
	defer in.mu.Unlock()
	fresh := slices.ContainsFunc(in.held, func(i item) bool { return !i.taken })
	return view{fresh, in.healthy, in.healthy && in.reached, in.open && len(in.held) < maxHeld, in.changed}
}

func (in *inbox) setOpen(open bool) {
	in.mu.Lock()
	was := in.open
	in.mu.Unlock()
	if was != open {
		in.update(func() { in.open = open })
	}
}

// take makes everything received so far part of the round under way and returns the round's
// deliveries.
func (in *inbox) take() []events.Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	var ds []events.Delivery
	for i := range in.held {
		in.held[i].taken = true
		ds = append(ds, in.held[i].Delivery)
	}
	return ds
}

// settle ends the round: what was taken is let go of and given to how, with its latest receipts.
//
// An extension under way is cut short: it may hang for as long as its requests may, and
// another comes in time.
func (in *inbox) settle(how func([]events.Delivery) error) error {
	in.mu.Lock()
	if in.extending != nil {
		in.extending()
	}
	in.mu.Unlock()
	in.settling.Lock()
	defer in.settling.Unlock()
	var ds []events.Delivery
	in.update(func() {
		var fresh []item
		for _, i := range in.held {
			if i.taken {
				ds = append(ds, i.Delivery)
			} else {
				fresh = append(fresh, i)
			}
		}
		in.held = fresh
	})
	if len(ds) == 0 {
		return nil
	}
	return how(ds)
}

// receive long-polls until ctx ends. Errors never end it: it says so once and tries again,
// with growing, jittered pauses.
func (in *inbox) receive(ctx context.Context) {
	pollCtx, cancel := withGrace(ctx, pollGrace)
	defer cancel()
	pause := newBackOff(time.Second, time.Minute)
	var failed time.Time
	for ctx.Err() == nil {
		if v := in.view(); !v.open {
			select {
			case <-v.changed:
			case <-ctx.Done():
			}
			continue
		}
		ds, err := in.queue.Receive(pollCtx)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil {
			failed = time.Now()
			in.log.failed("queue", "the queue cannot be received from; the store is polled until it can", err)
			in.update(func() { in.healthy = false })
			sleep(ctx, pause.NextBackOff())
			continue
		}
		if time.Since(failed) > time.Minute {
			pause.Reset() // not at once: a queue that works now and then must not be hammered
		}
		in.log.worked("queue", "the queue can be received from again")
		in.accept(ctx, ds)
	}
}

// accept keeps the deliveries that are for this host and deletes the others.
func (in *inbox) accept(ctx context.Context, ds []events.Delivery) {
	var ours, others []events.Delivery
	for _, d := range ds {
		switch {
		case errors.Is(d.Err, events.ErrUnknown):
			in.log.counted("messages of an unknown shape", "message of an unknown shape deleted", "message", d.ID, "error", d.Err)
		case d.Err != nil:
			in.log.counted("malformed messages", "malformed message deleted", "message", d.ID, "error", d.Err)
		case slices.ContainsFunc(d.Notices, in.ours):
			ours = append(ours, d)
			continue
		case len(d.Notices) == 0: // a test event, or one about something else than a new version
		default:
			in.log.counted("messages for others", "message that is not about this host's remote deleted", "message", d.ID)
		}
		others = append(others, d)
	}
	if len(ours) > 0 {
		in.log.pulse.update(func(now *Pulse) { now.LastEvent = time.Now().UTC() })
	}
	if v := in.view(); len(ours) > 0 || !v.reached {
		in.update(func() {
			in.healthy, in.reached = true, true
			for _, d := range ours {
				in.hold(d)
			}
		})
	}
	if len(others) > 0 {
		if err := in.queue.Ack(ctx, others); err != nil && ctx.Err() == nil {
			in.log.failed("ack", "messages cannot be deleted; they will come back", err)
		} else if err == nil {
			in.log.worked("ack", "messages can be deleted again")
		}
	}
}

// hold adds a delivery. One that is held already, its lease lost, was received anew: only its
// newer receipt counts.
func (in *inbox) hold(d events.Delivery) {
	for i := range in.held {
		if in.held[i].ID == d.ID {
			in.held[i].Delivery = d
			in.held[i].at = time.Now()
			return
		}
	}
	in.held = append(in.held, item{Delivery: d, at: time.Now()})
}

// extend keeps the lease of everything held, at a third of its time, until ctx ends.
func (in *inbox) extend(ctx context.Context) {
	tick := time.NewTicker(in.lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			in.extendHeld(ctx)
		}
	}
}

func (in *inbox) extendHeld(ctx context.Context) {
	in.settling.Lock()
	defer in.settling.Unlock()
	in.mu.Lock()
	var ds []events.Delivery
	kept := in.held[:0]
	for _, i := range in.held {
		if time.Since(i.at) >= giveUpAfter {
			in.log.counted("messages given up", "message held for 11 hours given up; it will be delivered again", "message", i.ID)
			continue
		}
		kept = append(kept, i)
		ds = append(ds, i.Delivery)
	}
	in.held = kept
	ctx, in.extending = context.WithCancel(ctx)
	defer in.extending()
	in.mu.Unlock()
	if len(ds) == 0 {
		return
	}
	if err := in.queue.Extend(ctx, ds, in.lease); err != nil && ctx.Err() == nil {
		in.log.failed("lease", "leases cannot be extended; the messages may be delivered again, which does no harm", err)
		return
	}
	in.log.worked("lease", "leases can be extended again")
}

// giveBack makes everything still held visible very soon, so that the next agent need not wait
// for the leases to end. It is called when nothing receives or extends any more.
func (in *inbox) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleGrace)
	defer cancel()
	in.take()
	err := in.settle(func(ds []events.Delivery) error { return in.queue.Extend(ctx, ds, backAfter) })
	if err != nil {
		in.log.failed("release", "messages could not be given back; they return when their lease ends", err)
	}
}
