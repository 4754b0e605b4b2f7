package events

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// FileWatch gives a delivery each time a file has changed, which makes a store in a
// directory as prompt as a queue. It watches the file's directory and those above it, so
// directories may appear late, be replaced, or be reached through a symbolic link that is
// switched. What the kernel reports only starts a look: whether there is something to say is
// decided by the file's identity, size and time.
//
// Nothing is redelivered: a change that came to nothing is the caller's to try again. Where
// the kernel sees no changes, as on network file systems, no delivery comes. Receive is for
// one goroutine at a time.
type FileWatch struct {
	path    string
	dirs    []watchedDir // from the root to the file's own
	log     *slog.Logger
	watcher *fsnotify.Watcher

	seen    fs.FileInfo // the file as last delivered, or as first found; nil if missing
	pending bool        // something was reported that was not looked at
	quiet   time.Duration
	limit   time.Duration
}

type watchedDir struct {
	path string
	info fs.FileInfo // as watched; nil if it is not
}

// WatchFile begins to watch the file at an absolute path; neither it nor its directories
// need exist. The file as it is now is not delivered. The caller closes the watch.
func WatchFile(path string, log *slog.Logger) (*FileWatch, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
		return nil, fmt.Errorf("watch file %q: want the absolute path of a file", path)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch file: %w", inotifyHint(err))
	}
	w := &FileWatch{
		path: filepath.Clean(path), log: log, watcher: watcher,
		quiet: 50 * time.Millisecond, limit: 500 * time.Millisecond,
	}
	for dir := filepath.Dir(w.path); ; dir = filepath.Dir(dir) {
		w.dirs = append(w.dirs, watchedDir{path: dir})
		if dir == filepath.Dir(dir) {
			break
		}
	}
	slices.Reverse(w.dirs)
	if err := w.watchDirs(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch file: %w", err), watcher.Close())
	}
	if w.dir().info == nil {
		log.Info("directory of the remote does not exist yet, waiting for it", "dir", w.dir().path)
	}
	w.seen, _ = os.Stat(w.path) // after the watch began, so that no change falls between
	return w, nil
}

// Close ends the watch and a Receive that waits.
func (w *FileWatch) Close() error { return w.watcher.Close() }

// Extend does nothing: a file is not leased.
func (w *FileWatch) Extend(context.Context, []Delivery, time.Duration) error { return nil }

// Ack does nothing: a notice of a file is not kept anywhere.
func (w *FileWatch) Ack(context.Context, []Delivery) error { return nil }

// Receive waits until the file is there, differs from what was last delivered, and nothing
// more was reported for 50 ms, or 500 ms have passed. It returns one delivery with one
// notice, or ctx's error; a change that a cancelled Receive did not deliver, the next one
// does.
func (w *FileWatch) Receive(ctx context.Context) ([]Delivery, error) {
	for {
		if err := w.wait(ctx); err != nil {
			return nil, fmt.Errorf("watch file: %w", err)
		}
		if err := w.watchDirs(); err != nil {
			return nil, fmt.Errorf("watch file: %w", err)
		}
		info, err := os.Stat(w.path)
		w.pending = false
		if err != nil || info.IsDir() || sameFile(w.seen, info) {
			continue
		}
		w.seen = info
		now := time.Now()
		return []Delivery{{
			ID:       w.path + "@" + strconv.FormatInt(now.UnixNano(), 10),
			Notices:  []Notice{{Key: w.path, At: info.ModTime().UTC()}},
			Receives: 1,
			Received: now,
		}}, nil
	}
}

// wait returns when reports that may concern the file have come and ceased.
func (w *FileWatch) wait(ctx context.Context) error {
	quiet, limit := time.NewTimer(w.quiet), time.NewTimer(w.limit)
	defer quiet.Stop()
	defer limit.Stop()
	if !w.pending {
		quiet.Stop()
		limit.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-w.watcher.Events:
			if !ok {
				return os.ErrClosed
			}
			if !w.concerns(event.Name) {
				continue
			}
		case err, ok := <-w.watcher.Errors:
			if !ok {
				return os.ErrClosed
			}
			// Reports were lost, mostly because there were too many: look for oneself.
			w.log.Debug("file watch lost reports", "error", err)
		case <-quiet.C:
			return nil
		case <-limit.C:
			return nil
		}
		quiet.Reset(w.quiet)
		if !w.pending {
			limit.Reset(w.limit)
			w.pending = true
		}
	}
}

// concerns says whether a report can mean a change of the file: one from its own directory
// (the file may be a link to a neighbour), or of a directory on the way there.
func (w *FileWatch) concerns(name string) bool {
	return filepath.Dir(name) == w.dir().path ||
		slices.ContainsFunc(w.dirs, func(d watchedDir) bool { return d.path == name })
}

// watchDirs watches each directory on the way that exists, and again each that is another
// than before. It goes from the root down: what appears below a directory after that is
// watched will be reported. Only the deepest one must be watchable.
func (w *FileWatch) watchDirs() error {
	had := w.dir().info != nil
	var failed error
	for i := range w.dirs {
		d := &w.dirs[i]
		info, err := os.Stat(d.path)
		if d.info != nil && (err != nil || !os.SameFile(d.info, info)) {
			_ = w.watcher.Remove(d.path) // fails if the directory is gone, and the watch with it
		}
		if d.info = nil; err != nil {
			continue
		}
		if err := w.watcher.Add(d.path); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if failed = inotifyHint(err); err == nil {
			d.info = info
		}
	}
	if has := w.dir().info != nil; has != had {
		w.log.Debug("directory of the remote came or went", "dir", w.dir().path, "watched", has)
	}
	return failed
}

func (w *FileWatch) dir() *watchedDir { return &w.dirs[len(w.dirs)-1] }

func sameFile(a, b fs.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func inotifyHint(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w (raise fs.inotify.max_user_instances, or the limit of open files)", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w (raise fs.inotify.max_user_watches)", err)
	}
	return err
}
