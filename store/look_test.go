package store_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// A server that ignores ranges, or the condition of a GET, would send the whole object at each look.
func TestServerWithoutRangesIsAskedByHead(t *testing.T) {
	servers := map[string]http.Handler{
		"ignores ranges":     without("Range", &webStore{}),
		"has no ETags":       &webStore{noETags: true},
		"ignores conditions": without("If-None-Match", &webStore{}),
	}
	for what, server := range servers {
		t.Run(what, func(t *testing.T) {
			g := newGate(t, server)
			url := g.url + "/remotes/dev.npcnix"
			noise := make([]byte, 100<<10)
			_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
			publish(t, open(t, url), packed(t, string(noise)))
			host, have := open(t, url), store.Version{}
			for range 3 {
				v, err := host.LatestAnnounced(t.Context(), have, "", time.Time{})
				if err != nil || have.ETag != "" && v != have {
					t.Fatalf("got %+v, %v; want %+v", v, err, have)
				}
				have = v
			}
			trace := g.take()
			if last := trace[len(trace)-1]; last.Method != http.MethodHead {
				t.Errorf("the last look was a %s: %v", last.Method, last.Header)
			}
			wantFetch(t, host, have, string(noise))
		})
	}
}

// without drops a header of GET requests.
func without(header string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			r.Header.Del(header)
		}
		next.ServeHTTP(w, r)
	})
}

func lookBringsTheEnd(t *testing.T, r rig, remote *store.Remote) {
	if r.requests == nil {
		return
	}
	archive := packed(t, "one")
	publish(t, remote, archive)
	host := open(t, r.url) // has published nothing
	look := func(have store.Version) store.Version {
		t.Helper()
		r.requests()
		v, err := host.LatestAnnounced(t.Context(), have, "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if trace := r.requests(); len(trace) != 1 || trace[0].Method != http.MethodGet || trace[0].Header.Get("Range") == "" {
			t.Errorf("want one GET of a range, got %v", trace)
		}
		return v
	}
	v := look(store.Version{})
	tail, err := host.Tail(t.Context(), v, 64<<10)
	if err != nil || !bytes.Equal(tail.Data, archive) || tail.Now.IsZero() {
		t.Errorf("the end has %d bytes, %v, at %s", len(tail.Data), err, tail.Now)
	}
	wantFetch(t, host, v, "one")
	if trace := r.requests(); len(trace) != 0 || v.Size != int64(len(archive)) {
		t.Errorf("%d more requests for %+v: %v", len(trace), v, trace)
	}

	if now := look(v); now != v {
		t.Errorf("an unchanged object became %+v", now)
	}
	noise := make([]byte, 100<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	large := packed(t, string(noise))
	publish(t, remote, large)
	now := look(v)
	if tail, err = host.Tail(t.Context(), now, 64<<10); err != nil || !bytes.Equal(tail.Data, large[len(large)-64<<10:]) {
		t.Errorf("the end of the large one has %d bytes, %v", len(tail.Data), err)
	}
	if trace := r.requests(); len(trace) != 0 || now.Size != int64(len(large)) {
		t.Errorf("%d more requests for %+v", len(trace), now)
	}
	if again := look(v); !again.Same(now) { // the host has rejected it
		t.Errorf("a version that was seen became %+v", again)
	}
	wantFetch(t, host, now, string(noise))
}
