package awsfake

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"
)

// What an entry of the trace tells.
type What string

// The kinds of entries. Queue is set in all that concern a message.
const (
	Requested What = "requested" // a request arrived
	Answered  What = "answered"  // its answer is about to be sent; Status. Not said of a reset or a hang
	Published What = "published" // an S3 event leaves its bucket for Topic or Queue; Bucket, Key, ETag, VersionID
	Sent      What = "sent"      // a message is in its queue; MessageID
	Parked    What = "parked"    // a long poll found nothing and waits
	Received  What = "received"  // a message is handed out; MessageID, Receives
	Deleted   What = "deleted"   // a message is gone for good; MessageID
	Buried    What = "buried"    // a message leaves Queue for its dead-letter queue; MessageID, Receives
)

// Call names a request and what it is about. As a pattern an empty field matches anything.
type Call struct {
	Service   string // "s3", "sns" or "sqs"
	Action    string // as AWS names it: "HeadObject", "Publish", "ReceiveMessage"
	Bucket    string
	Key       string
	Topic     string // name, not ARN
	Queue     string // name, not URL
	AccessKey string // access key id that the request is signed with
}

// matches says whether c fits pattern p.
func (p Call) matches(c Call) bool {
	fits := func(want, have string) bool { return want == "" || want == have }
	return fits(p.Service, c.Service) && fits(p.Action, c.Action) && fits(p.Bucket, c.Bucket) &&
		fits(p.Key, c.Key) && fits(p.Topic, c.Topic) && fits(p.Queue, c.Queue) && fits(p.AccessKey, c.AccessKey)
}

// Entry is one thing that happened.
type Entry struct {
	What What
	At   time.Time
	Call
	Status    int // HTTP status of an answer
	ETag      string
	VersionID string
	MessageID string
	Receives  int
}

// traceLimit bounds the memory of a long run.
const traceLimit = 1 << 18

type trace struct {
	limit   int // of entries; past it the older half is forgotten
	mu      sync.Mutex
	entries []Entry
	dropped int           // entries forgotten before entries[0]
	counts  map[Call]int  // requests by Service and Action alone
	more    chan struct{} // closed by the next entry; nil when nobody waits
}

func (t *trace) add(e Entry) {
	e.At = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.What == Requested {
		t.counts[Call{Service: e.Service, Action: e.Action}]++
	}
	if len(t.entries) == t.limit {
		t.dropped += t.limit / 2
		t.entries = slices.Clone(t.entries[t.limit/2:]) // a clone: since has lent the old one out
	}
	t.entries = append(t.entries, e)
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
}

// since returns what happened from entry number n on, the number after that, and a channel that is
// closed when there is more. The slice is never written again.
func (t *trace) since(n int) ([]Entry, int, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more == nil {
		t.more = make(chan struct{})
	}
	from, end := max(n-t.dropped, 0), len(t.entries)
	return t.entries[from:end:end], t.dropped + end, t.more
}

// Trace returns what happened so far, in order. Of a very long run only the later part is kept.
func (c *Cloud) Trace() []Entry {
	entries, _, _ := c.trace.since(0)
	return slices.Clone(entries)
}

// Follow yields what happened from the start on and then what happens, in order, each entry once, until
// ctx is done or the cloud is closed.
func (c *Cloud) Follow(ctx context.Context) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for n := 0; ; {
			entries, next, more := c.trace.since(n)
			for _, e := range entries {
				if !yield(e) {
					return
				}
			}
			n = next
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-c.done:
				return
			}
		}
	}
}

// Await returns the first entry, past or to come, for which want says true; want sees every entry once
// and in order, so it may count. The error wraps that of ctx, or says that the cloud was closed.
func (c *Cloud) Await(ctx context.Context, want func(Entry) bool) (Entry, error) {
	for e := range c.Follow(ctx) {
		if want(e) {
			return e, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return Entry{}, fmt.Errorf("await an entry of the trace: %w", err)
	}
	return Entry{}, fmt.Errorf("await an entry of the trace: the cloud is closed")
}

// Requests counts the requests for an action so far, those that a fault struck included; with an empty
// action, for all of the service.
func (c *Cloud) Requests(service, action string) int {
	c.trace.mu.Lock()
	defer c.trace.mu.Unlock()
	n := 0
	for call, count := range c.trace.counts {
		if (Call{Service: service, Action: action}).matches(call) {
			n += count
		}
	}
	return n
}
