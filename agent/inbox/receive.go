package inbox

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
)

// receive long-polls until ctx ends. If that fails it is reported, and tried again with growing pauses.
func (in *Inbox) receive(ctx context.Context) {
	pollCtx, cancel := wait.Grace(ctx, pollGrace)
	defer cancel()
	pause := wait.NewBackOff(time.Second, time.Minute)
	var failed time.Time

	for ctx.Err() == nil {
		if v := in.View(); !v.receiving {
			select {
			case <-v.Changed:
			case <-ctx.Done():
			}
			continue
		}

		ds, err := in.Queue.Receive(pollCtx)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil {
			failed = time.Now()
			in.report(health.Queue, err)
			in.update(func() { in.healthy = false })
			wait.For(ctx, pause.NextBackOff())
			continue
		}

		if time.Since(failed) > time.Minute {
			pause.Reset() // not at once: a queue that works now and then must not be hammered
		}
		in.report(health.Queue, nil)
		in.accept(ctx, ds)
	}
}

// accept holds the deliveries that are for this host and deletes the others.
func (in *Inbox) accept(ctx context.Context, ds []events.Delivery) {
	ours, others := in.sort(ds)
	if len(ours) > 0 {
		in.Monitor.Update(func(now *health.Health) { now.LastEvent = time.Now().UTC() })
	}

	if v := in.View(); len(ours) > 0 || !v.Reached {
		in.update(func() {
			in.healthy, in.reached = true, true
			for _, d := range ours {
				in.hold(d)
			}
		})
	}

	if len(others) == 0 {
		return
	}
	if err := in.Queue.Ack(ctx, others); err == nil || ctx.Err() == nil {
		in.report(health.Acknowledge, err)
	}
}

// sort tells the deliveries about this host's remote from those about nothing or something else.
func (in *Inbox) sort(ds []events.Delivery) (ours, others []events.Delivery) {
	for _, d := range ds {
		switch {
		case errors.Is(d.Err, events.ErrUnknown):
			in.Monitor.Count("messages of an unknown shape", "deleted a message of an unknown shape", "message", d.ID, "error", d.Err)
			in.Count(Unknown, 1)
		case d.Err != nil:
			in.Monitor.Count("malformed messages", "deleted a malformed message", "message", d.ID, "error", d.Err)
			in.Count(Malformed, 1)
		case slices.ContainsFunc(d.Notices, in.Ours):
			ours = append(ours, d)
			continue
		case slices.ContainsFunc(d.Notices, events.Notice.IsProbe):
			in.Count(Foreign, 1)
			in.Monitor.Debug("deleted a message of npcnix doctor --e2e", "message", d.ID)
		case len(d.Notices) > 0: // else a test event, or one about something else than a new version
			in.Monitor.Count("messages for others", "deleted a message that is not about this host's remote", "message", d.ID)
			in.Count(Foreign, 1)
		default:
			in.Count(Foreign, 1)
		}
		others = append(others, d)
	}

	return ours, others
}

// hold adds a delivery. One that is held already has lost its lease and was received again: only its newer
// receipt counts.
func (in *Inbox) hold(d events.Delivery) {
	next := item{Delivery: d, received: time.Now()}
	for i := range in.held {
		if in.held[i].ID == d.ID {
			next.taken = in.held[i].taken
			in.held[i] = next
			return
		}
	}

	in.held = append(in.held, next)
}
