package agent

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
)

func TestPolling(t *testing.T) {
	inBubble(t, "with a healthy queue polls are ten minutes apart", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(8 * time.Hour)
		r.end()
		polls := r.when("latest")
		if first := polls[1]; first < 22*time.Second || first > 28*time.Second {
			t.Errorf("the first poll after the start came after %s", first)
		}
		for i := 2; i < len(polls); i++ {
			if pause := polls[i] - polls[i-1]; pause < 8*time.Minute || pause > 12*time.Minute {
				t.Fatalf("poll %d came after %s", i, pause)
			}
		}
		if len(polls) < 40 || len(polls) > 61 {
			t.Errorf("%d polls in 8 hours", len(polls))
		}
	})

	inBubble(t, "without a queue polls grow rarer since the last reconfiguration", func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = nil
		r.start()
		time.Sleep(26 * time.Hour)
		r.end()
		polls := r.when("latest")
		early, late := 0, 0
		for i := 1; i < len(polls); i++ {
			switch pause := polls[i] - polls[i-1]; {
			case pause < 5*time.Second || pause > 180*time.Second:
				t.Fatalf("poll %d came after %s", i, pause)
			case polls[i] < time.Hour:
				early++
			case polls[i] > 25*time.Hour:
				late++
			}
		}
		if early < 250 || early > 650 { // 5 to 10 s apart, ± 50 %
			t.Errorf("%d polls in the first hour", early)
		}
		if late < 20 || late > 45 { // 120 s apart, ± 50 %
			t.Errorf("%d polls in the last hour", late)
		}
	})

	inBubble(t, "what was announced and the store does not show is looked for at least each three minutes, for an hour", func(t *testing.T) {
		r := newRig(t)
		r.store.modified = time.Now()
		r.start()
		time.Sleep(time.Minute)
		r.mark()
		announce := func(id, etag string) {
			m := message(id)
			m.Notices[0].ETag, m.Notices[0].At = etag, time.Now()
			r.queue.in <- []events.Delivery{m}
		}
		announce("1", "v2")
		time.AfterFunc(30*time.Minute, func() { announce("again", "v2") }) // which does not begin another hour
		time.Sleep(2 * time.Hour)
		looks := r.when("latest")
		for i := 1; i < len(looks); i++ {
			if pause := looks[i] - looks[i-1]; looks[i] < time.Hour && pause > 4*time.Minute || looks[i] > 65*time.Minute && pause < 8*time.Minute {
				t.Errorf("look %d, after %s, came after %s", i, looks[i], pause)
			}
		}
		announce("2", "v3")
		time.Sleep(10 * time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "v3" })
		time.Sleep(4 * time.Minute)
		if got := r.state().Applied.ETag; got != "v3" {
			t.Errorf("applied is %s", got)
		}
		before := len(r.of("latest"))
		time.Sleep(7 * time.Minute)
		r.end()
		if n := len(r.of("latest")) - before; n > 1 {
			t.Errorf("%d more looks in 7 minutes after it was found", n)
		}
	})

	inBubble(t, "a receive that breaks is followed by one look at once, since messages may be lost with it", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.MinSleepSecs, c.MaxSleepSecs = 600, 600 })
		r.start()
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.setErr(errors.New("connection reset by peer"))
		r.mark()
		time.Sleep(20 * time.Second) // the next poll breaks, with the event of v2
		synctest.Wait()
		r.queue.setErr(nil)
		equal(t, "the first receive and the first look", r.of("receive", "latest")[:2], []string{"receive", "latest v2"})
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
		before := len(r.of("latest"))
		time.Sleep(7 * time.Minute)
		r.end()
		if n := len(r.of("latest")) - before; n != 1 {
			t.Errorf("%d more looks, want one when the queue works again", n)
		}
	})

	inBubble(t, "a queue that fails is replaced by polling, and recovers", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.queue.setErr(errors.New("queue is gone"))
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		time.Sleep(30 * time.Second) // within an hour of the last reconfiguration polls are 10 s apart at most, ± 50 %
		synctest.Wait()
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s: not healed by polling", got)
		}
		if n := r.logs.count("queue is gone"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		receives := r.when("receive")
		if n := len(receives); n < 50 || n > 150 {
			t.Errorf("%d receives in an hour, want pauses that grow to a minute ± 50 %%", n)
		}
		r.queue.setErr(nil)
		time.Sleep(3 * time.Minute)
		if n := r.logs.count("receiving from the queue again"); n != 1 {
			t.Errorf("said %d times that it heals", n)
		}
		before := len(r.of("latest"))
		time.Sleep(7 * time.Minute)
		if n := len(r.of("latest")) - before; n > 1 {
			t.Errorf("%d polls in 7 minutes with a queue that works again", n)
		}
		r.end()
	})
}
