// Package agent keeps one host at the version that its store holds.
//
//	publish → notice → decide → fetch → build → activate → verify → acknowledge
//
// It promises: whatever triggers it (start, event, poll, operator), the same reconcile runs, one at a
// time per host. What to run is read from the store, never from a message. A message is acknowledged when
// nothing is left to do for it but a reboot of the machine, and not before. Intent is durable before it is
// acted on, so that any instant may be the last. An error of the store, the queue, the network or a
// publisher never ends the agent: it backs off, logs that once, and heals by itself.
//
// Begin with [Agent.Run], the event loop, and reconcile.go, the way of one version through it. Decide says
// what is to be done, transition.go what is remembered, and the table in result.go what follows from how
// a round ended.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/reboot"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// Store holds the packed flake. *store.Remote serves.
type Store interface {
	// Latest returns the present version; have, if nothing changed since.
	Latest(ctx context.Context, have store.Version) (store.Version, error)
	// LatestAnnounced is Latest after a notice of the version with this ETag: it looks again for some
	// seconds while a cache still shows have.
	LatestAnnounced(ctx context.Context, have store.Version, etag string, at time.Time) (store.Version, error)
	// Tail returns the last n bytes of the version v.
	Tail(ctx context.Context, v store.Version, n int64) (store.Tail, error)
	// FetchSigned unpacks exactly the version v into dir, or returns an error wrapping store.ErrChanged
	// if it is another by now, or store.ErrUnsafe if it does not begin with the archive.
	FetchSigned(ctx context.Context, v store.Version, archive store.Archive, dir string) error
	record.Store
}

// Host builds and runs systems. *activation.Coordinator serves; package hosttest has what it promises as
// tests.
type Host interface {
	// Current returns the system that runs; zero if that cannot be told.
	Current(ctx context.Context) (nix.System, error)
	// Runs reports whether s runs and is the boot default.
	Runs(ctx context.Context, s nix.System) (bool, error)
	// Build builds a configuration of the flake in dir.
	Build(ctx context.Context, dir, configuration string) (nix.System, error)
	// Realise fetches a system that was built elsewhere, from the caches and no others, and builds
	// nothing.
	Realise(ctx context.Context, s nix.System, caches []nix.Cache) error
	// Activate switches to s, has it verified, and commits to it or rolls it back, as r says. When ctx
	// ends it returns, and the activation goes on for Resume to take up. An *activation.Error says that
	// it was rolled back.
	Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error)
	// Abandon drops a system that is only to become active with the next boot, if there is one.
	Abandon(ctx context.Context) error
	// Resume brings an activation to its end that an earlier process began, if there is one.
	Resume(ctx context.Context, r activation.Request) (j activation.Journal, found bool, err error)
}

// Machine is what the agent asks and does beyond systems. *activation.Coordinator serves.
type Machine interface {
	// NewlyFailing returns the units that are failing and were not before an activation, but for those
	// that match one of the patterns of exempt.
	NewlyFailing(ctx context.Context, j activation.Journal, exempt []string) (activation.Failing, error)
	// RebootDue says why the machine is to be rebooted for its system to run wholly; "" if not.
	RebootDue(ctx context.Context) (why string, err error)
	// Reboot reboots the machine.
	Reboot(ctx context.Context) error
}

// Options of an agent. Dir, Store and Host are required.
type Options struct {
	Dir  config.Dir
	Name string // of the host, in records
	// RemoteName is what releases call the remote: its bucket and key, as "bucket/key".
	RemoteName string
	Store      Store
	Host       Host
	Queue      inbox.Queue // nil: polls only
	// Machine is watched while a system is verified, and rebooted if the settings say so. Nil: neither.
	Machine Machine
	// Reach connects to the store and, if asked to, to the queue of the settings, as a process that was
	// just started would. Nil: verification does not ask for it.
	Reach func(ctx context.Context, c config.Config, queue bool) error
	// BootID tells one boot of the machine from another. Nil: [nix.BootID].
	BootID func() string

	// Ours tells notices about this host's remote from others. Nil: all are.
	Ours func(events.Notice) bool
	// Config holds the settings that Store and Queue were made from, overrides included.
	Config config.Config
	// Override is applied to config.json's settings each time they are read: flags and environment come
	// before the file. Nil: the file alone counts.
	Override func(config.Config) (config.Config, error)
	// Poke wakes the agent to read config.json and reconcile. Nil: it finds out at the next poll.
	Poke <-chan struct{}
	// Once ends Run: see the constants. Empty: it runs until ctx ends.
	Once Once
	// Force applies the remote's version once, even if it is unchanged, failed or rejected.
	Force bool
	// Status tells the service manager what the agent does, in one line. Nil: there is none.
	Status  func(line string)
	Version string // of npcnix, in records
	Log     *slog.Logger
}

// Once says when a run that is not to last ends.
type Once string

const (
	OnceAny      Once = "any"      // on any success, that is applied or unchanged
	OnceActivate Once = "activate" // on the first activation
)

func (o *Options) validate() error {
	switch {
	case o.Dir == "" || o.Store == nil || o.Host == nil:
		return errors.New("agent: Dir, Store and Host are required")
	case o.Once != "" && o.Once != OnceAny && o.Once != OnceActivate:
		return fmt.Errorf("--once is %q: it must be %q or %q", o.Once, OnceAny, OnceActivate)
	}

	if o.Ours == nil {
		o.Ours = func(events.Notice) bool { return true }
	}
	if o.Override == nil {
		o.Override = func(c config.Config) (config.Config, error) { return c, nil }
	}
	if o.BootID == nil {
		o.BootID = nix.BootID
	}
	if o.Status == nil {
		o.Status = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	return nil
}

// Agent is one host's agent. Make it with New, start it with Run, once.
type Agent struct {
	Options
	inbox   *inbox.Inbox
	record  *record.Writer
	monitor *health.Monitor
	reboot  reboot.Plan
	frame   frame // of the release that was read last

	config     config.Config               // as last read, overrides included
	said       string                      // the status that the service manager was told last
	idled      time.Time                   // when an event last brought nothing new
	swept      bool                        // what a killed agent left is gone
	transients int                         // rounds in a row that ended with a transient error
	since      time.Time                   // of the last reconfiguration, which the polling schedule depends on
	pause      *backoff.ExponentialBackOff // between attempts that a transient error ends
}

// New checks the options and the data directory.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := o.Config
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Remote == "" || c.Configuration == "" {
		return nil, errors.New("remote and configuration must both be set: `npcnix config set remote URL` and `npcnix config set configuration NAME`")
	}

	return wire(o), nil
}

// wire returns the agent of valid options.
func wire(o Options) *Agent {
	c := o.Config
	a := &Agent{Options: o, config: c, since: c.LastReconfiguration}
	file := o.Dir
	if o.Once == OnceAny {
		file = "" // a long-running agent beside this run has its own
	}
	a.monitor = health.New(file, o.Version, o.Log)
	a.pause = wait.NewBackOff(max(time.Second, c.MinSleep()), max(time.Second, c.MaxSleep()))
	a.inbox = inbox.New(inbox.Options{
		Queue: o.Queue, Ours: o.Ours, Lease: c.Lease(), Open: !c.Paused.Active(time.Now()), Monitor: a.monitor,
	})
	a.record = record.NewWriter(o.Store, o.Name, func(err error) {
		if err != nil {
			a.monitor.Failing(health.Record, err)
			return
		}
		a.monitor.Working(health.Record)
	})

	return a
}

// ErrReconnect ends Run when config.json was changed in a way that needs another store or queue: make a
// new agent.
var ErrReconnect = errors.New("remote or queue changed")

const (
	maxRestarts = 2 // of a build, in a row, by newer versions
	// While paused the clock is looked at this often, as it may be set.
	pausedLook = 10 * time.Minute
	// When the first poll comes after a start: a server that has not noticed yet that the last agent's
	// long poll was cancelled may hand a message to it, where it is lost for a lease
	// (aws-sdk-go-v2#2068). By then every such poll has ended.
	startedLook = 25 * time.Second
	// How long after an event that brought nothing new the next one may wait, so that a burst that
	// trickles in costs a few looks at the store and not one for each message.
	breath = time.Second
)

// Run reconciles at start and then on every event, poll and poke, until ctx ends (nil, but for OnceAny an
// error), until Once is fulfilled (nil, or why it cannot be), or until it returns ErrReconnect. Whatever
// it started has ended when it returns, and messages that are not done are back in the queue.
func (a *Agent) Run(ctx context.Context) error {
	stop := a.start(ctx)
	defer stop()

	force := a.Force
	trigger := record.Start
	for {
		res := a.round(ctx, trigger, force)
		if res.ending == terminated {
			if errors.Is(res.err, ErrReconnect) {
				return ErrReconnect
			}
			return a.interrupted(ctx)
		}
		if force && res.attempted() {
			force = false // it is for one attempt
		}
		if done, err := a.fulfilled(res); done {
			return err
		}
		if trigger = a.await(ctx, res, trigger == record.Start); trigger == "" {
			return a.interrupted(ctx)
		}
	}
}

// start starts what works beside the rounds. Stop ends it: messages are released and the latest record is
// written, both within a bound.
func (a *Agent) start(ctx context.Context) (stop func()) {
	receiving, stopReceiving := context.WithCancel(ctx)
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	var received, written sync.WaitGroup
	received.Go(func() { a.inbox.Run(receiving) })
	written.Go(func() { a.record.Run(writing) })
	written.Go(func() { a.monitor.Run(writing) })

	return func() {
		stopReceiving()
		var last sync.WaitGroup
		last.Go(func() {
			received.Wait()
			a.inbox.Release(ctx)
		})
		last.Go(func() { a.flush(writing) })
		last.Wait()
		stopWriting()
		written.Wait()
	}
}

// round reconciles, and begins again when overtaken by a newer version.
func (a *Agent) round(ctx context.Context, trigger record.Trigger, force bool) result {
	var res result
	for restarts := 0; restarts <= maxRestarts; restarts++ {
		r := &round{
			trigger: trigger, held: a.inbox.Take(), force: force, last: restarts == maxRestarts,
			times: record.Times{Noticed: time.Now()},
		}
		if res = a.reconcile(ctx, r); res.ending != overtaken {
			break
		}
	}

	if trigger == record.Event && res.left && (res.ending == reached || res.ending == drifted) {
		a.idled = time.Now()
	}

	return res
}

// interrupted returns what the end of ctx means: nothing to a daemon, failure to a caller that waits.
func (a *Agent) interrupted(ctx context.Context) error {
	if a.Once == OnceAny {
		return fmt.Errorf("ended before the host was brought up to date: %w", context.Cause(ctx))
	}

	return nil
}

// fulfilled reports whether Once is, or cannot be any more, and in that case why.
func (a *Agent) fulfilled(res result) (bool, error) {
	if res.ending == transient {
		a.transients++
	} else {
		a.transients = 0
	}

	switch a.Once {
	case OnceActivate:
		return res.fresh, nil
	case OnceAny:
		means := endings[res.ending].once
		if _, again := a.config.RetryDelay(a.transients + 1); res.ending == transient && !again {
			means = fails
		}
		return means != goesOn, a.outcome(res, means)
	}

	return false, nil
}

// outcome is the error of a run that ends with res.
func (a *Agent) outcome(res result, means once) error {
	switch {
	case means != fails:
		return nil
	case res.ending == drifted:
		return fmt.Errorf("%w; --correct-drift switches it back", res.err)
	case res.ending == paused:
		return fmt.Errorf("%w; `npcnix unpause` ends the pause", res.err)
	}

	return res.err
}

// await waits for the next thing to reconcile for; empty when ctx ended.
func (a *Agent) await(ctx context.Context, res result, started bool) record.Trigger {
	healthy := a.inbox.View().Healthy
	delay := a.delay(res, healthy)
	if started && res.ending != paused {
		delay = min(delay, wait.Jitter(startedLook, 0.1))
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	a.nextLook(time.Now().Add(delay))
	defer a.nextLook(time.Time{})
	restart, stopRestart := a.rebootTimer(res)
	defer func() { stopRestart() }()

	var breathed <-chan time.Time
	for {
		v := a.inbox.View()
		switch {
		case v.Fresh && time.Since(a.idled) >= breath:
			return record.Event
		case v.Fresh && breathed == nil:
			breathed = time.After(time.Until(a.idled.Add(breath)))
		case v.Healthy && !healthy:
			return record.Poll // events may have been lost meanwhile
		case !v.Healthy && healthy:
			healthy = false
			delay = a.delay(res, false)
			timer.Reset(delay)
			a.nextLook(time.Now().Add(delay))
		}

		select {
		case <-v.Changed:
		case <-breathed:
			return record.Event
		case <-timer.C:
			return record.Poll
		case <-restart:
			a.rebootMachine(ctx)
			stopRestart()
			restart, stopRestart = a.rebootTimer(res)
		case <-a.Poke:
			return record.Manual
		case <-ctx.Done():
			return ""
		}
	}
}

// nextLook takes note of when the agent will look again, for agent.json.
func (a *Agent) nextLook(at time.Time) {
	a.monitor.Update(func(now *health.Health) {
		now.Next = time.Time{}
		if !at.IsZero() {
			now.Next = at.UTC().Truncate(time.Second)
		}
	})
}
