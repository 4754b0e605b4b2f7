package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// reporter logs what lasts once: a fault when it begins, when its kind changes and when it is
// over; a kind of message when it is first seen. What comes and goes is said once in a while.
// The rest goes to the debug level.
type reporter struct {
	log   *slog.Logger
	pulse *pulse // is told too, what lasts and what is over; may be nil

	mu     sync.Mutex
	faults map[string]*fault // by what fails
	counts map[string]int
}

type fault struct {
	failing bool
	kind    string    // of its error, as last said
	said    time.Time // when it was last said that it fails
	over    time.Time // when it was last over
}

// flapping is how long a fault that was over must have been said ago to be said again.
const flapping = 10 * time.Minute

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, faults: map[string]*fault{}, counts: map[string]int{}}
}

// failed reports that what keeps failing.
func (r *reporter) failed(what, sentence string, err error) {
	r.pulse.part(what, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.faults[what]
	if f == nil {
		f = &fault{}
		r.faults[what] = f
	}
	kind := errorKind(err)
	news := f.said.IsZero() ||
		f.kind != kind && time.Since(f.said) >= time.Minute ||
		!f.failing && time.Since(f.said) >= flapping
	f.failing = true
	if !news {
		r.log.Debug(sentence, "error", err)
		return
	}
	f.kind, f.said = kind, time.Now()
	r.log.Warn(sentence, "error", err)
}

// worked reports that what works, if it did not before.
func (r *reporter) worked(what, sentence string) {
	r.pulse.part(what, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.faults[what]
	if f == nil || !f.failing {
		return
	}
	f.failing = false
	level := slog.LevelInfo
	if !f.over.IsZero() && time.Since(f.over) < flapping {
		level = slog.LevelDebug
	}
	f.over = time.Now()
	r.log.Log(context.Background(), level, sentence)
}

// counted reports the first of a kind and counts the others.
func (r *reporter) counted(kind, sentence string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[kind]++
	if r.counts[kind] == 1 {
		r.log.Warn(sentence+"; further ones are only counted", args...)
		return
	}
	r.log.Debug(sentence, args...)
}

const otherKind = "other"

// errorKind tells errors apart without what differs each time, such as request ids: by the
// code that AWS's errors have.
func errorKind(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return otherKind
}
