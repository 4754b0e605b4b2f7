// Package inbox holds an agent's messages from their receipt until they are acknowledged, extended or
// released.
//
// It promises that the lease of a held message is extended in time, that messages which are not about
// this host's remote are deleted and logged once per kind, and that nothing which fails at the queue ever
// ends it.
package inbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/events"
)

const (
	// SQS allows a message 12 h of invisibility in all since its receipt (Amazon SQS developer guide,
	// "visibility timeout"); it is given up some time before.
	giveUpAfter = 11 * time.Hour
	// maxHeld is how many messages are held at most; more stay in the queue until these are done.
	maxHeld = 2000
	// pollGrace is how long a long poll in the air may still answer when the agent stops: one that is
	// cancelled can strand messages until their leases end (aws-sdk-go-v2#2068).
	pollGrace = time.Second
	// releaseAfter is when released messages are visible again: later than the server may take to notice
	// that this agent's last long poll was cancelled, and would hand them to it.
	releaseAfter = 2 * time.Second
	// releaseTimeout is how long releasing may take after the agent was told to stop.
	releaseTimeout = 2 * time.Second
)

// Queue delivers notices. *events.Queue and *events.FileWatch serve.
type Queue interface {
	// Receive blocks until something was delivered or some time has passed, and returns all that was
	// waiting.
	Receive(ctx context.Context) ([]events.Delivery, error)
	// Extend hides the deliveries for another while; zero releases them at once.
	Extend(ctx context.Context, ds []events.Delivery, by time.Duration) error
	// Ack deletes the deliveries.
	Ack(ctx context.Context, ds []events.Delivery) error
}

// Options of an inbox. Lease and Monitor are required.
type Options struct {
	Queue   Queue                    // nil: no events, only polls
	Ours    func(events.Notice) bool // tells notices about this host's remote from others
	Lease   time.Duration            // visibility timeout of a received message
	Open    bool                     // whether to receive from the beginning
	Monitor *health.Monitor
	Count   func(f Fate, n int) // is told what became of messages; nil: nobody
}

// Fate is what has become of a message. The set is closed: metrics are labelled by it.
type Fate string

const (
	Acknowledged Fate = "acknowledged" // nothing was left to do
	Extended     Fate = "extended"     // hidden until the next attempt
	Left         Fate = "left"         // for the dead-letter queue
	Unknown      Fate = "unknown"      // deleted: of an unknown shape
	Malformed    Fate = "malformed"    // deleted
	Foreign      Fate = "foreign"      // deleted: about something else than this host's remote
)

// Fates are all of them.
var Fates = []Fate{Acknowledged, Extended, Left, Unknown, Malformed, Foreign}

// Inbox is made by New, and works while Run does.
type Inbox struct {
	Options

	// finishing holds one during calls that change visibility or delete, so that an extension cannot
	// overtake what was finished.
	finishing  chan struct{}
	unextended bool // the last extension failed; under finishing

	mu        sync.Mutex
	finishers int                // who wait for the extension under way to end
	extending context.CancelFunc // ends the extension under way; nil if there is none
	held      []item
	open      bool          // whether to receive
	healthy   bool          // whether the last receive worked
	reached   bool          // whether any has
	changed   chan struct{} // closed, and replaced, when any of the above changes
}

type item struct {
	events.Delivery
	received time.Time
	taken    bool // part of the round under way
}

// New returns the inbox that o describes. It does nothing before Run.
func New(o Options) *Inbox {
	if o.Count == nil {
		o.Count = func(Fate, int) {}
	}

	return &Inbox{Options: o, open: o.Open, healthy: o.Queue != nil, finishing: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Run receives, and extends leases, until ctx ends and both have stopped.
func (in *Inbox) Run(ctx context.Context) {
	if in.Queue == nil {
		return
	}

	var both sync.WaitGroup
	both.Go(func() { in.receive(ctx) })
	both.Go(func() { in.extend(ctx) })
	both.Wait()
}

// View is what the agent sees of its inbox while it waits.
type View struct {
	Fresh   bool            // something was received that no round has taken
	Healthy bool            // the queue works, as far as is known
	Reached bool            // the queue works: something was received from it
	Changed <-chan struct{} // closed at the next change

	receiving bool
}

// View returns how the inbox is now.
func (in *Inbox) View() View {
	in.mu.Lock()
	defer in.mu.Unlock()

	fresh := slices.ContainsFunc(in.held, func(i item) bool { return !i.taken })

	return View{fresh, in.healthy, in.healthy && in.reached, in.changed, in.open && len(in.held) < maxHeld}
}

// SetOpen says whether to receive: a paused host leaves its messages in the queue.
func (in *Inbox) SetOpen(open bool) {
	in.mu.Lock()
	was := in.open
	in.mu.Unlock()

	if was != open {
		in.update(func() { in.open = open })
	}
}

// Take makes everything received so far part of the round under way, and returns the round's deliveries.
func (in *Inbox) Take() []events.Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()

	var ds []events.Delivery
	for i := range in.held {
		in.held[i].taken = true
		ds = append(ds, in.held[i].Delivery)
	}

	return ds
}

// Disposition is what becomes of the messages of a round.
type Disposition int

const (
	// Keep holds on to them, for the next round to finish: to release them each time would bring them to
	// the dead-letter queue.
	Keep Disposition = iota
	// Acknowledge deletes them: nothing is left to do.
	Acknowledge
	// Extend hides them until the next attempt.
	Extend
	// Leave lets go of them: the queue's redrive policy moves them to the dead-letter queue.
	Leave
)

var fates = map[Disposition]Fate{Acknowledge: Acknowledged, Extend: Extended, Leave: Left}

// Finish ends a round: what was taken is acknowledged, extended by the given time, or left, with its
// latest receipts. A failure is reported to the monitor, and does no harm.
//
// An extension of leases that is under way is cancelled: it may hang for as long as its requests may,
// and another follows in time.
func (in *Inbox) Finish(ctx context.Context, d Disposition, by time.Duration) {
	if d == Keep {
		return
	}
	in.mu.Lock()
	in.finishers++
	if in.extending != nil {
		in.extending()
	}
	in.mu.Unlock()
	in.finishing <- struct{}{}
	defer func() { <-in.finishing }()
	in.mu.Lock()
	in.finishers--
	in.mu.Unlock()

	ds := in.letGo()
	in.Count(fates[d], len(ds))
	if len(ds) == 0 || d == Leave {
		return
	}
	var err error
	if d == Acknowledge {
		err = in.Queue.Ack(ctx, ds)
	} else {
		err = in.Queue.Extend(ctx, ds, by)
	}
	in.report(health.Acknowledge, err)
}

// Release makes everything that is still held visible very soon, so that the next agent need not wait for
// the leases to end. Call it when Run has ended.
func (in *Inbox) Release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()

	in.Take()
	if ds := in.letGo(); len(ds) > 0 {
		in.report(health.Release, in.Queue.Extend(ctx, ds, releaseAfter))
	}
}

// letGo returns what was taken, and holds it no longer.
func (in *Inbox) letGo() (ds []events.Delivery) {
	in.update(func() {
		var fresh []item
		for _, i := range in.held {
			if i.taken {
				ds = append(ds, i.Delivery)
			} else {
				fresh = append(fresh, i)
			}
		}
		in.held = fresh
	})

	return ds
}

func (in *Inbox) report(code health.Code, err error) {
	if err != nil {
		in.Monitor.Failing(code, err)
		return
	}
	in.Monitor.Working(code)
}

// update changes the inbox under its lock and wakes whoever waits for a change.
func (in *Inbox) update(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()

	change()
	close(in.changed)
	in.changed = make(chan struct{})
}

// extend extends the lease of everything held, at a third of its time, until ctx ends.
func (in *Inbox) extend(ctx context.Context) {
	tick := time.NewTicker(in.Lease / 3)
	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			in.extendHeld(ctx)
		}
	}
}

func (in *Inbox) extendHeld(ctx context.Context) {
	select {
	case in.finishing <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-in.finishing }()

	in.mu.Lock()
	if in.finishers > 0 { // who waits for this one
		in.mu.Unlock()
		return
	}
	var ds []events.Delivery
	kept := in.held[:0]
	for _, i := range in.held {
		if time.Since(i.received) >= giveUpAfter {
			in.Monitor.Count("messages given up", "gave up a message after holding it for 11 hours; it will be delivered again", "message", i.ID)
			continue
		}
		kept = append(kept, i)
		ds = append(ds, i.Delivery)
	}
	in.held = kept
	ctx, in.extending = context.WithCancel(ctx)
	defer in.extending()
	in.mu.Unlock()

	if len(ds) == 0 {
		if in.unextended { // and what was is gone
			in.unextended = false
			in.Monitor.Working(health.Lease)
		}
		return
	}
	if err := in.Queue.Extend(ctx, ds, in.Lease); err == nil || ctx.Err() == nil {
		in.unextended = err != nil
		in.report(health.Lease, err)
	}
}
