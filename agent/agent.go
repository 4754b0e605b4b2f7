// Package agent keeps one host at the version that its store holds.
//
//	publish → notice → decide → fetch → build → activate → verify → acknowledge
//
// It promises: whatever triggers it (start, event, poll, operator), the same reconcile runs,
// one at a time per host. What to run is read from the store, never from a message. A message is
// deleted when nothing is left to do for it but a restart of the machine, and not before. Intent is
// durable before it is acted on, so that any instant may be the last. Somebody else's error (store,
// queue, network, a bad publish) never ends the agent; it backs off, says so once, and heals by itself.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// Queue delivers notices. *events.Queue and *events.FileWatch serve.
type Queue interface {
	// Receive blocks until something was delivered or a while has passed, and returns all
	// that was waiting.
	Receive(ctx context.Context) ([]events.Delivery, error)
	// Extend hides the deliveries for another while; zero gives them back at once.
	Extend(ctx context.Context, ds []events.Delivery, by time.Duration) error
	// Ack deletes the deliveries.
	Ack(ctx context.Context, ds []events.Delivery) error
}

// Store holds the packed flake. *store.Remote serves.
type Store interface {
	// Latest returns the present version; have, where nothing changed since.
	Latest(ctx context.Context, have store.Version) (store.Version, error)
	// Fetch unpacks exactly the version v into dir, or returns an error wrapping
	// store.ErrChanged if it is another by now.
	Fetch(ctx context.Context, v store.Version, dir string) error
	// PutRecord writes the host's acknowledgement record.
	PutRecord(ctx context.Context, host string, body []byte) error
}

// Host builds and runs systems. *activation.Coordinator serves.
type Host interface {
	// Current returns the system that runs; zero where that cannot be told.
	Current(ctx context.Context) (nix.System, error)
	// Runs reports whether s runs and is the one that boots next.
	Runs(ctx context.Context, s nix.System) (bool, error)
	// Build builds a configuration of the flake in dir.
	Build(ctx context.Context, dir, configuration string) (nix.System, error)
	// Activate switches to s, has it verified, and commits to it or takes it back, as o says. When
	// ctx ends it returns, and the activation goes on for Resume to take up. An
	// *activation.Error says that it was taken back.
	Activate(ctx context.Context, s nix.System, o activation.Request) (activation.Journal, error)
	// Abandon takes back what is only to boot next, if there is such a thing.
	Abandon(ctx context.Context) error
	// Resume brings an activation to its end that an earlier process began, if there is one.
	Resume(ctx context.Context, o activation.Request) (a activation.Journal, found bool, err error)
}

// Machine is what the agent asks and does beyond systems. *activation.Coordinator serves.
type Machine interface {
	// NewlyFailing returns the units that are failing and were not before an activation, but for
	// those that match one of the patterns of exempt.
	NewlyFailing(ctx context.Context, a activation.Journal, exempt []string) (activation.Failing, error)
	// RebootDue says why the machine is to be restarted for its system to run wholly; "" if not.
	RebootDue(ctx context.Context) (why string, err error)
	// Reboot restarts the machine.
	Reboot(ctx context.Context) error
}

// Trigger is what made a reconcile run.
type Trigger string

const (
	TriggerStart  Trigger = "start"
	TriggerEvent  Trigger = "event"
	TriggerPoll   Trigger = "poll"
	TriggerManual Trigger = "manual"
)

// Options of an agent. Store, Host and Dir are required.
type Options struct {
	Dir   config.Dir
	Name  string // of the host, in records
	Store Store
	Host  Host
	Queue Queue // nil: polls only
	// Machine is watched when a system proves itself, and restarted where config.json says so.
	// Nil: neither.
	Machine Machine
	// Reach connects anew to the store and, if asked to, to the queue of the settings, as a process
	// that was just started would. Nil: what runs is not asked to prove that it can.
	Reach func(ctx context.Context, c config.Config, queue bool) error
	// BootID tells one boot of the machine from another. Nil: [nix.BootID].
	BootID func() string

	// Ours tells notices about this host's remote from others. Nil: all are.
	Ours func(events.Notice) bool
	// Config holds the settings that Store and Queue were made from, overrides included.
	Config config.Config
	// Override is applied to config.json's settings each time they are read: flags and
	// environment come before the file. Nil: the file alone counts.
	Override func(config.Config) (config.Config, error)
	// Poke wakes the agent to read config.json and reconcile. Nil: it finds out at the
	// next poll.
	Poke <-chan struct{}
	// Once ends Run: see the constants. Empty: it runs until ctx ends.
	Once Once
	// Force applies the remote's version once, even if unchanged, backing off or rejected.
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
	inbox    *inbox
	recorder *recorder
	reporter *reporter
	pulse    *pulse // nil beside a long-running agent, which has its own

	config     config.Config               // as last read, overrides included
	said       string                      // the status that the service manager was told last
	idled      time.Time                   // when an event last brought nothing new
	swept      bool                        // what a killed agent left is gone
	hindrances int                         // rounds in a row that ended hindered
	since      time.Time                   // of the last reconfiguration, which the polling schedule depends on
	pause      *backoff.ExponentialBackOff // between attempts that something else than a publish hinders
	restart    restart
}

// New checks the options and the data directory.
func New(o Options) (*Agent, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := &Agent{Options: o, config: o.Config, reporter: newReporter(o.Log)}
	if err := a.config.Validate(); err != nil {
		return nil, err
	}
	if a.config.Remote == "" || a.config.Configuration == "" {
		return nil, errors.New("remote and configuration must both be set: `npcnix config set remote URL` and `npcnix config set configuration NAME`")
	}
	if o.Once != OnceAny {
		a.pulse = newPulse(o.Dir, o.Version)
		a.reporter.pulse = a.pulse
	}
	a.since = a.config.LastReconfiguration
	a.pause = newBackOff(max(time.Second, seconds(a.config.MinSleepSecs)), max(time.Second, seconds(a.config.MaxSleepSecs)))
	a.inbox = newInbox(o.Queue, o.Ours, a.config.Lease(), !a.config.Paused.Active(time.Now()), a.reporter)
	a.recorder = newRecorder(o.Store, o.Name, a.reporter)
	return a, nil
}

// A round is one reconcile and what it finds out on its way.
type round struct {
	trigger  Trigger
	held     []events.Delivery // the messages that it is to settle
	last     bool              // a newer version does not cancel this one's build
	config   config.Config
	state    State
	previous nix.System // what ran when it began
	running  nix.System // what runs
	// Why the machine is to be restarted, and the system that boots next; "" if not, or none.
	reboot, bootsNext string
	bootsFrom         string // what ran when bootsNext was made what boots
	target            Target
	attempt           int
	times             Times
}

// reconcile makes the host run what the store holds. It is the only way anything is done.
func (a *Agent) reconcile(ctx context.Context, r *round) outcome {
	unlock, err := a.Dir.LockActivation(ctx, func() { a.Log.Info("waiting for another npcnix to finish its activation") })
	if err != nil {
		return a.hindered(ctx, r, err)
	}
	defer unlock()
	if err := a.recall(ctx, r); err != nil {
		return a.hindered(ctx, r, err)
	}
	if r.config.Paused.Active(time.Now()) {
		r.target = Target{Remote: r.config.Remote, Configuration: r.config.Configuration} // of no version: it is not looked for
		return a.leave(r, Wait, r.config.Paused.String())
	}

	// notice
	latest, err := a.Store.Latest(ctx, r.known())
	if err != nil {
		return a.hindered(ctx, r, hindrance{byStore, err})
	}
	a.reporter.worked(byStore, "the store can be read again")
	r.target = Target{r.config.Remote, r.config.Configuration, latest.ETag, latest.ID}
	r.times.Published = r.published(latest)

	// decide
	decision, why := Decide(Known{r.state, r.config.Paused, r.config.RetryToken, r.previous, r.config.CorrectDrift, a.Force}, r.target, time.Now())
	if decision != Apply {
		return a.leave(r, decision, why)
	}
	if err := a.takeBack(ctx, r); err != nil {
		return a.hindered(ctx, r, err)
	}
	if err := a.begin(r); err != nil {
		return a.hindered(ctx, r, err)
	}
	a.Log.Info("applying", "configuration", r.target.Configuration, "etag", r.target.ETag, "trigger", r.trigger, "attempt", r.attempt, "why", why)

	// fetch, build
	system, err := a.obtain(ctx, r)
	if err != nil {
		return a.failed(ctx, r, err)
	}

	// activate, verify
	if err := a.activate(ctx, r, system); err != nil {
		return a.failed(ctx, r, err)
	}

	// acknowledge: the caller settles the messages when it has this
	return a.applied(ctx, r, system)
}

// errNewer ends a round whose target was overtaken by a newer version or other settings.
var errNewer = errors.New("something else is wanted by now")

// obtain fetches and builds the target. A newer version seen meanwhile cancels both.
func (a *Agent) obtain(ctx context.Context, r *round) (nix.System, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if !r.last {
			a.watchForNewer(ctx, r.target, cancel)
		}
	}()
	defer func() { cancel(nil); <-watched }()

	dir, err := os.MkdirTemp(string(a.Dir), flakePrefix)
	if err != nil {
		return nix.System{}, hindrance{byMachine, fmt.Errorf("make a directory for the flake: %w", err)}
	}
	defer os.RemoveAll(dir)
	flake := filepath.Join(dir, "flake")
	if err := a.Store.Fetch(ctx, r.target.version(), flake); err != nil {
		if !errors.Is(err, store.ErrUnsafe) {
			err = hindrance{byFetch, err}
		}
		return nix.System{}, cause(ctx, err)
	}
	r.times.Fetched = time.Now()
	system, err := a.Host.Build(ctx, flake, r.target.Configuration)
	if err != nil {
		return nix.System{}, cause(ctx, err)
	}
	r.times.Built = time.Now()
	return system, nil
}

// cause returns why ctx was cancelled, if it was, else err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// watchForNewer looks at the store whenever a message about the remote arrives, and cancels
// when it holds another version than the target's.
func (a *Agent) watchForNewer(ctx context.Context, t Target, cancel context.CancelCauseFunc) {
	for {
		v := a.inbox.view()
		if v.fresh {
			latest, err := a.Store.Latest(ctx, t.version())
			if err == nil && latest.ETag != t.ETag {
				cancel(errNewer)
				return
			}
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return
		}
	}
}

// activate switches to the system, unless it runs already, and has it prove itself.
func (a *Agent) activate(ctx context.Context, r *round, s nix.System) error {
	if runs, err := a.Host.Runs(ctx, s); err != nil {
		return hindrance{byMachine, err}
	} else if runs && !r.state.Unsettled { // else the boot loader may have another
		a.Log.Info("the built system runs already; nothing to activate", "system", s.Path)
		return nil
	}
	if err := a.stillWanted(r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	in := r.state.Intent
	in.System, in.Times, in.Queue = s.Path, r.times, a.inbox.view().reached
	if err := a.preActivate(ctx, r); err != nil {
		return err
	}
	if err := a.stillWanted(r); err != nil { // the hook may have taken minutes, or have paused the host
		return err
	}
	in.Stage = StageActivating
	if err := a.save(r); err != nil {
		return err
	}
	a.report(r, StateActivating)
	a.status("activating " + r.target.ETag)
	done, err := a.Host.Activate(ctx, s, a.order(r.config, in))
	if err != nil {
		return err
	}
	if done.Phase == activation.RebootPending {
		return rebootDue{done.BootOnlyWhy}
	}
	r.times.Activated = time.Now()
	return nil
}

// stillWanted returns an error where the operator paused the host, or asked for something else, since
// the round began.
func (a *Agent) stillWanted(r *round) error {
	switch c, err := a.loadConfig(); {
	case err != nil: // reported by the next round
	case c.Paused.Active(time.Now()):
		return errPaused
	case c.Remote != r.target.Remote || c.Configuration != r.target.Configuration:
		return errNewer
	}
	return nil
}

// Order is what the settings say of an activation that is verified by v.
func Order(c config.Config, v Verifier) activation.Request {
	return activation.Request{
		SwitchTimeout: c.SwitchTimeout(), VerifyTimeout: c.VerifyTimeout(),
		Verify: v.Verify, Keep: int(c.KeepGenerations),
	}
}

// order is what an activation for an intent, which may be nil, is to heed.
func (a *Agent) order(before config.Config, in *Intent) activation.Request {
	o := Order(before, Verifier{})
	remote := before.Remote
	if in != nil {
		o.ID, remote = in.Activation, in.Remote
	}
	// The system may bring settings of its own: it is by these that the host lives on.
	o.Verify = func(ctx context.Context, act activation.Journal) error {
		c, err := a.loadConfig()
		if err != nil {
			return fmt.Errorf("the settings cannot be used any more: %w", err)
		}
		v := Verifier{Host: a.Host, Machine: a.Machine, Config: c, Log: a.Log}
		if a.Reach != nil {
			queue := in != nil && in.Queue || c.QueueURL != before.QueueURL
			v.Reach = func(ctx context.Context) error {
				err := a.Reach(ctx, c, queue)
				if errors.Is(err, store.ErrNotFound) && c.Remote == remote {
					return nil // it is gone by now, and that was an answer
				}
				return err
			}
		}
		return v.Verify(ctx, act)
	}
	return o
}

// rebootDue ends a round whose system was made what boots next, as it cannot be switched to.
type rebootDue struct{ why string }

func (r rebootDue) Error() string {
	return "the new system boots next, a restart of the machine is due: " + r.why
}

// errPaused ends a round before its activation because the operator paused the host meanwhile.
var errPaused = errors.New("paused before the activation")
