package record

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/wait"
)

const (
	putTimeout = 10 * time.Second // for one attempt
	workGrace  = 3 * time.Second  // for work that is under way, before a record says so; up to twice that, by chance

	firstPause = 5 * time.Second // after a failed attempt; later ones are longer
	mostPause  = 10 * time.Minute
)

// Store takes a host's record.
type Store interface {
	PutRecord(ctx context.Context, host string, body []byte) error
}

// Writer writes a host's records, one at a time, the latest always last, and never holds up the work. Work
// that ends within a moment has one record, of its end: when a publish wakes a fleet, the store is busy.
type Writer struct {
	store  Store
	host   string
	report func(error) // after each attempt; nil if it succeeded

	mu          sync.Mutex
	wanted      Record   // the latest
	trouble     *Trouble // that it tells of besides
	unhealthy   string   // so does it of this
	healthySecs int64
	seq         int           // its number
	tried       int           // number of the latest that was attempted
	due         time.Time     // when the latest is to be written, if it tells of work; zero: at once
	refresh     time.Duration // after which an unchanged record is written again; 0: never
	changed     chan struct{} // closed, and replaced, when any of the above changes
}

// NewWriter returns the writer of host's records. It calls report after each attempt, with nil if the
// record was written.
func NewWriter(s Store, host string, report func(error)) *Writer {
	return &Writer{store: s, host: host, report: report, changed: make(chan struct{})}
}

// Put asks for a record to be written, in place of any that waits. A record that would tell what the last
// one tells is omitted. One that tells of work under way is written once that has lasted 3 to 6 seconds: a fleet that
// a publish wakes must not tell of it in step.
func (w *Writer) Put(r Record) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.seq > 0 && r.tells(w.wanted) {
		return
	}
	w.wanted = r
	switch {
	case r.Status != Building && r.Status != Activating:
		w.due = time.Time{}
	case w.due.IsZero():
		w.due = time.Now().Add(workGrace + rand.N(workGrace))
	}
	w.seq++
	w.signal()
}

// Has reports whether a record was put.
func (w *Writer) Has() bool {
	w.mu.Lock()
	defer w.mu.Unlock()

	return w.seq > 0
}

// SetTrouble says what trouble each record tells of from now on; nil: none. The latest record is written
// again if the kind of trouble has changed. The error's words, which can differ each time, are not worth that.
func (w *Writer) SetTrouble(t *Trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()

	was := w.trouble
	w.trouble = t
	if w.seq > 0 && ((was == nil) != (t == nil) || t != nil && t.Kind != was.Kind) {
		w.seq++
		w.signal()
	}
}

// SetHealth says what each record tells of the health of what runs from now on. The latest record is written again
// if that is news: that what runs is unhealthy, is not any more, or was healthy for as long as was asked. That
// nothing is known yet is no news.
func (w *Writer) SetHealth(unhealthy string, healthySecs int64) {
	w.mu.Lock()
	defer w.mu.Unlock()

	news := (unhealthy == "") != (w.unhealthy == "") || healthySecs > w.healthySecs
	w.unhealthy, w.healthySecs = unhealthy, healthySecs
	if w.seq > 0 && news {
		w.seq++
		w.signal()
	}
}

// SetRefresh says after what time an unchanged record is written again. 0: never.
func (w *Writer) SetRefresh(after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.refresh != after {
		w.refresh = after
		w.signal()
	}
}

// signal wakes whoever waits for a change. The caller holds the lock.
func (w *Writer) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Flush waits until the latest record was attempted, or ctx ends.
func (w *Writer) Flush(ctx context.Context) {
	w.mu.Lock()
	w.due = time.Time{}
	w.signal()
	w.mu.Unlock()

	for {
		w.mu.Lock()
		done, changed := w.tried >= w.seq, w.changed
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	written := 0
	var at time.Time // of the last success
	pause := wait.NewBackOff(firstPause, mostPause)

	for ctx.Err() == nil {
		w.mu.Lock()
		next, seq, refresh, due := w.wanted, w.seq, w.refresh, w.due
		next.Trouble, next.Unhealthy, next.HealthySecs = w.trouble, w.unhealthy, w.healthySecs
		var changed <-chan struct{} = w.changed
		w.mu.Unlock()
		if seq == written && !stale(ctx, at, seq, refresh, changed) {
			continue
		}
		if early := time.Until(due); seq != written && early > 0 && !either(ctx, changed, early) {
			continue
		}

		err := Write(ctx, w.store, w.host, next)
		newer, changed := w.attempted(seq)
		if err == nil {
			written, at = seq, time.Now()
			pause.Reset()
			w.report(nil)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		w.report(err)
		if !newer {
			either(ctx, changed, pause.NextBackOff())
		}
	}
}

// attempted takes note of an attempt and reports whether a newer record waits.
func (w *Writer) attempted(seq int) (newer bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.tried = seq
	w.signal()

	return w.seq > seq, w.changed
}

// stale waits until the record that was written at the given time is to be written again, and returns
// false when something else is to be done before.
func stale(ctx context.Context, at time.Time, seq int, refresh time.Duration, changed <-chan struct{}) bool {
	if refresh <= 0 || seq == 0 {
		select {
		case <-changed:
		case <-ctx.Done():
		}
		return false
	}

	return either(ctx, changed, wait.Jitter(refresh, 0.1)-time.Since(at))
}

// either waits for a change, the end of ctx, or the given time, and reports whether the time was first.
func either(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return true
	case <-changed:
	case <-ctx.Done():
	}

	return false
}

// Write writes the record of a host, once.
func Write(ctx context.Context, s Store, host string, r Record) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()

	r.Schema, r.Host, r.Times.Written = Schema, host, time.Now().UTC()
	body, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}

	return s.PutRecord(ctx, host, append(body, '\n'))
}
