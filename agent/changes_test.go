package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
)

func TestChanges(t *testing.T) {
	second := func(t *testing.T, r *rig) {
		t.Helper()
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
	}

	inBubble(t, "the record and the state say which packages an activation has changed", func(t *testing.T) {
		r := newRig(t)
		r.opts.Changes = func(_ context.Context, from, to nix.System) []string {
			return []string{from.Path + " → " + to.Path}
		}
		second(t, r)
		r.end()
		want := []string{"/nix/store/sys-1 → /nix/store/sys-2"}
		equal(t, "record", r.store.lastRecord().Changes, want)
		equal(t, "state", r.state().Applied.Changes, want)
	})

	inBubble(t, "an activation does not wait for the comparison, and ends it", func(t *testing.T) {
		r := newRig(t)
		ended := false
		r.opts.Changes = func(ctx context.Context, from, to nix.System) []string {
			<-ctx.Done()
			ended = true
			return nil
		}
		before := time.Now()
		second(t, r)
		r.end()
		if got := r.store.lastRecord(); got.Version.ETag != "v2" || len(got.Changes) > 0 || !ended || time.Since(before) > time.Second {
			t.Errorf("record: %+v, ended %v after %s", got, ended, time.Since(before))
		}
	})
}

func TestWhatIsToldOfChangesIsBounded(t *testing.T) {
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("tool-%d: 1 → 2", i)
	}
	got := boundedChanges(many)
	if len(got) != maxChanges+1 || got[0] != many[0] || got[maxChanges] != "and 10 more" {
		t.Errorf("%q", got)
	}
	long := []string{"tool: 1 → 2", strings.Repeat("x", maxChangeBytes)}
	equal(t, "a long line", boundedChanges(long), []string{"tool: 1 → 2", "and 1 more"})
	equal(t, "few", boundedChanges(many[:2]), many[:2])
}
