package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

func TestTellingOfAFailure(t *testing.T) {
	broken := func(context.Context) error { return errBuild }
	told := func(t *testing.T, r *rig, want ...string) {
		t.Helper()
		r.store.set(func(s *fakeStore) {
			if !slices.Equal(s.copies, want) {
				t.Errorf("told %q, want %q", s.copies, want)
			}
		})
	}
	inBubble(t, "a publish that is applied tells nothing", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		time.Sleep(time.Hour)
		r.end()
		told(t, r)
	})
	inBubble(t, "a failure is told once, whatever happens then, and the recovery once", func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "bad" })
		r.host.set(func(h *fakeHost) { h.build = broken })
		time.Sleep(2 * time.Hour)
		told(t, r, "failed/web1 rejected bad")
		r.end()
		r.start()
		time.Sleep(time.Hour)
		told(t, r, "failed/web1 rejected bad")
		r.store.set(func(s *fakeStore) { s.etag = "worse" })
		time.Sleep(2 * time.Hour)
		told(t, r, "failed/web1 rejected bad", "failed/web1 rejected worse")
		r.end()
		r.store.set(func(s *fakeStore) { s.etag = "good" })
		r.host.set(func(h *fakeHost) { h.build = nil })
		r.start()
		time.Sleep(2 * time.Hour)
		r.end()
		told(t, r, "failed/web1 rejected bad", "failed/web1 rejected worse", "recovered/web1 applied good")
	})
	t.Run("the next object of the same release is not told again", func(t *testing.T) {
		s := &fakeStore{}
		a := &Agent{Options: Options{Name: "web1", Store: s, Log: slog.New(slog.DiscardHandler)}}
		r := &round{}
		for _, v := range []record.Version{{ETag: "a", Release: "r1"}, {ETag: "b", Release: "r1"}, {ETag: "c", Release: "r2"}} {
			a.tellFailure(t.Context(), r, record.Record{Status: record.RolledBack, Version: v})
		}
		if want := []string{"failed/web1 rolled_back a", "failed/web1 rolled_back c"}; !slices.Equal(s.copies, want) {
			t.Errorf("told %q, want %q", s.copies, want)
		}
	})
	inBubble(t, "what cannot be told now is told at a later look, logged once, and costs nothing else", func(t *testing.T) {
		r := newRig(t)
		r.store.set(func(s *fakeStore) { s.copyErr = errors.New("AccessDenied") })
		r.host.set(func(h *fakeHost) { h.build = broken })
		r.start()
		time.Sleep(3 * time.Hour)
		if n := r.logs.count("a failure or recovery cannot be told"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if rec := r.store.lastRecord(); rec.Status != "rejected" {
			t.Errorf("the record says %s", rec.Status)
		}
		r.store.set(func(s *fakeStore) { s.copyErr = nil })
		time.Sleep(time.Hour)
		r.end()
		told(t, r, "failed/web1 rejected v1")
	})
}
