package main

import (
	"errors"
	"io"

	"github.com/npcnix/npcnix/store"
)

// Exit codes, as the help says.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2

	// Of wait, and of push --wait.
	exitHosts      = 3 // more hosts failed, rolled back or rejected the version than --min-ok allows
	exitTime       = 4 // time ran out with hosts missing
	exitSuperseded = 5 // the remote holds another version by now

	exitUnconfirmed = 6 // of push: published, but the store does not tell as which version
)

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// usageError marks a command line that cannot be carried out as it is written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints an error, if there is one, and returns the exit code.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return exitDone
	}
	_ = printTo(stderr, "npcnix: %v\n", err)
	if own, is := errors.AsType[exitError](err); is {
		return own.code
	}
	if errors.As(err, new(usageError)) || errors.Is(err, store.ErrURL) {
		return exitUsage
	}
	return exitFailed
}
