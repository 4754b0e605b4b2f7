package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

const remote = "s3://fleet/npcnix/remotes/dev.npcnix"

// fakeStore is a remote in memory. Its clock is the bubble's, set off by skew.
type fakeStore struct {
	mu       sync.Mutex
	skew     time.Duration
	version  store.Version
	cached   store.Version // answered instead, where it has an ETag
	objects  map[string]stored
	fails    error // of every request
	noList   bool
	noETags  bool // of records
	requests map[string]int
}

type stored struct {
	info store.RecordInfo
	body []byte
}

func newStore(etag string) *fakeStore {
	s := &fakeStore{objects: map[string]stored{}, requests: map[string]int{}}
	s.publish(etag)
	return s
}

func (s *fakeStore) publish(etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = store.Version{ETag: etag, Modified: time.Now().Add(s.skew)}
}

// put stores a record's text as it is.
func (s *fakeStore) put(host, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.objects[host].info.ETag + "x"
	s.objects[host] = stored{store.RecordInfo{Host: host, ETag: n, Modified: time.Now().Add(s.skew)}, []byte(body)}
}

// says stores a record: further members are given as name, value pairs.
func (s *fakeStore) says(host, state, etag string, more ...any) {
	r := map[string]any{
		"schema": record.Schema, "host": host, "remote": remote + "?region=eu-west-1", "configuration": host,
		"version": map[string]string{"etag": etag}, "status": state, "attempt": 1,
	}
	for i := 0; i < len(more); i += 2 {
		r[more[i].(string)] = more[i+1]
	}
	body, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	s.put(host, string(body))
}

func (s *fakeStore) forget(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, host)
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

func (s *fakeStore) ask(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[what]++
	return s.fails
}

func (s *fakeStore) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

func (s *fakeStore) URL() string { return remote }

func (s *fakeStore) Latest(context.Context, store.Version) (store.Version, error) {
	err := s.ask("head")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cached.ETag != "" {
		return s.cached, err
	}
	if err == nil && s.version.ETag == "" {
		err = store.ErrNotFound
	}
	return s.version, err
}

// cache has the store answer for so long with what it holds now.
func (s *fakeStore) cache(t *testing.T, d time.Duration) store.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cached = s.version
	at(t, d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cached = store.Version{}
	})
	return s.cached
}

func (s *fakeStore) Records(context.Context) ([]store.RecordInfo, error) {
	if s.noList {
		return nil, store.ErrNoListing
	}
	err := s.ask("list")
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []store.RecordInfo
	for _, o := range s.objects {
		if s.noETags {
			o.info.ETag = ""
		}
		infos = append(infos, o.info)
	}
	return infos, err
}

func (s *fakeStore) StatRecord(_ context.Context, host string) (store.RecordInfo, error) {
	err := s.ask("stat")
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.objects[host]
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return o.info, err
}

func (s *fakeStore) GetRecord(_ context.Context, host string) ([]byte, error) {
	err := s.ask("get")
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.objects[host]
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return o.body, err
}

// watcher is a view that keeps what it is shown, as text.
type watcher struct{ events []string }

func (w *watcher) Update(_ Progress, changed []Host) {
	for _, h := range changed {
		w.events = append(w.events, h.Name+" "+h.State)
	}
}
func (w *watcher) Note(msg string) { w.events = append(w.events, "note "+msg) }
func (w *watcher) End(r Result)    { w.events = append(w.events, "end "+string(r.Outcome)) }

func (w *watcher) count(part string) int {
	n := 0
	for _, e := range w.events {
		if strings.Contains(e, part) {
			n++
		}
	}
	return n
}

// at runs f after d in the bubble.
func at(t *testing.T, d time.Duration, f func()) {
	go func() {
		if Sleep(t.Context(), d) {
			f()
		}
	}()
}

// wantWait waits for a version and compares how that ends: the outcome, after how many seconds,
// and the verdicts as "host verdict" in order.
func wantWait(t *testing.T, o Options, etag string, outcome Outcome, after time.Duration, verdicts ...string) Result {
	t.Helper()
	gate, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r, err := gate.WaitFor(t.Context(), store.Version{ETag: etag}, Named)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != outcome || time.Since(began) != after {
		t.Errorf("%s after %s, want %s after %s: %v", r.Outcome, time.Since(began), outcome, after, r.Err())
	}
	var got []string
	for _, h := range r.Hosts {
		got = append(got, fmt.Sprintf("%s %s", h.Name, h.Verdict))
	}
	if !slices.Equal(got, verdicts) {
		t.Errorf("got %q, want %q", got, verdicts)
	}
	if (r.Err() == nil) != (outcome == Passed) {
		t.Errorf("%s with error %v", outcome, r.Err())
	}
	return r
}

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }
