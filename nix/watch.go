package nix

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long a link must be left alone before its change is reported: a switch replaces it once or twice.
const quiet = 100 * time.Millisecond

// WatchCurrent reports each change of the link to the system that runs, whoever changes it, until stop is called. A
// change that happens while nobody receives is reported to the next who does.
//
// It watches the folder that the link is in, which must exist and is not to be replaced: a switch renames a new link
// over the old one.
func (h *Host) WatchCurrent(log *slog.Logger) (changed <-chan struct{}, stop func(), err error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, fmt.Errorf("watch the current system: %w", err)
	}
	link, err := filepath.Abs(h.opts.CurrentSystem)
	if err == nil {
		err = watcher.Add(filepath.Dir(link))
	}
	if err != nil {
		_ = watcher.Close()
		return nil, nil, fmt.Errorf("watch the current system: %w", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	reports, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer watcher.Close()
		report(ctx, watcher, link, reports, log)
	}()

	return reports, func() { cancel(); <-ended }, nil
}

// report sends on reports when the link was changed and then left alone for a while.
func report(ctx context.Context, watcher *fsnotify.Watcher, link string, reports chan<- struct{}, log *slog.Logger) {
	var calm <-chan time.Time
	var due chan<- struct{} // reports while there is something to report
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-watcher.Events:
			if event.Name == link {
				calm = time.After(quiet)
			}
		case err := <-watcher.Errors:
			log.Debug("the watch of the current system lost reports", "error", err)
			calm = time.After(quiet) // look
		case <-calm:
			calm, due = nil, reports
		case due <- struct{}{}:
			due = nil
		}
	}
}
