package machine

import (
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

// NetworkDown is the file that cuts a machine's [Machine.Proxy] while it exists. It is in /run: a
// boot restores the network.
const NetworkDown = "/run/network-down"

// NetworkCut is the text of a unit that cuts the network while it runs. In a system's Units it is
// what a bad firewall is on a real host: there from its start until a rollback stops it.
const NetworkCut = `[Unit]
Description=A network that does not work
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=touch ` + NetworkDown + `
ExecStop=rm -f ` + NetworkDown + `
[Install]
WantedBy=multi-user.target
`

// Proxy returns the URL of a way to the server at rawURL that leads through the machine's network:
// while [NetworkDown] exists its connections are closed, those that are open too.
func (m *Machine) Proxy(rawURL string) string {
	m.t.Helper()
	server, err := url.Parse(rawURL)
	if err != nil {
		m.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	p := &proxy{machine: m, server: server.Host, open: map[net.Conn]bool{}, done: make(chan struct{})}
	p.work.Go(func() { p.accept(listener) })
	p.work.Go(p.watch)
	m.t.Cleanup(func() {
		_ = listener.Close()
		close(p.done)
		p.cut()
		p.work.Wait()
	})
	server.Host = listener.Addr().String()
	return server.String()
}

type proxy struct {
	machine *Machine
	server  string
	done    chan struct{}
	work    sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (p *proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed
		}
		if p.machine.Exists(NetworkDown) {
			_ = client.Close()
			continue
		}
		p.work.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.drop(client)
	server, err := net.Dial("tcp", p.server)
	if err != nil || !p.keep(client) {
		return
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	var there sync.WaitGroup
	there.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, server)
	p.drop(client)
	there.Wait()
}

// watch cuts the open connections when the network goes down.
func (p *proxy) watch() {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-look.C:
			if p.machine.Exists(NetworkDown) {
				p.cutOpen()
			}
		}
	}
}

// keep registers a connection; false means that the test is over.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	_ = c.Close()
}

func (p *proxy) cutOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// cut closes every connection, and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cutOpen()
}
