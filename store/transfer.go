package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errStalled ends a transfer whose connection is up but carries nothing.
var errStalled = errors.New("transfer stalled: no bytes for too long; the network or the store hangs")

// stallWatch cancels a transfer in which nothing moves. It is armed at birth, so
// that it also bounds the wait for an answer.
type stallWatch struct {
	ctx   context.Context
	timer *time.Timer
	limit time.Duration
	end   context.CancelCauseFunc
}

func watchStall(parent context.Context, limit time.Duration) (context.Context, *stallWatch) {
	ctx, end := context.WithCancelCause(parent)
	return ctx, &stallWatch{
		ctx:   ctx,
		timer: time.AfterFunc(limit, func() { end(errStalled) }),
		limit: limit,
		end:   end,
	}
}

// touch gives the transfer another full term; pause suspends the watch until then.
func (w *stallWatch) touch() { w.timer.Reset(w.limit) }
func (w *stallWatch) pause() { w.timer.Stop() }
func (w *stallWatch) stop()  { w.timer.Stop(); w.end(nil) }

// explain puts the reason in front of what the cancelled transfer complains about.
func (w *stallWatch) explain(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return fmt.Errorf("%w (%w)", errStalled, err)
	}
	return err
}

// download counts what arrives and remembers how it ended. The watch runs only
// while the network is waited for, not while the disk is.
type download struct {
	r     io.Reader
	watch *stallWatch
	bar   *bar
	want  int64 // length to expect; -1: unknown
	got   int64
	err   error // first error of r, io.EOF included
}

func (d *download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	d.watch.touch()
	n, err := d.r.Read(p)
	d.watch.pause()
	d.got += int64(n)
	d.bar.set(d.got)
	if err == io.EOF && d.want >= 0 && d.got != d.want {
		err = fmt.Errorf("download ended after %d of %d bytes: %w", d.got, d.want, io.ErrUnexpectedEOF)
	}
	d.err = err
	return n, err
}

// drain reads what is left, at most limit bytes, so that the store's lengths and
// checksums are verified. It returns the error that the download ended with, if any.
func (d *download) drain(limit int64) error {
	_, _ = io.CopyN(io.Discard, d, limit)
	if d.err == io.EOF {
		return nil
	}
	return d.err
}

// whole reports whether all of a body of known length arrived.
func (d *download) whole() bool { return d.err == io.EOF && d.want >= 0 }

// upload shows the progress of a body that is being sent. Rewinding it, as
// retries and checksums do, takes the bar back.
type upload struct {
	rs    io.ReadSeeker
	watch *stallWatch
	bar   *bar
	at    int64
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.rs.Read(p)
	u.watch.touch()
	u.at += int64(n)
	u.bar.set(u.at)
	return n, err
}

func (u *upload) Seek(offset int64, whence int) (int64, error) {
	at, err := u.rs.Seek(offset, whence)
	if err == nil {
		u.at = at
	}
	return at, err
}
