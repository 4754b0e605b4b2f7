package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
)

func TestPaused(t *testing.T) {
	inBubble(t, "a paused host receives nothing, and goes on at once when unpaused", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		r.start()
		time.Sleep(24 * time.Hour)
		receives := len(r.of("receive"))
		if receives > 0 {
			t.Errorf("received %d times while paused", receives)
		}
		if got := r.of("fetch", "activate"); len(got) != 0 {
			t.Errorf("worked while paused: %q", got)
		}
		if rec := r.store.lastRecord(); rec.Status != record.Paused || rec.Remote != testRemote || rec.Configuration != "web1" {
			t.Errorf("record: %+v", rec)
		}
		r.configure(func(c *config.Config) { c.Paused = nil })
		r.poke <- struct{}{}
		synctest.Wait()
		if a := r.state().Applied; a == nil || a.ETag != "v1" {
			t.Errorf("applied: %+v", a)
		}
		if len(r.of("receive")) == receives {
			t.Error("does not receive again")
		}
		r.end()
	})

	inBubble(t, "a paused host receives nothing while the store is down", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		r.store.latestErr = errors.New("down")
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if n := len(r.of("receive")); n > 1 {
			t.Errorf("received %d times while paused", n)
		}
	})

	inBubble(t, "a paused host receives nothing over restarts of the agent", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		q := &realQueue{trace: r.trace, visible: make(chan events.Delivery, 100)}
		q.visible <- message("m1")
		r.opts.Queue = q
		for range 3 { // restarts
			r.start()
			time.Sleep(time.Hour)
			r.end()
			time.Sleep(time.Hour)
		}
		if n := len(r.of("received")); n > 0 {
			t.Errorf("received %d times over three starts while paused all the time", n)
		}
	})

	inBubble(t, "a message that was received while paused is hidden until later", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Until, Until: time.Now().Add(time.Hour)} })
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")} // by the poll in the air
		synctest.Wait()
		equal(t, "messages", r.of("extend", "ack"), []string{"extend m1 by 25s"})
		time.Sleep(59 * time.Minute)
		if got := r.state().Applied.ETag; got != "v1" {
			t.Errorf("applied %s while paused", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.end()
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s after the pause", got)
		}
	})

	inBubble(t, "a pause during a build keeps it from activation", func(t *testing.T) {
		r := newRig(t)
		r.host.build = func(ctx context.Context) error { wait.For(ctx, time.Minute); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		time.Sleep(time.Hour)
		r.end()
		if got := r.of("activate"); len(got) != 0 {
			t.Errorf("activated: %q", got)
		}
		if s := r.state(); s.Intent != nil || s.Failure != nil {
			t.Errorf("state: %+v", s)
		}
	})
}

// a queue that redelivers as SQS does
type realQueue struct {
	*trace
	visible chan events.Delivery
}

func (q *realQueue) Receive(ctx context.Context) ([]events.Delivery, error) {
	poll := time.NewTimer(20 * time.Second)
	defer poll.Stop()
	select {
	case d := <-q.visible:
		q.add("received %s", d.ID)
		return []events.Delivery{d}, nil
	case <-poll.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *realQueue) Extend(_ context.Context, ds []events.Delivery, by time.Duration) error {
	for _, d := range ds {
		time.AfterFunc(by, func() { q.visible <- d })
	}
	return nil
}

func (q *realQueue) Ack(context.Context, []events.Delivery) error { return nil }
