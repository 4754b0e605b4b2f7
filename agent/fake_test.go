package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) applied(etag string) {
	r.t.Helper()
	t := Target{Remote: testRemote, Configuration: "web1", ETag: etag}
	if err := saveState(r.dir, State{Applied: &Applied{Target: t, At: time.Now()}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) fails(f Failure) {
	r.t.Helper()
	if err := saveState(r.dir, State{Failure: &f}); err != nil {
		r.t.Fatal(err)
	}
}

const testRemote = "s3://bucket/npcnix/remotes/dev.npcnix"

// trace is what happened, in order.
type trace struct {
	mu    sync.Mutex
	steps []string
	times []time.Time
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, fmt.Sprintf(format, args...))
	t.times = append(t.times, time.Now())
}

// of returns the steps that begin with one of the words, in order.
func (t *trace) of(words ...string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, s := range t.steps {
		for _, w := range words {
			if strings.HasPrefix(s, w) {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// mark forgets what happened so far.
func (t *trace) mark() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps, t.times = nil, nil
}

// when returns the times of the steps that begin with word, since the first of them.
func (t *trace) when(word string) []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []time.Duration
	var first time.Time
	for i, s := range t.steps {
		if strings.HasPrefix(s, word) {
			if first.IsZero() {
				first = t.times[i]
			}
			out = append(out, t.times[i].Sub(first))
		}
	}
	return out
}

type fakeStore struct {
	*trace
	mu        sync.Mutex
	etag      string
	modified  time.Time
	object    []byte        // what Tail tells of
	ahead     time.Duration // of the host's clock is the store's
	latestErr error
	fetchErr  error
	fetching  func(context.Context) error // beside it, if not nil
	recordErr error
	records   []record.Record
	copies    []string // "FOLDER/HOST STATUS ETAG"
	copyErr   error

	announced   string // of the last look
	announcedAt time.Time
}

func (s *fakeStore) set(f func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *fakeStore) Latest(ctx context.Context, have store.Version) (store.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add("latest %s", s.etag)
	return store.Version{ETag: s.etag, Modified: s.modified}, s.latestErr
}

func (s *fakeStore) LatestAnnounced(ctx context.Context, have store.Version, etag string, at time.Time) (store.Version, error) {
	s.set(func(s *fakeStore) { s.announced, s.announcedAt = etag, at })
	return s.Latest(ctx, have)
}

func (s *fakeStore) Tail(_ context.Context, v store.Version, n int64) (store.Tail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.ETag != s.etag {
		return store.Tail{}, store.ErrChanged
	}
	return store.Tail{Data: s.object[max(0, len(s.object)-int(n)):], Now: time.Now().Add(s.ahead)}, nil
}

func (s *fakeStore) FetchSigned(ctx context.Context, v store.Version, _ store.Archive, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add("fetch %s", v.ETag)
	if fetching := s.fetching; fetching != nil {
		s.mu.Unlock()
		err := fetching(ctx)
		s.mu.Lock()
		return err
	}
	if s.fetchErr == nil && v.ETag != s.etag {
		return store.ErrChanged
	}
	return s.fetchErr
}

func (s *fakeStore) PutRecord(ctx context.Context, host string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r record.Record
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	s.add("record %s %s", r.Status, r.Version.ETag)
	if s.recordErr == nil {
		s.records = append(s.records, r)
	}
	return s.recordErr
}

func (s *fakeStore) PutRecordCopy(_ context.Context, folder, host string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r record.Record
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	if s.copyErr == nil {
		s.copies = append(s.copies, fmt.Sprintf("%s/%s %s %s", folder, host, r.Status, r.Version.ETag))
	}
	return s.copyErr
}

func (s *fakeStore) lastRecord() record.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		return record.Record{}
	}
	return s.records[len(s.records)-1]
}

// fakeQueue redelivers nothing by itself: tests put every delivery.
type fakeQueue struct {
	*trace
	in  chan []events.Delivery
	mu  sync.Mutex
	err error // of Receive
	ack error // of Ack
}

func (q *fakeQueue) setErr(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
}

func (q *fakeQueue) setAckErr(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ack = nil
	if on {
		q.ack = errors.New("forbidden")
	}
}

func (q *fakeQueue) Receive(ctx context.Context) ([]events.Delivery, error) {
	q.mu.Lock()
	err := q.err
	q.mu.Unlock()
	q.add("receive")
	if err != nil {
		return nil, err
	}
	poll := time.NewTimer(20 * time.Second)
	defer poll.Stop()
	select {
	case ds := <-q.in:
		return ds, nil
	case <-poll.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func ids(ds []events.Delivery) string {
	var out []string
	for _, d := range ds {
		out = append(out, d.ID)
	}
	if len(out) > 3 {
		return fmt.Sprintf("(%d)", len(out))
	}
	return strings.Join(out, ",")
}

func (q *fakeQueue) Extend(ctx context.Context, ds []events.Delivery, by time.Duration) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	q.add("extend %s by %s", ids(ds), by.Round(time.Second))
	return nil
}

func (q *fakeQueue) Ack(ctx context.Context, ds []events.Delivery) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	q.add("ack %s", ids(ds))
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ack
}

func message(id string) events.Delivery {
	return events.Delivery{ID: id, Receives: 1, Notices: []events.Notice{{Bucket: "bucket", Key: "npcnix/remotes/dev.npcnix"}}}
}

// rig is an agent on fakes and a real data directory.
type rig struct {
	*trace
	t     *testing.T
	dir   config.Dir
	store *fakeStore
	host  *fakeHost
	queue *fakeQueue
	poke  chan struct{}
	logs  *syncBuffer
	opts  Options
	done  chan error
	stop  context.CancelFunc
}

func newRig(t *testing.T, change ...func(*config.Config)) *rig {
	t.Helper()
	tr := &trace{}
	r := &rig{
		trace: tr, t: t, dir: config.Dir(t.TempDir()),
		store: &fakeStore{trace: tr, etag: "v1"},
		host:  &fakeHost{trace: tr, system: "/nix/store/sys-1"},
		queue: &fakeQueue{trace: tr, in: make(chan []events.Delivery)},
		poke:  make(chan struct{}),
		logs:  &syncBuffer{},
	}
	r.configure(func(c *config.Config) {
		c.Remote, c.Configuration = testRemote, "web1"
		for _, f := range change {
			f(c)
		}
	})
	r.opts = Options{
		Dir: r.dir, Name: "web1", Store: r.store, Host: r.host, Queue: r.queue, Poke: r.poke, Version: "test",
		Ours: func(n events.Notice) bool { return n.Bucket == "bucket" && n.Key == "npcnix/remotes/dev.npcnix" },
		Log:  slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	return r
}

func (r *rig) configure(f func(*config.Config)) {
	r.t.Helper()
	err := r.dir.UpdateConfig(r.t.Context(), func(c *config.Config) error { f(c); return nil })
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start() {
	r.t.Helper()
	c, err := r.dir.LoadConfig()
	if err != nil {
		r.t.Fatal(err)
	}
	if r.opts.Override != nil {
		if c, err = r.opts.Override(c); err != nil {
			r.t.Fatal(err)
		}
	}
	r.opts.Config = c
	a, err := New(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop = cancel
	r.done = make(chan error, 1)
	go func() { r.done <- a.Run(ctx) }()
}

// end stops the agent and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	return <-r.done
}

func (r *rig) state() State {
	r.t.Helper()
	s, err := ReadState(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

var errBuild = errors.New("build failed")

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

// inBubble runs a subtest in which time passes at once.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
