package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/store"
)

const (
	DefaultTimeout  = 15 * time.Minute
	DefaultInterval = time.Second
)

// Options of a gate. Store is required.
type Options struct {
	Store Store
	// Hosts that are expected. Empty: all that have a record when the gate is made.
	Hosts []string
	// MustKnow are those of Hosts that must have a record already, as an operator wrote their names. It
	// is not checked if no host has a record yet, or if the store cannot list.
	MustKnow []string
	// Need is how many of them must run the version. The zero value: all.
	Need Need
	// KeepGoing waits for every host's answer even when too many have failed already.
	KeepGoing bool
	// Timeout bounds the wait; default DefaultTimeout.
	Timeout time.Duration
	// Interval is the time between two looks at the store; default DefaultInterval.
	Interval time.Duration
	// Queues are the expected hosts' queues, shown beside their records; nil: none are.
	Queues *Queues
	// ByQueue judges by Queues alone.
	ByQueue bool
	// EmptyFor is how long a queue must have been empty to count as drained, with ByQueue;
	// default DefaultEmptyFor.
	EmptyFor time.Duration
	// Views show the wait.
	Views []View
	// Resume is the command that takes up the wait for a version; nil: none is offered.
	Resume func(etag string) string
	// Before is what the remote held before the publish of the version, if that is known: a cache
	// may go on answering with it for a while. It may be set after Prepare.
	Before store.Version
	// ReleaseOf reads which release a version is; nil: versions are known by their ETags alone.
	ReleaseOf func(ctx context.Context, v store.Version) (Release, error)
}

// ErrHosts means that there is no sensible set of hosts to wait for.
var ErrHosts = errors.New("no hosts to wait for")

// Gate waits for a version. Make it with Prepare before the publish, use it once.
type Gate struct {
	Options
	hosts   []string
	wanted  map[string]bool
	need    int
	records records
	sampler *sampler
	last    map[string]Host
}

// Prepare determines the expected hosts, so that a mistake shows before anything is published. A mistake
// in the options is ErrHosts.
func Prepare(ctx context.Context, o Options) (*Gate, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.EmptyFor == 0 {
		o.EmptyFor = DefaultEmptyFor
	}
	g := &Gate{Options: o, records: records{store: o.Store, known: map[string]entry{}}, last: map[string]Host{}}
	for _, host := range o.Hosts {
		if err := store.CheckHost(host); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrHosts, err)
		}
	}
	g.hosts = slices.Compact(slices.Sorted(slices.Values(o.Hosts)))
	known, err := knownHosts(ctx, o, &g.records)
	if err != nil {
		return nil, err
	}
	if len(g.hosts) == 0 {
		if g.hosts = known; len(g.hosts) == 0 {
			return nil, fmt.Errorf("%w: no host has a record beside %s: name them with --host, --hosts-file or --topic-arn", ErrHosts, o.Store.URL())
		}
	}
	if err := checkKnown(o.MustKnow, known); err != nil {
		return nil, err
	}
	g.wanted = map[string]bool{}
	for _, host := range g.hosts {
		g.wanted[host] = true
	}
	if g.need, err = o.Need.of(len(g.hosts)); err != nil {
		return nil, err
	}
	if o.ByQueue {
		for _, host := range g.hosts {
			if o.Queues == nil || len(o.Queues.byHost[host]) == 0 {
				return nil, fmt.Errorf("%w: no queue of %s is subscribed to the topic", ErrHosts, host)
			}
		}
	}
	if o.Queues != nil {
		g.sampler = newSampler(o.Queues, g.hosts)
		if o.ByQueue {
			if err := g.sampler.baseline(ctx); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

// Baseline notes what the queues hold just before the publish, if they decide the wait.
func (g *Gate) Baseline(ctx context.Context) error {
	if !g.ByQueue {
		return nil
	}
	return g.sampler.baseline(ctx)
}

// Outcome is how a wait ended.
type Outcome string

const (
	Passed      Outcome = "passed"      // as many hosts as needed run the version
	HostsFailed Outcome = "failed"      // more hosts failed, rolled back or rejected it than Need allows
	TimedOut    Outcome = "timed out"   // hosts were still missing when the time was up
	Superseded  Outcome = "superseded"  // the remote holds another version by now
	Interrupted Outcome = "interrupted" // the operator ended the wait
)

// Result is how a wait ended, and where each host stood then.
type Result struct {
	Progress
	Outcome Outcome
	Because error         // why a rollout ended so; nil for a wait
	Newer   store.Version // what the remote holds instead; only with Superseded
	Latency Latency
	Resume  string // the command that takes the wait up; only with TimedOut and Interrupted
}

// Origin is how the caller of WaitFor knows a version.
type Origin int

const (
	Named     Origin = iota // an operator named it: the remote might never have held it
	Held                    // the remote held it when the caller looked
	Published               // the caller published it after Prepare
)

// WaitFor waits for version v, of which the ETag is enough. The error says that the wait itself
// could not be done; how it ended is in the result.
func (g *Gate) WaitFor(ctx context.Context, v store.Version, from Origin) (Result, error) {
	if v.ETag == "" {
		return Result{}, errors.New("no version to wait for: it has no ETag")
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	if g.ByQueue && from != Published {
		g.sampler.nothingBefore()
	}
	w := &wait{Gate: g, version: v, known: from != Named, answered: from != Named, began: time.Now(), releases: map[string]Release{}}
	if g.sampler != nil && !g.ByQueue {
		defer g.sampler.watch(ctx, max(g.Interval, queuePace))()
	}
	outcome, err := w.run(ctx)
	switch {
	case outcome != "" || err != nil:
	case asked.Err() != nil:
		outcome = Interrupted
	default:
		outcome = w.timedOut()
	}
	r := Result{Progress: w.progress(), Outcome: outcome}
	switch r.Outcome {
	case Superseded:
		r.Newer = w.now
	case Interrupted, TimedOut:
		if g.Resume != nil {
			r.Resume = g.Resume(v.ETag)
		}
	}
	r.Latency = latencyOf(r.Hosts)
	if err != nil {
		return r, err
	}
	for _, view := range g.Views {
		view.End(r)
	}
	return r, nil
}

// wait is one wait for one version.
type wait struct {
	*Gate
	version store.Version
	known   bool // to have been in the remote
	began   time.Time

	answered bool // the store did, to the caller
	rounds   int
	now      store.Version      // what the remote held when it was last looked at
	looks    int                // in a row that found now there
	releases map[string]Release // of versions that the remote held, by ETag
	trouble  error              // of the last look
}

// run looks until the fate of the version is decided, or until ctx ends: then it returns nothing.
func (w *wait) run(ctx context.Context) (Outcome, error) {
	again := backoff.NewExponentialBackOff()
	again.InitialInterval, again.MaxInterval, again.MaxElapsedTime = w.Interval, max(30*time.Second, w.Interval), 0
	for {
		began := time.Now()
		err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return "", nil
		case err != nil && w.hopeless(err):
			return "", err
		case err != nil:
			if w.trouble == nil {
				w.note("the records cannot be read, trying again: " + err.Error())
			}
			w.trouble = err
			w.show(nil)
			if !w.pause(ctx, again.NextBackOff()) {
				return "", nil
			}
			continue
		}
		if w.trouble != nil {
			w.note("the records can be read again")
		}
		w.trouble = nil
		again.Reset()
		w.rounds++
		if w.sampler != nil {
			if err := w.sampler.complaint(); err != nil {
				w.note("the queues cannot be read: " + err.Error())
			}
		}
		w.show(w.judge())
		if outcome, err := w.decide(); outcome != "" || err != nil {
			return outcome, err
		}
		if !w.pause(ctx, w.Interval-time.Since(began)) {
			return "", nil
		}
	}
}

// pause waits while the views go on showing how time passes, and reports whether ctx still lives.
func (w *wait) pause(ctx context.Context, d time.Duration) bool {
	for ; d > time.Second; d -= time.Second {
		if !Sleep(ctx, time.Second) {
			return false
		}
		w.show(nil)
	}
	return Sleep(ctx, d)
}

// look reads what there is to be known.
func (w *wait) look(ctx context.Context) error {
	now, err := w.Store.Latest(ctx, w.now)
	if err != nil {
		return err
	}
	if w.looks++; now.ETag != w.now.ETag || !now.Modified.Equal(w.now.Modified) {
		w.looks = 1
	}
	w.now = now
	w.identify(ctx)
	if now.ETag == w.version.ETag {
		w.version.Modified, w.Before = now.Modified, store.Version{} // no cache hides it any more
	}
	if w.ByQueue {
		return w.sampler.round(ctx, w.sampler.open())
	}
	return w.records.refresh(ctx, w.wanted)
}

// judge works out where each host stands and returns those that stand elsewhere than before.
func (w *wait) judge() (changed []Host) {
	moment := time.Now()
	version := w.version
	if version.Modified.IsZero() {
		version.Modified = w.Before.Modified // it was not published sooner
	}
	release := w.release().ID
	for _, name := range w.hosts {
		var h Host
		if w.ByQueue {
			h = w.sampler.standing(name, moment, w.EmptyFor)
		} else {
			h = w.records.standing(name, w.Store.URL(), version, release)
			if w.sampler != nil {
				h.Queue = w.sampler.depth(name)
			}
		}
		was, seen := w.last[name]
		h.Since, h.Took, h.Timed = moment, was.Took, was.Timed
		if seen && was.State == h.State {
			h.Since = was.Since
		}
		if h.Verdict == Done && was.Verdict != Done {
			h.Took, h.Timed = w.took(h, !seen)
		}
		if w.sampler != nil {
			w.sampler.done(name, h.Verdict == Done)
		}
		w.last[name] = h
		if !seen || !was.same(h) {
			changed = append(changed, h)
		}
	}
	return changed
}

// mayBeRefreshed is the age up to which a record that already said so at the first look tells when the host
// was done. Hosts write their records again from time to time.
const mayBeRefreshed = 10 * time.Minute

// took is how long after the publish the host's record was written, both by the store's clock.
func (w *wait) took(h Host, first bool) (time.Duration, bool) {
	if w.ByQueue || w.now.ETag != w.version.ETag || w.now.Modified.IsZero() || h.Heard.IsZero() {
		return 0, false
	}
	d := h.Heard.Sub(w.now.Modified)
	return d, d >= 0 && !(first && d > mayBeRefreshed)
}

// decide returns how the wait ended, or nothing.
func (w *wait) decide() (Outcome, error) {
	p := w.progress()
	tolerated := len(p.Hosts) - p.Need
	gone := w.replaced()
	switch {
	case p.Done >= p.Need && (!w.KeepGoing || p.Missing == 0):
		return Passed, nil
	case p.Failed > tolerated && (!w.KeepGoing || p.Missing == 0 || gone):
		return HostsFailed, nil
	case gone && p.Done >= p.Need:
		return Passed, nil
	case gone && !w.known && !w.mentioned():
		return "", fmt.Errorf("%s holds %s, and no host's record mentions %s: it was never published there, or replaced before any host took it, or all hosts have moved on",
			w.Store.URL(), w.now.ETag, clean(w.version.ETag))
	case gone:
		return Superseded, nil
	}
	w.known = w.known || w.holds()
	return "", nil
}

// timedOut is the outcome when there is no more time.
func (w *wait) timedOut() Outcome {
	p := w.progress()
	switch {
	case w.rounds > 0 && p.Done >= p.Need:
		return Passed
	case p.Failed > len(p.Hosts)-p.Need: // more than Need allows; fewer are not why it did not pass
		return HostsFailed
	}
	return TimedOut
}

func (w *wait) progress() Progress {
	p := Progress{Remote: w.Store.URL(), Version: w.version, Release: w.release(), Need: w.need, Elapsed: time.Since(w.began), Timeout: w.Timeout}
	for _, name := range w.hosts {
		h, seen := w.last[name]
		if !seen {
			h = Host{Name: name, Verdict: Missing, State: Unheard, Since: w.began}
		}
		p.Hosts = append(p.Hosts, h)
	}
	if w.trouble != nil {
		p.Trouble = w.trouble.Error()
	}
	p.count()
	return p
}

func (w *wait) show(changed []Host) {
	p := w.progress()
	for _, view := range w.Views {
		view.Update(p, changed)
	}
}

func (w *wait) note(msg string) {
	for _, view := range w.Views {
		view.Note(msg)
	}
}
