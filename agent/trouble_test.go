package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
)

func TestTrouble(t *testing.T) {
	errNix := fmt.Errorf("%w: exec: \"nix\": executable file not found", nix.ErrMachine)
	for _, c := range []struct {
		name, kind string
		status     record.Status // of the record meanwhile
		begin      func(r *rig)
		end        func(r *rig)
	}{
		{"the store refuses to be read", "store", record.Applied,
			func(r *rig) { r.store.set(func(s *fakeStore) { s.latestErr = errors.New("403 Forbidden") }) },
			func(r *rig) { r.store.set(func(s *fakeStore) { s.latestErr = nil }) }},
		{"the flake cannot be fetched", "fetch", record.Building,
			func(r *rig) { r.store.set(func(s *fakeStore) { s.fetchErr = errors.New("412 Precondition Failed") }) },
			func(r *rig) { r.store.set(func(s *fakeStore) { s.fetchErr = nil }) }},
		{"nix is missing", "machine", record.Building,
			func(r *rig) {
				r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errNix } })
			},
			func(r *rig) { r.host.set(func(h *fakeHost) { h.build = nil }) }},
		{"config.json is damaged", "config", record.Applied,
			func(r *rig) { write(r.t, r.dir.ConfigPath(), `{"remote"`) },
			func(r *rig) { write(r.t, r.dir.ConfigPath(), `{"remote": "`+testRemote+`", "configuration": "web1"}`) }},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			r := newRig(t)
			r.start()
			synctest.Wait()
			c.begin(r)
			r.store.set(func(s *fakeStore) { s.etag = "v2" })
			r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
			r.queue.in <- []events.Delivery{message("m1")}
			began := time.Now()
			time.Sleep(time.Minute)
			told := r.store.lastRecord()
			if told.Trouble == nil || told.Trouble.Kind != c.kind || told.Trouble.Error == "" || told.Trouble.Since.Before(began.Add(-time.Minute)) {
				t.Errorf("a minute later the record tells of %+v", told.Trouble)
			}
			if c.kind == "store" && told.Version.ETag != "v1" || told.Status != c.status {
				t.Errorf("the record says %s of %s", told.Status, told.Version.ETag)
			}
			r.mark()
			time.Sleep(30 * time.Minute)
			if n := len(r.of("record")); n > 30 {
				t.Errorf("%d records in half an hour of trouble: %q", n, r.of("record"))
			}
			if still := r.store.lastRecord().Trouble; still == nil || !still.Since.Equal(told.Trouble.Since) {
				t.Errorf("half an hour later the record tells of %+v, not of %+v", still, told.Trouble)
			}
			c.end(r)
			time.Sleep(15 * time.Minute)
			r.end()
			if rec := r.store.lastRecord(); rec.Trouble != nil || rec.Status != record.Applied || rec.Version.ETag != "v2" {
				t.Errorf("afterwards the record says %s of %s, and tells of %+v", rec.Status, rec.Version.ETag, rec.Trouble)
			}
		})
	}

	inBubble(t, "a poll beside a build finds it, and that it is over", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 50*time.Minute); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("403 Forbidden") })
		time.Sleep(25 * time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.Building || rec.Trouble == nil || rec.Trouble.Kind != "store" {
			t.Errorf("the record says %s, and tells of %+v", rec.Status, rec.Trouble)
		}
		if n := r.logs.count("403 Forbidden"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		r.store.set(func(s *fakeStore) { s.latestErr = nil })
		time.Sleep(15 * time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.Building || rec.Trouble != nil {
			t.Errorf("afterwards the record says %s, and tells of %+v", rec.Status, rec.Trouble)
		}
		time.Sleep(15 * time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v2" || rec.Trouble != nil {
			t.Errorf("the record says %s of %s, and tells of %+v", rec.Status, rec.Version.ETag, rec.Trouble)
		}
	})

	inBubble(t, "an agent that meets it at its start says what it remembers", func(t *testing.T) {
		r := newRig(t)
		r.applied("v1")
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("403 Forbidden") })
		r.start()
		synctest.Wait()
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v1" || rec.Trouble == nil {
			t.Errorf("the record says %s of %q, and tells of %+v", rec.Status, rec.Version.ETag, rec.Trouble)
		}
	})
}
