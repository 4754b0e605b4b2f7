package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Bounds on a transfer, of the time in which the network is waited for.
const (
	// answerTimeout is how long a store may take to answer after the last byte of an upload.
	answerTimeout = 5 * time.Minute
	// A transfer must move paceBytes in each paceWindow.
	paceWindow = time.Minute
	paceBytes  = 16 << 10
	// In all it may take transferBase, and a second for each transferRate bytes.
	transferBase = 10 * time.Minute
	transferRate = 4 << 10
)

// Errors that end a transfer whose connection is up.
var (
	errStalled = errors.New("transfer stalled: no bytes for too long; the network or the store hangs")
	errSlow    = fmt.Errorf("transfer too slow: less than %d KiB in %v; the network or the store is overloaded", paceBytes>>10, paceWindow)
	errTooLong = errors.New("transfer takes too long for its size; the network or the store is overloaded")
)

// transferWatch cancels a transfer in which nothing moves, or not enough. It is
// armed at birth, so that it also bounds the wait for an answer.
type transferWatch struct {
	ctx   context.Context
	timer *time.Timer
	end   context.CancelCauseFunc

	size   int64         // 0: unknown
	moved  int64         // bytes in all
	waited time.Duration // for the network in all
	window struct {
		moved  int64
		waited time.Duration
	}
}

func watchTransfer(parent context.Context, size int64) (context.Context, *transferWatch) {
	ctx, end := context.WithCancelCause(parent)
	return ctx, &transferWatch{
		ctx:   ctx,
		timer: time.AfterFunc(stallTimeout, func() { end(errStalled) }),
		end:   end,
		size:  size,
	}
}

// touch gives the transfer another full term; pause suspends the watch until then.
func (w *transferWatch) touch() { w.timer.Reset(stallTimeout) }
func (w *transferWatch) pause() { w.timer.Stop() }
func (w *transferWatch) stop()  { w.timer.Stop(); w.end(nil) }

// await gives the store time to answer.
func (w *transferWatch) await() { w.timer.Reset(answerTimeout) }

// account notes that n bytes took d, and ends the transfer where that is too slow.
func (w *transferWatch) account(n int, d time.Duration) error {
	w.moved += int64(n)
	w.waited += d
	w.window.moved += int64(n)
	w.window.waited += d
	var err error
	if w.window.waited >= paceWindow {
		if w.window.moved < paceBytes {
			err = errSlow
		}
		w.window.moved, w.window.waited = 0, 0
	}
	if w.waited > transferBase+time.Duration(max(w.size, w.moved)/transferRate)*time.Second {
		err = errTooLong
	}
	if err != nil {
		w.end(err)
	}
	return err
}

// explain puts the reason in front of what the cancelled transfer complains about.
func (w *transferWatch) explain(err error) error {
	cause := context.Cause(w.ctx)
	if err == nil || errors.Is(err, cause) {
		return err
	}
	for _, reason := range []error{errStalled, errSlow, errTooLong} {
		if errors.Is(cause, reason) {
			return fmt.Errorf("%w (%w)", reason, err)
		}
	}
	return err
}

// download counts what arrives and remembers how it ended. The watch runs only
// while the network is waited for, not while the disk is.
type download struct {
	r     io.Reader
	watch *transferWatch
	bar   *bar
	want  int64 // length to expect; -1: unknown
	got   int64
	err   error // first error of r, io.EOF included
}

func (d *download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	began := time.Now()
	d.watch.touch()
	n, err := d.r.Read(p)
	d.watch.pause()
	slow := d.watch.account(n, time.Since(began))
	d.got += int64(n)
	d.bar.set(d.got)
	switch {
	case d.want >= 0 && d.got > d.want:
		n, err = 0, fmt.Errorf("the download goes on past its %d bytes", d.want)
	case err == io.EOF && d.want >= 0 && d.got != d.want:
		err = fmt.Errorf("download ended after %d of %d bytes: %w", d.got, d.want, io.ErrUnexpectedEOF)
	case err == nil:
		err = slow
	}
	d.err = err
	return n, err
}

// drain reads what is left, so that the store's lengths and checksums are verified.
// It returns the error that the download ended with, if any. A body of more than
// limit bytes in all is one.
func (d *download) drain(limit int64) error {
	_, err := io.CopyN(io.Discard, d, max(0, limit-d.got)+1)
	switch {
	case d.err == io.EOF:
		return nil
	case d.err != nil:
		return d.err
	case err != nil:
		return err
	}
	return fmt.Errorf("the download does not end after %d bytes", limit)
}

// whole reports whether all of a body of known length arrived.
func (d *download) whole() bool { return d.err == io.EOF && d.want >= 0 }

// upload shows the progress of a body that is being sent. Rewinding it, as
// retries and checksums do, takes the bar back.
type upload struct {
	rs    io.ReadSeeker
	watch *transferWatch
	bar   *bar
	size  int64
	at    int64
	last  time.Time // when the body was read last; zero: not yet
}

func (u *upload) Read(p []byte) (int, error) {
	var sending time.Duration
	if !u.last.IsZero() {
		sending = time.Since(u.last)
	}
	n, err := u.rs.Read(p)
	u.at += int64(n)
	u.bar.set(u.at)
	if u.watch.touch(); u.at >= u.size {
		u.watch.await()
	}
	u.last = time.Now()
	if slow := u.watch.account(n, sending); slow != nil {
		return 0, slow
	}
	return n, err
}

func (u *upload) Seek(offset int64, whence int) (int64, error) {
	at, err := u.rs.Seek(offset, whence)
	if err == nil {
		u.at, u.last = at, time.Time{}
	}
	return at, err
}
