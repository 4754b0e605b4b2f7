package faults

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// inFlight is how many bytes a connection holds in each direction before a writer waits.
const inFlight = 256 << 10

// newConn returns the ends of a connection in memory. Unlike those of net.Pipe they have buffers, as sockets have, and
// whoever waits at one waits for a sync.Cond, so that a bubble's time goes on.
func newConn() (a, b net.Conn) {
	there, back := newStream(), newStream()
	return &end{in: back, out: there}, &end{in: there, out: back}
}

// stream is one direction.
type stream struct {
	mu       sync.Mutex
	changed  *sync.Cond
	data     []byte
	closed   bool // by its writer, after data
	broken   bool // by its reader
	deadline time.Time
	timer    *time.Timer
}

func newStream() *stream {
	s := &stream{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken:
			return 0, net.ErrClosed
		case !s.deadline.IsZero() && !time.Now().Before(s.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			s.data = s.data[n:]
			s.changed.Broadcast()
			return n, nil
		case s.closed:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.data) >= inFlight && !s.closed && !s.broken {
		s.changed.Wait()
	}
	if s.closed {
		return 0, net.ErrClosed
	}
	if s.broken {
		return 0, syscall.ECONNRESET
	}
	s.data = append(s.data, p...)
	s.changed.Broadcast()

	return len(p), nil
}

func (s *stream) change(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// setDeadline bounds reads.
func (s *stream) setDeadline(t time.Time) {
	s.change(func() {
		s.deadline = t
		if s.timer != nil {
			s.timer.Stop()
		}
		if d := time.Until(t); !t.IsZero() && d > 0 {
			s.timer = time.AfterFunc(d, func() { s.change(func() {}) })
		}
	})
}

type end struct{ in, out *stream }

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }

func (e *end) Close() error {
	e.out.change(func() { e.out.closed = true })
	e.in.change(func() { e.in.broken = true })
	return nil
}

func (e *end) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (e *end) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (e *end) SetDeadline(t time.Time) error      { e.in.setDeadline(t); return nil }
func (e *end) SetReadDeadline(t time.Time) error  { e.in.setDeadline(t); return nil }
func (e *end) SetWriteDeadline(t time.Time) error { return nil }
