package awsfake

import (
	"cmp"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"
)

// Effect is what happens to a request in place of its answer. Latency comes first and alone just delays;
// of the others the first one set, in this order, counts.
type Effect struct {
	Next     int           // how many matching requests are struck; 0 means all until removed
	Latency  time.Duration // wait before anything else happens
	Hang     bool          // never answer: hold the request until the client goes away
	Reset    bool          // reset the connection; the action is not carried out
	Status   int           // answer with an API error of this status (400 when only Code is set) ...
	Code     string        // ... and code ("InternalError" when only Status is set), in the service's own form
	Truncate bool          // carry the action out, then break the connection in the middle of the answer
}

// Fault is an effect in force.
type Fault struct {
	call   Call
	effect Effect
	owner  *faults
	hits   int
}

type faults struct {
	mu    sync.Mutex
	armed []*Fault
}

// Fault lets e strike the requests that match call. When several faults match, the one set first strikes.
func (c *Cloud) Fault(call Call, e Effect) *Fault {
	f := &Fault{call: call, effect: e, owner: &c.faults}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.armed = append(c.faults.armed, f)
	return f
}

// Remove ends the fault. What it already holds up (latency, hang) goes on.
func (f *Fault) Remove() {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	f.owner.drop(f)
}

// Hits counts the requests struck so far.
func (f *Fault) Hits() int {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	return f.hits
}

func (fs *faults) drop(f *Fault) {
	fs.armed = slices.DeleteFunc(fs.armed, func(g *Fault) bool { return g == f })
}

// strike returns the effect on a request, the zero Effect when there is none.
func (fs *faults) strike(call Call) Effect {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.armed {
		if f.call.matches(call) {
			f.hits++
			if f.hits == f.effect.Next {
				fs.drop(f)
			}
			return f.effect
		}
	}
	return Effect{}
}

func (e Effect) refusal() *apiError {
	return refuse(cmp.Or(e.Status, http.StatusBadRequest), cmp.Or(e.Code, "InternalError"), "injected by a test")
}

// reset breaks the connection of a request so that the client sees it reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the client is gone already
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // on a broken connection there is nothing to reset
	}
	_ = conn.Close()
}

// Depth counts a queue's messages as they really are; of a queue that does not exist, none.
func (c *Cloud) Depth(queueURL string) (visible, inFlight, delayed int) {
	q := c.sqs.get(path.Base(queueURL))
	if q == nil {
		return 0, 0, 0
	}
	n := q.count()
	return n.visible, n.inFlight, n.delayed
}

// ExpireReceipts ends the lease of every message in flight: the messages are visible again, and the
// receipts given out count as those of an earlier receive.
func (c *Cloud) ExpireReceipts(queueURL string) {
	if q := c.sqs.get(path.Base(queueURL)); q != nil {
		q.expire()
	}
}

// FreezeCounters lets GetQueueAttributes answer with the counters of this moment until thaw is called,
// as AWS's approximate counters lag behind. Depth still tells the truth.
func (c *Cloud) FreezeCounters(queueURL string) (thaw func()) {
	q := c.sqs.get(path.Base(queueURL))
	if q == nil {
		return func() {}
	}
	n := q.count()
	set := func(frozen *counts) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.frozen = frozen
	}
	set(&n)
	return func() { set(nil) }
}
