package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// An ending is how a round ends: with a status of its target, or without one.
type ending string

const (
	reached       = ending(record.Applied)
	rebootPending = ending(record.RebootPending)
	failed        = ending(record.Failed)
	rolledBack    = ending(record.RolledBack)
	rejected      = ending(record.Rejected)
	paused        = ending(record.Paused)
	drifted       = ending(record.Drifted)
	held          = ending(record.Held)

	refused    ending = "refused"    // the release is not trusted; it is judged again each round
	transient  ending = "transient"  // an error of the store's or of this machine's
	overtaken  ending = "overtaken"  // something else is wanted by now: begin again
	terminated ending = "terminated" // the agent is to end
)

// status is what the record says.
func (e ending) status() record.Status {
	if e == refused {
		return record.Rejected
	}

	return record.Status(e)
}

// A result is what is known at the end of a round.
type result struct {
	ending ending
	fresh  bool          // the round has activated something, or made it the boot default
	left   bool          // the host was left alone: Decide said so
	err    error         // why, if the target was not reached
	next   time.Time     // of the next attempt, with failed and transient
	system string        // that was reached, or becomes active with the next boot
	after  time.Duration // since the target was noticed
}

// A rule is what follows from an ending.
type rule struct {
	record   bool              // whether the target's status goes into the record
	messages inbox.Disposition // of the round
	wake     wake
	level    slog.Level // of its line in the log
	says     string     // that line; "" for none: the monitor has logged it
	once     once       // what it means to a run that is to end
}

type wake int

const (
	atPoll     wake = iota // at the next poll
	nextOrPoll             // at result.next, or at the next poll if that comes before
	atNext                 // at result.next
	unpause                // when the pause ends
	never
)

type once int

const (
	goesOn once = iota
	succeeds
	fails
)

// endings says all that depends on how a round ended.
var endings = map[ending]rule{
	reached:       {true, inbox.Acknowledge, atPoll, slog.LevelInfo, "applied", succeeds},
	rebootPending: {true, inbox.Acknowledge, atPoll, slog.LevelWarn, "the new system becomes active with the next boot", succeeds},
	drifted:       {true, inbox.Acknowledge, atPoll, slog.LevelWarn, "", fails},
	held:          {true, inbox.Acknowledge, atPoll, slog.LevelInfo, "", fails}, // the next wave is a new event
	failed:        {true, inbox.Extend, nextOrPoll, slog.LevelError, "attempt failed", goesOn},
	rolledBack:    {true, inbox.Leave, atPoll, slog.LevelError, "rolled back and rejected; waiting for another version, or `npcnix retry`", fails},
	rejected:      {true, inbox.Leave, atPoll, slog.LevelError, "rejected; waiting for another version, or `npcnix retry`", fails},
	refused:       {true, inbox.Leave, atPoll, slog.LevelError, "", fails},
	paused:        {true, inbox.Extend, unpause, slog.LevelInfo, "paused", fails},
	transient:     {false, inbox.Keep, atNext, slog.LevelWarn, "", goesOn},
	overtaken:     {false, inbox.Keep, never, slog.LevelInfo, "another version or other settings are wanted by now; beginning again", goesOn},
	terminated:    {false, inbox.Keep, never, slog.LevelDebug, "", goesOn},
}

// transientError is an error that is not the version's: the store's, or this machine's. What it stopped is
// tried again for as long as it lasts, and never leads to a rejection.
type transientError struct {
	code health.Code
	error
}

func (e transientError) Unwrap() error { return e.error }

// ErrReconnect ends Run when another store, queue or name is to be used, or when this process is stale: make
// a new agent, in the second case in a new process.
var ErrReconnect = errors.New("remote, queue or host changed")

var (
	// errNewer ends a round whose target was overtaken by a newer version or other settings.
	errNewer = errors.New("something else is wanted by now")
	// errPaused ends a round before its activation, because an operator has paused the host.
	errPaused = errors.New("an operator has paused the host")
)

// rebootNeeded ends a round whose system can only be booted.
type rebootNeeded struct{ why string }

func (r rebootNeeded) Error() string { return "a reboot is due: " + r.why }

// classify says how a round ends whose work failed with err. It is pure. Stopping says that the agent is to
// end, and activating that an activation may be in progress; again that the round may begin again.
func classify(err error, stopping, activating, again bool) ending {
	var back *activation.Error
	isActivation := errors.As(err, &back)
	newer := errors.Is(err, errNewer) || errors.Is(err, store.ErrChanged)

	switch {
	case errors.As(err, new(*release.Refused)):
		return refused
	case errors.Is(err, ErrReconnect):
		return terminated
	case newer && again:
		return overtaken
	case errors.Is(err, errPaused):
		return paused
	case errors.As(err, new(rebootNeeded)):
		return rebootPending
	case stopping && (!activating || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return terminated
	case newer, isActivation && back.Cause == activation.CauseBusy, errors.Is(err, nix.ErrMachine) && !isActivation,
		errors.As(err, new(transientError)):
		return transient
	}

	return failed
}

// codeOf says what a transient error is about.
func codeOf(err error) health.Code {
	var t transientError
	if errors.As(err, &t) {
		return t.code
	}

	return health.Machine
}

// attempted reports whether the round has made an attempt, whatever came of it.
func (res result) attempted() bool {
	switch res.ending {
	case reached, rebootPending, failed, rolledBack, rejected:
		return !res.left
	}

	return false
}
