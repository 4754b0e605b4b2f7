package agent

import (
	"errors"
	"log/slog"
	"sync"
)

// reporter logs what lasts once: a fault when it begins, when its kind changes and when it is
// over; a kind of message when it is first seen. The rest goes to the debug level.
type reporter struct {
	log *slog.Logger

	mu     sync.Mutex
	faults map[string]string // what is failing now → the kind of its error
	counts map[string]int
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, faults: map[string]string{}, counts: map[string]int{}}
}

// failed reports that what keeps failing.
func (r *reporter) failed(what, sentence string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind := errorKind(err)
	if was, failing := r.faults[what]; failing && was == kind {
		r.log.Debug(sentence, "error", err)
		return
	}
	r.faults[what] = kind
	r.log.Warn(sentence, "error", err)
}

// worked reports that what works, if it did not before.
func (r *reporter) worked(what, sentence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, failing := r.faults[what]; failing {
		delete(r.faults, what)
		r.log.Info(sentence)
	}
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

// errorKind tells errors apart without what differs each time, such as request ids: by the
// code that AWS's errors have.
func errorKind(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return "other"
}
