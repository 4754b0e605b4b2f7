package store

import (
	"io"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"
)

// barDelay is how long a transfer lasts before it is worth a progress bar.
const barDelay = time.Second

// bar draws the progress of one transfer that takes longer than barDelay. A nil
// bar draws nothing.
type bar struct {
	mu    sync.Mutex
	pb    *pb.ProgressBar
	since time.Time
}

// newBar returns nil when there is no terminal to draw on. A total of 0 or less
// is unknown.
func newBar(terminal io.Writer, what string, total int64) *bar {
	if terminal == nil {
		return nil
	}
	p := pb.New64(max(total, 0)).Set("prefix", what).Set(pb.Bytes, true).SetWriter(terminal)
	p.Set(pb.Terminal, true).Set(pb.ReturnSymbol, "\r")
	return &bar{pb: p, since: time.Now()}
}

func (b *bar) set(done int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pb.SetCurrent(done)
	if !b.pb.IsStarted() && !b.pb.IsFinished() && time.Since(b.since) > barDelay {
		b.pb.Start()
	}
}

// finish leaves the bar as it stands, on a line of its own, if it was drawn at all.
func (b *bar) finish() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pb.Finish()
}
