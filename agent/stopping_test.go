package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
)

func TestStopping(t *testing.T) {
	inBubble(t, "during a build it releases the message and forgets the intent", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		if in := r.state().Intent; in == nil || in.ETag != "v2" || in.Status != record.Building {
			t.Errorf("intent: %+v", in)
		}
		begun := time.Now()
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if got := r.of("extend m1 by 2s", "ack"); len(got) != 1 {
			t.Errorf("messages: %q", got)
		}
		if s := r.state(); s.Intent != nil || s.Failure != nil {
			t.Errorf("state: %+v", s)
		}
	})

	inBubble(t, "during a switch it deletes or releases the message", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { time.Sleep(20 * time.Second); return nil }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(5 * time.Second)
		r.end()
		if got := r.of("ack", "extend"); len(got) == 0 {
			t.Errorf("applied %s, yet the message was neither deleted nor given back: %q", r.state().Applied.ETag, r.of("refused"))
		}
	})

	inBubble(t, "during an activation it leaves that to the next agent", func(t *testing.T) {
		r := newRig(t)
		r.host.activate = func() error { time.Sleep(time.Minute); return nil }
		r.start()
		time.Sleep(time.Second)
		r.end()
		s := r.state()
		if s.Applied != nil || s.Intent == nil || s.Intent.Status != record.Activating || s.Failure != nil {
			t.Fatalf("left to the next agent: %+v", s)
		}
		r.start()
		synctest.Wait()
		r.end()
		if a := r.state().Applied; a == nil || a.System != "/nix/store/sys-1" || a.Trigger != record.Start || a.Times.Built.IsZero() {
			t.Errorf("applied: %+v", a)
		}
		equal(t, "work", r.of("build", "activate"), []string{"build web1", "activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.System != "/nix/store/sys-1" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "with a network that hangs it ends all the same", func(t *testing.T) {
		r := newRig(t)
		r.opts.Store = hungStore{fakeStore: r.store}
		r.opts.Queue = hungExtend{r.queue}
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); time.Sleep(2 * time.Second); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(3 * time.Second)
		begun := time.Now()
		r.end()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})

	inBubble(t, "it is not taken for a recovery of the queue", func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = &hung{fakeQueue: r.queue}
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if n := r.logs.count("receiving from the queue again"); n != 0 {
			t.Errorf("said that the queue works again while stopping")
		}
	})
}

// hung fails once, then never answers.
type hung struct {
	*fakeQueue
	n int
}

func (q *hung) Receive(ctx context.Context) ([]events.Delivery, error) {
	q.n++
	if q.n == 1 {
		return nil, errors.New("gone")
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// hungStore never gets a record written.
type hungStore struct {
	*fakeStore
}

func (s hungStore) PutRecord(ctx context.Context, host string, body []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// hungExtend never answers.
type hungExtend struct{ *fakeQueue }

func (q hungExtend) Extend(ctx context.Context, ds []events.Delivery, by time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}
