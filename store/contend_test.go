package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// publishersContend has 20 publishers publish at once. Each looks, and publishes over what it saw; who comes too
// late looks again. So each version that was seen is replaced by one publisher, and no publish is lost.
func publishersContend(t *testing.T, r rig, remote *store.Remote) {
	if !r.lists || r.requests == nil {
		return // it has no conditional write
	}
	const publishers = 20
	var (
		mu       sync.Mutex
		replaced = map[string]string{} // by whom, by the ETag that was seen; "" is none
		late     int
		wg       sync.WaitGroup
	)
	for i := range publishers {
		wg.Go(func() {
			mine := open(t, r.url)
			archive := packed(t, fmt.Sprintf("of publisher %d", i))
			for {
				seen, err := mine.Latest(t.Context(), store.Version{})
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
					return
				}
				v, err := mine.PublishOver(t.Context(), bytes.NewReader(archive), int64(len(archive)), seen)
				mu.Lock()
				if errors.Is(err, store.ErrChanged) {
					late++
					mu.Unlock()
					continue
				}
				if other, twice := replaced[seen.ETag]; err != nil || twice {
					t.Errorf("publisher %d over %q: %v; %q had replaced it", i, seen.ETag, err, other)
				}
				replaced[seen.ETag] = v.ETag
				mu.Unlock()
				return
			}
		})
	}
	wg.Wait()

	last := ""
	for range publishers {
		next, found := replaced[last]
		if !found {
			t.Fatalf("nothing was published over %q: %v", last, replaced)
		}
		last = next
	}
	if now := latest(t, remote); now.ETag != last || late == 0 {
		t.Errorf("the store holds %s, the last of the chain is %s; %d came too late", now.ETag, last, late)
	}
}
