package faults

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is one in memory between the agent and its cloud.
type network struct {
	accepted chan net.Conn
	closed   chan struct{}

	mu     sync.Mutex
	fault  func(ctx context.Context) error // of dialing; nil: none
	lost   bool                            // what is sent reaches nobody
	open   []*line
	failed int // connections that could not be made
}

func newNetwork() *network {
	return &network{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept, Close and Addr make it the listener of the cloud's server.
func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accepted:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error   { close(n.closed); return nil }
func (n *network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// dial is how the agent connects.
func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	fault := n.fault
	n.mu.Unlock()
	if fault != nil {
		if err := fault(ctx); err != nil {
			n.set(func() { n.failed++ })
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, err)}
		}
	}

	conn, err := n.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: conn, network: n}
	n.set(func() { n.open = append(n.open, l) })

	return l, nil
}

// connect is how others than the agent connect: no fault strikes them.
func (n *network) connect(ctx context.Context) (net.Conn, error) {
	ours, theirs := newConn()
	select {
	case n.accepted <- theirs:
	case <-n.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	return ours, nil
}

// refuse has new connections fail with err, and ends those that there are.
func (n *network) refuse(err error) (end func()) {
	n.set(func() { n.fault = func(context.Context) error { return err } })
	n.cut()

	return func() { n.set(func() { n.fault = nil }) }
}

// swallow has everything that is sent vanish, new connections included.
func (n *network) swallow() (end func()) {
	n.set(func() {
		n.lost = true
		n.fault = n.timeout
	})

	return func() {
		n.set(func() { n.lost, n.fault = false, nil })
		n.cut() // the other side has forgotten them
	}
}

// timeout is the end of a connection that nobody answers, after the time that the SDK's dialer gives it.
func (n *network) timeout(ctx context.Context) error {
	select {
	case <-time.After(30 * time.Second):
		return os.ErrDeadlineExceeded
	case <-n.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cut ends every connection.
func (n *network) cut() {
	n.mu.Lock()
	open := n.open
	n.open = nil
	n.mu.Unlock()
	for _, l := range open {
		_ = l.Close()
	}
}

func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// line is a connection of the agent's.
type line struct {
	net.Conn
	network *network
}

func (l *line) Write(p []byte) (int, error) {
	l.network.mu.Lock()
	lost := l.network.lost
	l.network.mu.Unlock()
	if lost {
		return len(p), nil
	}

	return l.Conn.Write(p)
}
