package herd

import (
	"net/http"
	"sync"
	"time"
)

// client is who sends requests to the cloud, and what the cloud has seen of it.
type client struct {
	mu   sync.Mutex
	seen seen
}

// seen is what became of one publish.
type seen struct {
	noticed time.Time // SQS handed the message out; zero if it was lost
	built   time.Time // nix was called
	wrote   time.Time // the last record was there

	reads, writes int   // requests that S3 served
	lists         []int // of them, since each look at the remote
	queue         int   // requests to SQS, but for receives that brought nothing
	messages      int   // receives that brought some

	slowed   int             // requests that S3 refused with SlowDown
	slowedAt time.Time       // the last one; zero once another was made
	gaps     []time.Duration // from a SlowDown to the next request
}

// note takes note of a request.
func (c *client) note(action string, asked time.Time, a *answer) {
	c.see(func(s *seen) {
		switch action {
		case http.MethodGet, http.MethodHead, http.MethodPut, list:
			s.noteS3(action, asked, a.status)
		case "ReceiveMessage":
			if a.length <= len("{}") {
				return // as an idle host gets
			}
			if s.noticed.IsZero() {
				s.noticed = time.Now()
			}
			s.messages++
			s.queue++
		default:
			s.queue++
		}
	})
}

func (s *seen) noteS3(action string, asked time.Time, status int) {
	if !s.slowedAt.IsZero() {
		s.gaps, s.slowedAt = append(s.gaps, asked.Sub(s.slowedAt)), time.Time{}
	}
	if action == list && len(s.lists) > 0 {
		s.lists[len(s.lists)-1]++ // refused or not
	}
	switch {
	case status == http.StatusServiceUnavailable:
		s.slowed++
		s.slowedAt = time.Now()
	case action == http.MethodPut:
		s.writes++
		s.wrote = time.Now()
	case action == http.MethodHead:
		s.lists = append(s.lists, 0)
		s.reads++
	default:
		s.reads++
	}
}

func (c *client) see(f func(*seen)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.seen)
}

// forget begins another publish.
func (c *client) forget() { c.see(func(s *seen) { *s = seen{} }) }

func (c *client) look() (now seen) {
	c.see(func(s *seen) { now = *s })
	return now
}
