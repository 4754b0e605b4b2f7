package awsfake

import (
	"container/heap"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxVisibility is how long SQS lets a message be in flight after one receive, extensions included.
const maxVisibility = 12 * time.Hour

type message struct {
	id, body  string
	sent      time.Time
	first     time.Time // first receive
	received  time.Time // latest receive
	receives  int
	receipt   int // number of the receipt that is valid; grows with every receive
	inFlight  bool
	due       time.Time // while hidden: when it becomes visible
	hiddenPos int       // place in queue.hidden, -1 while visible
}

// hidden is the heap of messages in flight or delayed, next due first.
type hidden []*message

func (h hidden) Len() int           { return len(h) }
func (h hidden) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h hidden) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].hiddenPos = i; h[j].hiddenPos = j }
func (h *hidden) Push(x any)        { m := x.(*message); m.hiddenPos = len(*h); *h = append(*h, m) }
func (h *hidden) Pop() any {
	old := *h
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	m.hiddenPos = -1
	return m
}

// waiter is a parked ReceiveMessage.
type waiter struct {
	max        int
	visibility time.Duration
	got        chan []delivery // room for one, so that handing over never blocks
}

// delivery is a message as one receive saw it.
type delivery struct {
	message
	handle string
}

type counts struct{ visible, inFlight, delayed int }

// queue keeps the messages of one queue. Every change ends with release, which hands visible messages
// to the longest waiting polls, so each message wakes one poll, and sets the queue's only timer to the
// moment the next hidden message becomes visible.
type queue struct {
	name    string
	created time.Time
	record  func(Entry)                  // under mu, so that the trace is in the queue's order
	bury    func(arn string, m *message) // delivers to a dead-letter queue; called without mu
	gone    chan struct{}                // closed when the queue is deleted

	mu       sync.Mutex
	settings settings
	modified time.Time
	tags     map[string]string
	messages map[string]*message
	visible  []*message // oldest first
	hidden   hidden
	waiters  []*waiter // longest waiting first
	timer    *time.Timer
	dead     []*message // to be buried by release
	frozen   *counts
	closed   bool
}

func newQueue(name string, s settings, tags map[string]string, record func(Entry), bury func(string, *message)) *queue {
	now := time.Now()
	q := &queue{
		name: name, created: now, modified: now, settings: s, tags: tags, record: record, bury: bury,
		gone: make(chan struct{}), messages: map[string]*message{},
	}
	q.timer = time.AfterFunc(time.Hour, func() {
		q.mu.Lock()
		q.release()
	})
	return q
}

func (q *queue) note(what What, m *message) {
	q.record(Entry{
		What: what, Call: Call{Service: "sqs", Queue: q.name}, MessageID: m.id, Receives: m.receives,
	})
}

// release updates the queue and unlocks it.
func (q *queue) release() {
	q.update()
	q.unlock()
}

// update makes visible what is due, serves the waiting polls and sets the timer.
func (q *queue) update() {
	now := time.Now()
	for len(q.hidden) > 0 && !q.hidden[0].due.After(now) {
		m := heap.Pop(&q.hidden).(*message)
		m.inFlight = false
		q.visible = append(q.visible, m)
	}
	for len(q.waiters) > 0 && len(q.visible) > 0 {
		if got := q.take(q.waiters[0], now); len(got) > 0 {
			q.waiters[0].got <- got
			q.waiters = slices.Delete(q.waiters, 0, 1)
		}
	}
	if len(q.hidden) > 0 && !q.closed {
		q.timer.Reset(q.hidden[0].due.Sub(now))
	} else {
		q.timer.Stop()
	}
}

// unlock unlocks the queue and sends its dead letters on their way.
func (q *queue) unlock() {
	dead, arn := q.dead, q.settings.deadLetters
	q.dead = nil
	q.mu.Unlock()
	for _, m := range dead {
		q.bury(arn, m)
	}
}

// take hands visible messages to w; those that were received too often already go to q.dead instead.
func (q *queue) take(w *waiter, now time.Time) []delivery {
	var got []delivery
	for len(got) < w.max && len(q.visible) > 0 {
		m := q.visible[0]
		q.visible = q.visible[1:]
		if q.settings.deadLetters != "" && m.receives >= q.settings.maxReceives {
			delete(q.messages, m.id)
			q.note(Buried, m)
			q.dead = append(q.dead, m)
			continue
		}
		m.receives++
		m.receipt++
		m.inFlight, m.received, m.due = true, now, now.Add(w.visibility)
		if m.first.IsZero() {
			m.first = now
		}
		heap.Push(&q.hidden, m)
		q.note(Received, m)
		got = append(got, delivery{message: *m, handle: q.handle(m)})
	}
	return got
}

// send puts a new message into the queue.
func (q *queue) send(body string, delay time.Duration) *message {
	m := &message{id: newID(), body: body, sent: time.Now()}
	q.put(m, delay)
	return m
}

// put adds a message as it is; a dead letter keeps its id, times and receive count.
func (q *queue) put(m *message, delay time.Duration) {
	q.mu.Lock()
	defer q.release()
	q.messages[m.id] = m
	m.inFlight, m.due = false, time.Now().Add(delay)
	q.note(Sent, m)
	heap.Push(&q.hidden, m) // release makes it visible when it is due, which may be now
}

// receive returns up to most messages, waiting for the first one at most as long as wait. When ctx ends
// first nothing is handed out, unless it was on its way already: then it stays in flight, as on AWS.
func (q *queue) receive(ctx context.Context, most int, visibility, wait time.Duration) ([]delivery, error) {
	w := &waiter{max: most, visibility: visibility, got: make(chan []delivery, 1)}
	q.mu.Lock()
	q.waiters = append(q.waiters, w)
	q.update()
	if wait > 0 && len(w.got) == 0 {
		q.record(Entry{What: Parked, Call: Call{Service: "sqs", Queue: q.name}})
	}
	q.unlock()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case got := <-w.got:
			return got, nil
		case <-q.gone:
			return nil, noSuchQueue()
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	q.mu.Lock()
	q.waiters = slices.DeleteFunc(q.waiters, func(other *waiter) bool { return other == w })
	q.mu.Unlock()
	select {
	case got := <-w.got: // handed over at once, or at the last moment
		return got, nil
	default:
		return nil, nil
	}
}

// handle is the receipt handle of a message's latest receive.
func (q *queue) handle(m *message) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s/%s/%d", q.name, m.id, m.receipt))
}

// find returns the message that a receipt handle stands for, nil when the handle is from an earlier
// receive or the message is gone, and an error when it never was a handle of this queue.
func (q *queue) find(handle string) (*message, error) {
	raw, err := base64.StdEncoding.DecodeString(handle)
	parts := strings.Split(string(raw), "/")
	if err != nil || len(parts) != 3 || parts[0] != q.name {
		return nil, refuse(http.StatusNotFound, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
	}
	if m := q.messages[parts[1]]; m != nil && q.handle(m) == handle {
		return m, nil
	}
	return nil, nil
}

// remove takes a message out of wherever it is.
func (q *queue) remove(m *message) {
	delete(q.messages, m.id)
	if m.hiddenPos >= 0 {
		heap.Remove(&q.hidden, m.hiddenPos)
	} else {
		q.visible = slices.DeleteFunc(q.visible, func(other *message) bool { return other == m })
	}
	q.note(Deleted, m)
}

// delete removes a message. A receipt of an earlier receive succeeds without deleting, as on AWS.
func (q *queue) delete(handle string) error {
	q.mu.Lock()
	defer q.release()
	m, err := q.find(handle)
	if m != nil {
		q.remove(m)
	}
	return err
}

// changeVisibility lets a message in flight become visible after d. For one that is not in flight, is
// gone, or was received again since, AWS and this answer InvalidParameterValue.
func (q *queue) changeVisibility(handle string, d time.Duration) error {
	q.mu.Lock()
	defer q.release()
	m, err := q.find(handle)
	if err != nil {
		return err
	}
	if m == nil || !m.inFlight {
		return invalid("Value %s for parameter ReceiptHandle is invalid. Reason: Message does not exist or "+
			"is not available for visibility timeout change.", handle)
	}
	due := time.Now().Add(d)
	if due.After(m.received.Add(maxVisibility)) {
		return invalid("Value %d for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout "+
			"for the message is beyond the limit [43200 seconds].", int(d.Seconds()))
	}
	m.due = due
	heap.Fix(&q.hidden, m.hiddenPos)
	return nil
}

func (q *queue) purge() {
	q.mu.Lock()
	defer q.release()
	for _, m := range q.messages {
		q.remove(m)
	}
}

// expire ends all leases at once and makes their receipts those of an earlier receive.
func (q *queue) expire() {
	q.mu.Lock()
	defer q.release()
	for _, m := range q.messages {
		if m.inFlight {
			m.receipt++
			m.due = time.Now()
			heap.Fix(&q.hidden, m.hiddenPos)
		}
	}
}

// count counts the messages; what is due counts as visible even if the timer is late.
func (q *queue) count() counts {
	q.mu.Lock()
	defer q.unlock()
	q.update()
	n := counts{visible: len(q.visible)}
	for _, m := range q.hidden {
		if m.inFlight {
			n.inFlight++
		} else {
			n.delayed++
		}
	}
	return n
}

// close ends the queue's polls and its timer.
func (q *queue) close() {
	q.mu.Lock()
	defer q.release()
	if !q.closed {
		q.closed = true
		close(q.gone)
	}
}
