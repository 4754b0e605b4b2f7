// Package metrics tells Prometheus how an agent is doing, by a file for the textfile collector of node_exporter.
// So nothing listens on the host.
//
// It promises:
//   - A reader finds the whole of one state, whenever the agent or the machine dies. While the agent lives, the
//     file is never older than about a minute: one that is, is stale.
//   - The sets of labels are closed, but for the names of releases and versions, of which there is one at a time.
//   - Counters continue where the last agent's file ended.
//   - A file that cannot be written is reported, and holds up nothing.
package metrics

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// every is the time between two writes without news, by which a reader tells a living agent.
	every = time.Minute
	// pace is the least time between two writes.
	pace = time.Second
)

// Writer keeps the samples and writes their file. It is safe for concurrent use.
type Writer struct {
	report  func(error)   // after each write; nil if it succeeded
	changed chan struct{} // holds one when there is something to write

	mu      sync.Mutex
	path    string // "": no file
	samples Samples
	resumed bool // the last agent's file was read
}

// NewWriter returns a writer that has no file yet. It calls report after each write, with nil if that succeeded.
func NewWriter(report func(error)) *Writer {
	return &Writer{report: report, changed: make(chan struct{}, 1), samples: Samples{}}
}

// SetPath says which file to write; "" for none. The file of the former path goes: nothing would keep it fresh.
// Counters and times that the file has from an earlier agent are continued.
func (w *Writer) SetPath(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if path == w.path {
		return
	}
	if w.path != "" {
		_ = os.Remove(w.path)
	}
	w.path = path
	if path == "" {
		return
	}
	if data, err := os.ReadFile(path); err == nil && !w.resumed {
		w.samples.resume(parse(data))
	}
	w.resumed = true
	w.wake()
}

// On reports whether there is a file to write.
func (w *Writer) On() bool {
	w.mu.Lock()
	defer w.mu.Unlock()

	return w.path != ""
}

// Update changes the samples, all at once for a reader of the file.
func (w *Writer) Update(change func(Samples)) {
	w.mu.Lock()
	defer w.mu.Unlock()

	change(w.samples)
	w.wake()
}

func (w *Writer) wake() {
	select {
	case w.changed <- struct{}{}:
	default: // it is about to be written
	}
}

// Run writes the file when the samples change, at most once a second, and each minute, until ctx ends; then once
// more.
func (w *Writer) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()

	for ctx.Err() == nil {
		select {
		case <-w.changed:
		case <-tick.C:
		case <-ctx.Done():
			continue
		}
		w.write()
		breath := time.NewTimer(pace)
		select {
		case <-breath.C:
		case <-ctx.Done():
		}
		breath.Stop()
	}
	w.write()
}

func (w *Writer) write() {
	w.mu.Lock()
	path := w.path
	var data []byte
	if path != "" {
		data = w.samples.text()
	}
	w.mu.Unlock()

	if path != "" {
		w.report(replace(path, data))
	}
}

// replace gives the file its new content at once. Its temporary file always has the same name, so that killed
// agents leave one at most, which the collector does not read. It is not synced: after a loss of power the agent
// writes it again before long.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	_ = os.Remove(next)
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask says
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
	}

	return err
}
