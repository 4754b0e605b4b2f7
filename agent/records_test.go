package agent

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
)

func TestRecords(t *testing.T) {
	inBubble(t, "a restart leaves the record as it is", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		before := r.store.lastRecord()
		time.Sleep(time.Hour)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		after := r.store.lastRecord()
		if !after.Times.Acknowledged.Equal(before.Times.Acknowledged) || after.Times.Built.IsZero() {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})

	inBubble(t, "after a restart, the record of a version that failed has the times of its attempt", func(t *testing.T) {
		r := newRig(t)
		r.host.set(func(h *fakeHost) {
			h.build = func(context.Context) error { time.Sleep(3 * time.Second); return errBuild }
		})
		r.start()
		time.Sleep(time.Hour)
		r.end()
		before := r.store.lastRecord()
		r.start()
		time.Sleep(time.Minute)
		r.end()
		after := r.store.lastRecord()
		if took := before.Times.Acknowledged.Sub(before.Times.Fetched); before.Status != record.Rejected || took != 3*time.Second || !before.Times.Built.IsZero() {
			t.Errorf("before: %s after %s: %+v", before.Status, took, before.Times)
		}
		if !after.Times.Fetched.Equal(before.Times.Fetched) || !after.Times.Acknowledged.Equal(before.Times.Acknowledged) || !after.Times.Written.After(before.Times.Written) {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})

	inBubble(t, "a poll that finds nothing new leaves the record as it is", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		a := r.store.lastRecord()
		time.Sleep(13 * time.Minute)
		b := r.store.lastRecord()
		r.end()
		if b.Times.Built.IsZero() || b.Trigger != record.Event || !b.Times.Acknowledged.Equal(a.Times.Acknowledged) {
			t.Errorf("\nafter the event %s attempt %d %+v\nafter a poll    %s attempt %d %+v", a.Trigger, a.Attempt, a.Times, b.Trigger, b.Attempt, b.Times)
		}
	})

	inBubble(t, "the record of an earlier name is marked", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		r.opts.Name = "web2"
		r.store.set(func(s *fakeStore) { s.records = nil })
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if len(r.store.records) != 2 || r.store.records[0].Host != "web1" || r.store.records[0].RenamedTo != "web2" ||
			r.store.records[0].Status != record.Applied || r.store.records[1].Host != "web2" || r.store.records[1].RenamedTo != "" {
			t.Errorf("%+v", r.store.records)
		}
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if r.store.records[2].Host != "web2" || len(r.store.records) != 3 {
			t.Errorf("%+v", r.store.records)
		}
	})

	inBubble(t, "what an operator has chosen for the next boot is told", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		if w := r.store.lastRecord().Warning; w != "" {
			t.Errorf("warning %q", w)
		}
		r.host.set(func(h *fakeHost) { h.boots = "/nix/store/theirs" })
		time.Sleep(13 * time.Minute)
		if w := r.store.lastRecord().Warning; !strings.Contains(w, "boot default") {
			t.Errorf("warning %q", w)
		}
		r.host.set(func(h *fakeHost) { h.boots = "" })
		time.Sleep(13 * time.Minute)
		r.end()
		if w := r.store.lastRecord().Warning; w != "" {
			t.Errorf("warning %q", w)
		}
	})

	inBubble(t, "what failed at the boot is told beside it", func(t *testing.T) {
		r := newRig(t)
		m := &fakeMachine{trace: r.trace, booted: []string{"snippet 'users' failed"}}
		r.opts.Machine = m
		r.start()
		time.Sleep(time.Minute)
		if w := r.store.lastRecord().Warning; w != "the boot's activation failed in part: snippet 'users' failed" {
			t.Errorf("warning %q", w)
		}
		r.host.set(func(h *fakeHost) { h.boots = "/nix/store/theirs" })
		time.Sleep(13 * time.Minute)
		if w := r.store.lastRecord().Warning; !strings.Contains(w, "boot default") || !strings.Contains(w, "; the boot's activation") {
			t.Errorf("warning %q", w)
		}
		m.set(func() { m.booted = nil }) // as after a switch
		r.host.set(func(h *fakeHost) { h.boots = "" })
		time.Sleep(13 * time.Minute)
		r.end()
		if w := r.store.lastRecord().Warning; w != "" {
			t.Errorf("warning %q", w)
		}
	})

	inBubble(t, "a specialisation of the applied system counts as that", func(t *testing.T) {
		r := newRig(t)
		r.host.system = t.TempDir()
		if err := os.Mkdir(filepath.Join(r.host.system, "specialisation"), 0o755); err != nil {
			t.Fatal(err)
		}
		const special = "/nix/store/00000000000000000000000000000000-special"
		if err := os.Symlink(special, filepath.Join(r.host.system, "specialisation", "fancy")); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Minute)
		r.host.set(func(h *fakeHost) { h.running, h.boots = special, h.system })
		time.Sleep(13 * time.Minute)
		rec := r.store.lastRecord()
		if rec.Status != record.Applied || rec.System != special || rec.Running == nil || rec.Running.ETag != "v1" || rec.Warning != "specialisation fancy of the applied version runs" {
			t.Errorf("%+v", rec)
		}
		r.host.set(func(h *fakeHost) { h.running, h.boots = "/nix/store/00000000000000000000000000000000-another", "" })
		time.Sleep(13 * time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Drifted {
			t.Errorf("%+v", rec)
		}
	})

	inBubble(t, "a stale process gives way to another before it does anything", func(t *testing.T) {
		r := newRig(t)
		var stale atomic.Bool
		r.opts.Stale = stale.Load
		r.start()
		time.Sleep(time.Minute)
		stale.Store(true)
		r.trace.mark()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		if err := <-r.done; !errors.Is(err, ErrReconnect) {
			t.Errorf("%v; want another process", err)
		}
		if did := r.trace.of("build", "record", "ack"); len(did) > 0 {
			t.Errorf("it does %v", did)
		}
	})

	for _, c := range []struct {
		name  string
		build time.Duration
		want  []string
	}{
		{"work that ends within a moment has one record", 2 * time.Second, []string{"record applied v2"}},
		{"work that lasts is recorded too", 7 * time.Second, []string{"record building v2", "record applied v2"}},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			r := newRig(t)
			r.start()
			time.Sleep(time.Minute)
			r.mark()
			r.store.set(func(s *fakeStore) { s.etag = "v2" })
			r.host.set(func(h *fakeHost) {
				h.system, h.build = "/nix/store/sys-2", func(context.Context) error { time.Sleep(c.build); return nil }
			})
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Minute)
			r.end()
			got := slices.DeleteFunc(r.of("record"), func(s string) bool {
				return s == "record activating v2" // the switch is quick: the next may overtake it
			})
			equal(t, "the records", got, c.want)
		})
	}

	t.Run("a record that says nothing new is refreshed slowly", func(t *testing.T) {
		for _, c := range []struct {
			name      string
			secs      *int64
			low, high int // records in ten hours, the one of the activation included
		}{
			{"each hour", nil, 9, 13},
			{"as set", new(int64(7200)), 5, 7},
			{"never", new(int64(0)), 1, 1},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t, func(config *config.Config) { config.RecordRefreshSecs = c.secs })
				r.start()
				time.Sleep(10 * time.Hour)
				r.end()
				if n := len(r.of("record")); n < c.low || n > c.high {
					t.Errorf("%d records: %q", n, r.of("record"))
				}
			})
		}
	})

	inBubble(t, "after a failed activation it says what runs", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { h.running = "/nix/store/sys-2"; return errors.New("unit failed") }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		rec := r.store.lastRecord()
		r.end()
		if rec.System != "/nix/store/sys-2" {
			t.Errorf("runs sys-2, the record says %s", rec.System)
		}
	})

	inBubble(t, "it is short, whatever failed", func(t *testing.T) {
		r := newRig(t)
		f := Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true, Error: strings.Repeat("<", 600_000)}
		for range 40 {
			f.Tail = append(f.Tail, strings.Repeat("<", 4096))
		}
		f.Tail = append(f.Tail, "the end")
		r.fails(f)
		r.start()
		synctest.Wait()
		r.end()
		rec := r.store.lastRecord()
		body, err := json.MarshalIndent(rec, "", "  ")
		if err != nil || len(body) > 512<<10 || len(rec.LogTail) < 10 || rec.LogTail[len(rec.LogTail)-1] != "the end" || !strings.HasSuffix(rec.Error, "<…") {
			t.Errorf("a record of %d bytes, with %d lines: %v", len(body), len(rec.LogTail), err)
		}
	})

	inBubble(t, "one that cannot be written holds up nothing", func(t *testing.T) {
		r := newRig(t)
		r.store.recordErr = errors.New("forbidden")
		r.start()
		synctest.Wait()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		equal(t, "acks", r.of("ack"), []string{"ack m1"})
		time.Sleep(24 * time.Hour)
		if n := r.logs.count("forbidden"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		r.store.set(func(s *fakeStore) { s.recordErr = nil })
		time.Sleep(time.Hour)
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Applied {
			t.Errorf("record after the store allows it: %+v", rec)
		}
	})

	inBubble(t, "one that hangs does not hold up the next publish", func(t *testing.T) {
		r := newRig(t)
		r.opts.Store = hungStore{fakeStore: r.store}
		r.start()
		synctest.Wait()
		time.Sleep(time.Second)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		begun := time.Now()
		for (r.state().Applied.ETag != "v2") && time.Since(begun) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		took := time.Since(begun)
		r.end()
		if took > 3*time.Second {
			t.Errorf("v2 was applied after %s, as writing a record hung", took)
		}
	})
}
