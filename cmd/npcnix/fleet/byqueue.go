package fleet

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// DefaultEmptyFor is how long a queue that had the event must have been empty to count as
// drained. Amazon SQS Developer Guide, "Confirming that a queue is empty": the counters are
// approximate, and all three must be 0 for several minutes.
const DefaultEmptyFor = 3 * time.Minute

// queuePace is the least time between two looks at queues that are only shown.
const queuePace = 10 * time.Second

// drain is what the counters of one host's queues, read again and again, say about one event. Zero alone
// says nothing: the event might still be on its way, and the counters lag. So a queue must first have more
// messages than before, and then be empty for a while. An event that is never seen never counts as done: a
// host quicker than two looks stays missing.
type drain struct {
	before Queue // at the baseline; its dead letters are the fewest seen since, as old ones expire
	now    Queue
	looked bool
	risen  bool
	empty  time.Time // since when; zero while it is not
	done   bool      // needs no look any more
}

func (d *drain) look(q Queue, now time.Time) {
	d.now, d.looked = q, true
	if q.messages() > d.before.messages() {
		d.risen = true
	}
	if !q.Gone { // which has no counters
		d.before.Dead = min(d.before.Dead, q.Dead)
	}
	switch {
	case q.messages() > 0:
		d.empty = time.Time{}
	case d.empty.IsZero():
		d.empty = now
	}
}

func (d *drain) judge(now time.Time, emptyFor time.Duration) (v Verdict, state, why string) {
	switch {
	case d.now.Dead > d.before.Dead:
		return Failed, "dead-letter", "a message is in the dead-letter queue: the host rejected the version, or could not be reached"
	case !d.looked:
		return Missing, "unseen", "its queue could not be read"
	case d.now.Gone:
		return Missing, "gone", "its queue does not exist"
	case !d.risen:
		return Missing, "waiting", "its queue has not received the event yet"
	case d.empty.IsZero():
		return Missing, "working", ""
	case now.Sub(d.empty) < emptyFor:
		return Missing, "draining", "its queue is empty, and must stay so for a while"
	}
	return Done, "drained", ""
}

// sampler looks at the queues of hosts.
type sampler struct {
	queues *Queues

	mu     sync.Mutex
	drains map[string]*drain

	trouble    error // the latest look that failed, of those that only show
	complained bool
}

func newSampler(q *Queues, hosts []string) *sampler {
	s := &sampler{queues: q, drains: map[string]*drain{}}
	for _, host := range hosts {
		s.drains[host] = &drain{}
	}
	return s
}

// baseline notes what the queues hold before the publish.
func (s *sampler) baseline(ctx context.Context) error {
	return s.each(ctx, s.open(), func(d *drain, q Queue) { d.before = q })
}

// nothingBefore takes the event for possibly there already at the baseline: what the queues
// hold then counts as a rise. It is for waits that begin after the publish.
func (s *sampler) nothingBefore() {
	for _, d := range s.drains {
		d.before = Queue{Dead: d.before.Dead}
	}
}

// round looks at the queues of these hosts.
func (s *sampler) round(ctx context.Context, hosts []string) error {
	return s.each(ctx, hosts, func(d *drain, q Queue) { d.look(q, time.Now()) })
}

func (s *sampler) each(ctx context.Context, hosts []string, note func(*drain, Queue)) error {
	return each(ctx, readers, hosts, func(ctx context.Context, host string) error {
		q, err := s.queues.depth(ctx, host)
		if err != nil {
			return fmt.Errorf("read the queue of %s: %w", host, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		note(s.drains[host], q)
		return nil
	})
}

// standing judges a host by its queue.
func (s *sampler) standing(host string, now time.Time, emptyFor time.Duration) Host {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drains[host]
	h := Host{Name: host}
	h.Verdict, h.State, h.Why = d.judge(now, emptyFor)
	if d.looked {
		q := d.now
		h.Queue = &q
	}
	return h
}

// depth returns what a host's queue held when it was last looked at; nil before that.
func (s *sampler) depth(host string) *Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.drains[host]; d.looked {
		q := d.now
		return &q
	}
	return nil
}

// watch looks at the queues of hosts that are not done, to show them, until stop is called.
// That it cannot is no error of the wait: complaint tells it, once.
func (s *sampler) watch(ctx context.Context, pace time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for ok := true; ok; ok = Sleep(ctx, pace) {
			err := s.round(ctx, s.open())
			if err != nil && ctx.Err() == nil {
				s.mu.Lock()
				s.trouble = err
				s.mu.Unlock()
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// done tells whether a host's queue needs no look any more.
func (s *sampler) done(host string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains[host].done = yes
}

func (s *sampler) open() (hosts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for host, d := range s.drains {
		if !d.done {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// complaint returns why queues could not be looked at, the first time that is asked.
func (s *sampler) complaint() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil || s.complained {
		return nil
	}
	s.complained = true
	return s.trouble
}
