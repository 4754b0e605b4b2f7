package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
)

func TestMessages(t *testing.T) {
	inBubble(t, "a failed attempt hides its message until the next", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{1000} })
		r.host.build = func(context.Context) error { return errBuild }
		r.store.latestErr = errors.New("not yet") // so that the start leaves no failure behind
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.latestErr = nil })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		f := r.state().Failure
		want := fmt.Sprintf("extend m1 by %s", time.Duration(f.DelaySecs*float64(time.Second)).Round(time.Second))
		r.end()
		equal(t, "extensions", r.of("extend"), []string{want})
	})

	inBubble(t, "a transient error keeps its message, and extends the lease", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag, s.latestErr = "v2", errors.New("503") })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(20*time.Minute + time.Second)
		r.store.set(func(s *fakeStore) { s.latestErr = nil })
		time.Sleep(4 * time.Minute)
		r.end()
		held := r.of("extend", "ack")
		if len(held) < 30 || held[len(held)-1] != "ack m1" {
			t.Errorf("messages: %q", held)
		}
		for _, step := range held[:len(held)-1] {
			if step != "extend m1 by 2m0s" {
				t.Errorf("released: %s", step)
			}
		}
	})

	inBubble(t, "a lease is extended at a third of its time, while work goes on and not after", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 3*time.Minute+time.Second); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Hour)
		r.end()
		got := r.of("extend", "ack")
		want := []string{"extend m1 by 2m0s", "extend m1 by 2m0s", "extend m1 by 2m0s", "extend m1 by 2m0s", "ack m1"}
		equal(t, "extensions", got, want)
	})

	inBubble(t, "a message is given up after eleven hours", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.BuildTimeoutSecs = new(int64) })
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 13*time.Hour); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(14 * time.Hour)
		r.end()
		times := r.when("extend")
		if last := times[len(times)-1]; last >= 11*time.Hour || last < 11*time.Hour-2*time.Minute {
			t.Errorf("extended last after %s", last)
		}
		if acks := r.of("ack"); len(acks) != 0 {
			t.Errorf("acknowledged what was given up: %q", acks)
		}
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
	})

	inBubble(t, "messages of the doctor's probe are deleted, and not worth a warning", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		probe := message("probe")
		probe.Notices[0].Key += events.ProbeMark + "abc-1.npcnix"
		r.queue.in <- []events.Delivery{probe}
		synctest.Wait()
		r.end()
		equal(t, "acks", r.of("ack"), []string{"ack probe"})
		if n := r.logs.count("level=WARN"); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})

	inBubble(t, "messages for others are deleted, and logged once per kind", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		before := len(r.of("latest"))
		for i := range 3 {
			foreign := message(fmt.Sprintf("foreign%d", i))
			foreign.Notices[0].Key = "other.npcnix"
			r.queue.in <- []events.Delivery{
				foreign,
				{ID: fmt.Sprintf("test%d", i)}, // s3:TestEvent: no notices, no word
				{ID: fmt.Sprintf("bad%d", i), Err: events.ErrMalformed},
			}
			synctest.Wait()
		}
		r.queue.in <- []events.Delivery{{ID: "odd", Err: events.ErrUnknown}}
		synctest.Wait()
		r.end()
		equal(t, "acks", r.of("ack"), []string{"ack foreign0,test0,bad0", "ack foreign1,test1,bad1", "ack foreign2,test2,bad2", "ack odd"})
		if n := len(r.of("latest")) - before; n != 0 {
			t.Errorf("%d reconciles", n)
		}
		if n := r.logs.count("further ones are only counted"); n != 3 {
			t.Errorf("logged %d times, want once per kind", n)
		}
	})
}

func TestBursts(t *testing.T) {
	inBubble(t, "a thousand messages at once cost two reconciles at most", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		before := len(r.of("latest"))
		var ds []events.Delivery
		for i := range 1000 {
			ds = append(ds, message(fmt.Sprint(i)))
		}
		r.queue.in <- ds
		synctest.Wait()
		r.end()
		if n := len(r.of("latest")) - before; n < 1 || n > 2 {
			t.Errorf("%d reconciles", n)
		}
		equal(t, "acks", r.of("ack"), []string{"ack (1000)"})
	})

	// The newest notice of a burst says which version a cache may still hide.
	inBubble(t, "the store is asked for the version that was announced last", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		now := time.Now()
		first, last := message("1"), message("2")
		first.Notices[0].ETag, first.Notices[0].At = "older", now.Add(-time.Minute)
		last.Notices[0].ETag, last.Notices[0].At = "newest", now
		r.queue.in <- []events.Delivery{last, first}
		synctest.Wait()
		r.end()
		if r.store.announced != "newest" || !r.store.announcedAt.Equal(now) {
			t.Errorf("announced was %s at %s", r.store.announced, r.store.announcedAt)
		}
	})

	inBubble(t, "a thousand messages one by one cost one look a second", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.mark()
		for i := range 1000 {
			r.queue.in <- []events.Delivery{message(fmt.Sprint(i))}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.end()
		if n := len(r.of("latest")); n < 1 || n > 4 { // in it the poll that follows a start
			t.Errorf("%d looks at the store", n)
		}
		equal(t, "acks", r.of("ack"), []string{"ack 0", "ack (999)"})
		// A new version does not wait after a publish that was applied.
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		begun := time.Now()
		r.queue.in <- []events.Delivery{message("new")}
		synctest.Wait()
		r.end()
		if got := r.state().Applied; got.ETag != "v2" || got.Times.Noticed.Sub(begun) != 0 {
			t.Errorf("applied: %+v", got)
		}
	})
}
