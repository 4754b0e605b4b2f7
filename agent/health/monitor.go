package health

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/wait"
)

const (
	// flapping is how long ago a condition must have been logged for it to be logged again after it was
	// over.
	flapping = 10 * time.Minute
	// newCause is how long ago it must have been logged for another cause of it to be logged.
	newCause = time.Minute
	// pace is the time between two writes of agent.json.
	pace = time.Second
)

// Monitor keeps an agent's health and logs its changes. It is safe for concurrent use.
type Monitor struct {
	log     *slog.Logger
	dir     config.Dir    // "" writes no file
	runtime string        // the file in place of the one in dir while that cannot be written
	changed chan struct{} // holds one when there is something to write
	watch   func(Health)  // is told each change; nil: nobody

	mu     sync.Mutex
	now    Health
	faults map[Code]*fault
	counts map[string]int
}

type fault struct {
	failing bool
	kind    string    // of its error, as last logged
	logged  time.Time // that it fails
	over    time.Time // when it last was
}

// New returns the monitor of an agent that logs to log. With an empty dir it writes no agent.json: a run
// beside the long-running agent leaves that agent's alone.
func New(dir config.Dir, version string, log *slog.Logger) *Monitor {
	m := &Monitor{
		log: log, dir: dir, runtime: runtimeFile(dir), changed: make(chan struct{}, 1),
		faults: map[Code]*fault{}, counts: map[string]int{},
		now: Health{Schema: schema, PID: os.Getpid(), Started: time.Now().UTC(), Version: version},
	}
	m.changed <- struct{}{}

	return m
}

// Failing takes note that what code names fails.
func (m *Monitor) Failing(code Code, err error) {
	m.part(code, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.faults[code]
	if f == nil {
		f = &fault{}
		m.faults[code] = f
	}

	kind := errorKind(err)
	news := f.logged.IsZero() ||
		f.kind != kind && time.Since(f.logged) >= newCause ||
		!f.failing && time.Since(f.logged) >= flapping
	f.failing = true
	if !news {
		m.log.Debug(conditions[code].fails, "error", err)
		return
	}

	f.kind, f.logged = kind, time.Now()
	m.log.Warn(conditions[code].fails, "error", err)
}

// Working takes note that what the codes name works.
func (m *Monitor) Working(codes ...Code) {
	for _, code := range codes {
		m.working(code)
	}
}

func (m *Monitor) working(code Code) {
	m.part(code, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.faults[code]
	if f == nil || !f.failing {
		return
	}

	f.failing = false
	level := slog.LevelInfo
	if !f.over.IsZero() && time.Since(f.over) < flapping {
		level = slog.LevelDebug
	}
	f.over = time.Now()
	m.log.Log(context.Background(), level, conditions[code].works)
}

// Count logs the first event of a kind, and only counts the others.
func (m *Monitor) Count(kind, sentence string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.counts[kind]++; m.counts[kind] == 1 {
		m.log.Warn(sentence+"; further ones are only counted", args...)
		return
	}
	m.log.Debug(sentence, args...)
}

// Debug logs a detail.
func (m *Monitor) Debug(sentence string, args ...any) { m.log.Debug(sentence, args...) }

// Watch has watch told the health, now and at each change. It must not call the monitor.
func (m *Monitor) Watch(watch func(Health)) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.watch = watch
	watch(m.now)
}

// Update changes the health.
func (m *Monitor) Update(change func(*Health)) {
	m.mu.Lock()
	defer m.mu.Unlock()

	before := m.now
	before.Parts = maps.Clone(before.Parts)
	change(&m.now)
	if reflect.DeepEqual(before, m.now) {
		return
	}

	if m.watch != nil {
		m.watch(m.now)
	}
	select {
	case m.changed <- struct{}{}:
	default: // it is about to be written
	}
}

// part takes note of whether a part works; err is nil if it does.
func (m *Monitor) part(code Code, err error) {
	if !conditions[code].shown {
		return
	}

	m.Update(func(now *Health) {
		p := Part{Works: err == nil, Since: time.Now().UTC()}
		if err != nil {
			p.Error, p.kind = err.Error(), errorKind(err)
		}
		was, known := now.Parts[code]
		if known && was.Works == p.Works {
			if was.kind == p.kind && (was.Error == p.Error || p.kind != otherKind) {
				return
			}
			p.Since = was.Since
		}
		if now.Parts == nil {
			now.Parts = map[Code]Part{}
		}
		now.Parts[code] = p
	})
}

// Run writes agent.json when the health changes, at most once a second, until ctx ends. What cannot be
// written is left: a reader then finds an agent that runs and tells nothing.
func (m *Monitor) Run(ctx context.Context) {
	if m.dir == "" {
		<-ctx.Done()
		return
	}

	for {
		select {
		case <-m.changed:
			m.write()
			wait.For(ctx, pace)
			continue
		case <-ctx.Done():
		}
		select {
		case <-m.changed:
			m.write()
		default:
		}
		return
	}
}

func (m *Monitor) write() {
	m.mu.Lock()
	data, err := json.MarshalIndent(m.now, "", "  ")
	m.mu.Unlock()
	if err != nil {
		return
	}

	if replace(m.dir.Path(fileName), data) != nil {
		_ = replace(m.runtime, data)
		return
	}
	_ = os.Remove(m.runtime)
}

// replace writes a file and renames it, so that no reader sees a part of it.
func replace(path string, data []byte) error {
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	file, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}

	return os.Rename(next, path)
}

const otherKind = "other"

// errorKind tells errors apart without what differs each time, such as request ids: by the code that
// AWS' errors have.
func errorKind(err error) string {
	var coded interface{ ErrorCode() string }
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}

	return otherKind
}
