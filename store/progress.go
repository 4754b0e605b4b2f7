package store

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	barDelay = time.Second            // how long a transfer lasts before it is worth a progress bar
	barPause = 100 * time.Millisecond // between two drawings of it
)

// bar draws the progress of one transfer that takes longer than barDelay. A nil
// bar draws nothing.
type bar struct {
	mu       sync.Mutex
	drawn    *progressbar.ProgressBar // nil until barDelay is over
	make     func() *progressbar.ProgressBar
	done     int64 // bytes
	since    time.Time
	terminal io.Writer
}

// newBar returns nil when there is no terminal to draw on. A total of 0 or less
// is unknown.
func newBar(terminal io.Writer, what string, total int64) *bar {
	if terminal == nil {
		return nil
	}
	if total <= 0 {
		total = -1 // a spinner
	}
	return &bar{since: time.Now(), terminal: terminal, make: func() *progressbar.ProgressBar {
		return progressbar.NewOptions64(total, progressbar.OptionSetWriter(terminal), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionThrottle(barPause), progressbar.OptionSetWidth(20))
	}}
}

func (b *bar) set(done int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn == nil && time.Since(b.since) > barDelay {
		b.drawn = b.make()
	}
	if b.drawn == nil {
		return
	}
	if done < b.done {
		b.drawn.Reset() // an upload starts over, and a bar at its end stays there
	}
	b.done = done
	_ = b.drawn.Set64(done) // a terminal that is gone is no reason to end a transfer
}

// finish leaves the bar as it stands, on a line of its own, if it was drawn at all.
func (b *bar) finish() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn != nil {
		_ = b.drawn.Exit()
		_, _ = fmt.Fprintln(b.terminal)
	}
}
