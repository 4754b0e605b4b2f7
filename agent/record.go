package agent

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// Record is a host's acknowledgement: what has become of a version on it. It stands beside
// the remote, as <remote>.acks/<host>.json, and is the evidence a CI gate waits for.
type Record struct {
	Schema         int           `json:"schema"`
	Host           string        `json:"host"`
	Remote         string        `json:"remote"`
	Configuration  string        `json:"configuration"`
	Version        RecordVersion `json:"version"`
	State          RecordState   `json:"state"`
	System         string        `json:"system,omitempty"` // what runs
	PreviousSystem string        `json:"previous_system,omitempty"`
	Trigger        Trigger       `json:"trigger,omitempty"`
	Attempt        int           `json:"attempt,omitempty"`
	Error          string        `json:"error,omitempty"`
	LogTail        []string      `json:"log_tail,omitempty"`
	Warning        string        `json:"warning,omitempty"` // about the host, whatever the version
	RebootDue      bool          `json:"reboot_due,omitempty"`
	Agent          string        `json:"agent_version,omitempty"`
	Times          Times         `json:"times"`
}

// RecordVersion names the version that a record speaks of.
type RecordVersion struct {
	ETag string `json:"etag"`
	ID   string `json:"id,omitempty"`
}

// Times tells when a version reached each step. Published comes from the event or the store,
// the others from the host's clock.
type Times struct {
	Published    time.Time `json:"published,omitzero"`
	Noticed      time.Time `json:"noticed,omitzero"`
	Fetched      time.Time `json:"fetched,omitzero"`
	Built        time.Time `json:"built,omitzero"`
	Activated    time.Time `json:"activated,omitzero"`
	Acknowledged time.Time `json:"acknowledged,omitzero"`
}

// RecordState is what has become of a version.
type RecordState string

const (
	StateBuilding   RecordState = "building"
	StateActivating RecordState = "activating"
	StateApplied    RecordState = "applied"
	StateFailed     RecordState = "failed"
	StateRolledBack RecordState = "rolled_back"
	StateRejected   RecordState = "rejected"
	StatePaused     RecordState = "paused"
	StateDrifted    RecordState = "drifted"
)

const (
	// RecordSchema is the layout of records that this version writes.
	RecordSchema = 1

	recordTimeout = 10 * time.Second // for one attempt at writing a record

	// Of the texts in a record, in bytes, which JSON may make six times as many. One of more than
	// 1 MiB is not read by package store.
	maxError = 8 << 10
	maxTail  = 64 << 10
)

// says reports whether both records tell a reader the same.
func (r Record) says(o Record) bool {
	return r.Remote == o.Remote && r.Configuration == o.Configuration && r.Version.ETag == o.Version.ETag &&
		r.State == o.State && r.System == o.System && r.Attempt == o.Attempt && r.Error == o.Error &&
		r.Warning == o.Warning && r.RebootDue == o.RebootDue
}

// bounded returns at most the first n bytes of s, and says where it was cut.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// boundedTail returns the last lines, of at most n bytes in all.
func boundedTail(lines []string, n int) []string {
	for i, line := range slices.Backward(lines) {
		if n -= len(line); n < 0 {
			return lines[i+1:]
		}
	}
	return lines
}

// recorder writes a host's records, one at a time, the latest always last, without ever
// holding up the work: a host that may not write any works all the same.
type recorder struct {
	store Store
	host  string
	log   *reporter

	mu      sync.Mutex
	wanted  Record        // the latest
	seq     int           // its number
	tried   int           // number of the latest that was written, or tried once in vain
	refresh time.Duration // a record that stands for so long is written again; 0: never
	changed chan struct{} // closed, and replaced, when any of the above changes
}

func newRecorder(s Store, host string, log *reporter) *recorder {
	return &recorder{store: s, host: host, log: log, changed: make(chan struct{})}
}

// put asks for a record to be written, in place of any that waits. One that would say what
// the last one says is left out.
func (r *recorder) put(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seq > 0 && rec.says(r.wanted) {
		return
	}
	r.wanted = rec
	r.seq++
	close(r.changed)
	r.changed = make(chan struct{})
}

// setRefresh says how often to write a record that would say nothing new.
func (r *recorder) setRefresh(every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refresh != every {
		r.refresh = every
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// flush waits until the latest record was written, or tried once in vain, or ctx ends.
func (r *recorder) flush(ctx context.Context) {
	for {
		r.mu.Lock()
		done, changed := r.tried >= r.seq, r.changed
		r.mu.Unlock()
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

// run writes until ctx ends.
func (r *recorder) run(ctx context.Context) {
	written := 0
	var at time.Time // of the last write that succeeded
	pause := newBackOff(5*time.Second, 10*time.Minute)
	for ctx.Err() == nil {
		r.mu.Lock()
		rec, seq, changed, refresh := r.wanted, r.seq, r.changed, r.refresh
		r.mu.Unlock()
		if seq == written && !r.stale(ctx, at, seq, refresh, changed) {
			continue
		}
		err := r.write(ctx, rec)
		r.mu.Lock()
		r.tried = seq
		close(r.changed)
		r.changed = make(chan struct{})
		changed = r.changed
		newer := r.seq > seq
		r.mu.Unlock()
		if err == nil {
			written, at = seq, time.Now()
			pause.Reset()
			r.log.worked("record", "acknowledgement records can be written again")
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.log.failed("record", "the acknowledgement record cannot be written; the host is kept up to date all the same", err)
		if newer {
			continue
		}
		again := time.NewTimer(pause.NextBackOff())
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
}

// stale waits until the record that was written at the given time is to be written again, and returns
// false when something else is to be done before.
func (r *recorder) stale(ctx context.Context, at time.Time, seq int, refresh time.Duration, changed <-chan struct{}) bool {
	var due <-chan time.Time
	if refresh > 0 && seq > 0 {
		timer := time.NewTimer(jitter(refresh, 0.1) - time.Since(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return true
	case <-changed:
	case <-ctx.Done():
	}
	return false
}

func (r *recorder) write(ctx context.Context, rec Record) error {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	rec.Schema = RecordSchema
	rec.Host = r.host
	body, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return r.store.PutRecord(ctx, r.host, append(body, '\n'))
}
