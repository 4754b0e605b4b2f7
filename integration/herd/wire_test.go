package herd

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// wire is a network without sockets: each dial makes a pipe to the cloud.
type wire struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newWire() *wire { return &wire{accepted: make(chan net.Conn), closed: make(chan struct{})} }

// end is the cloud's end of a connection.
type end struct {
	net.Conn
	of *client
}

// dial connects a client to the cloud, once both have shaken hands.
func (w *wire) dial(of *client) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		time.Sleep(between(3*time.Millisecond, 10*time.Millisecond))
		client, server := net.Pipe()
		select {
		case w.accepted <- end{server, of}:
			return client, nil
		case <-w.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.accepted:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }

// clientKey is where http keeps whose connection a request came by.
type clientKey struct{}

// serve lets the cloud answer what comes over the wire, until stop is called.
func (w *wire) serve(cloud http.Handler) (stop func()) {
	server := &http.Server{
		IdleTimeout: 20 * time.Second, // S3 ends idle connections after some 5 to 20 s
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientKey{}, c.(end).of)
		},
		Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			c := r.Context().Value(clientKey{}).(*client)
			action, asked := actionOf(r), time.Now()
			time.Sleep(latencyOf(action))
			a := &answer{ResponseWriter: out}
			cloud.ServeHTTP(a, r)
			c.note(action, asked, a)
		}),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(w); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return func() {
		_ = server.Close()
		<-ended
	}
}

const list = "LIST"

// actionOf is what a request asks for: one of SQS's actions, S3's method, or LIST.
func actionOf(r *http.Request) string {
	if action, is := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS."); is {
		return action
	}
	if r.URL.Query().Has("list-type") {
		return list
	}
	return r.Method
}

// latencyOf is how long AWS takes for the first byte of an answer: S3 some tens of milliseconds for a small object, SQS
// fewer.
func latencyOf(action string) time.Duration {
	switch action {
	case http.MethodGet, http.MethodHead, http.MethodPut, list:
		return between(10*time.Millisecond, 40*time.Millisecond)
	}
	return between(3*time.Millisecond, 12*time.Millisecond)
}

// answer knows what was answered.
type answer struct {
	http.ResponseWriter
	status, length int
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.length += len(p)
	return a.ResponseWriter.Write(p)
}
