// Command npcnix keeps NixOS hosts at the configuration that a store holds.
//
// This package knows commands, flags, signals, the wiring of the other packages, and exit
// codes; what is done is done by them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/npcnix/npcnix/store"
)

// Exit codes, as documented in the help.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2

	// Of wait, and of push --wait.
	exitHosts      = 3 // more hosts failed, rolled back or rejected the version than may
	exitTime       = 4 // time ran out with hosts missing
	exitSuperseded = 5 // the remote holds another version by now

	exitUnconfirmed = 6 // of push: published, but the store does not tell as which version
)

func main() {
	// The second signal ends at once: the first takes this handler away.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, restore)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// usageError marks a command line that cannot be carried out as it is written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	args, err := joinOptions(args)
	if err == nil {
		err = execute(ctx, args, stdout, stderr)
	}
	var own exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		fmt.Fprintf(stderr, "npcnix: %v\n", err)
		return own.code
	case errors.As(err, new(usageError)), errors.Is(err, store.ErrURL):
		fmt.Fprintf(stderr, "npcnix: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "npcnix: %v\n", err)
		return exitFailed
	}
}

// joinOptions turns nix's `--option NAME VALUE`, which takes two words, into the one-word form
// that the flag parser knows.
func joinOptions(args []string) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(out, args[i:]...), nil
		case args[i] != "--option":
			out = append(out, args[i])
		case i+2 >= len(args):
			return nil, usageError{errors.New("--option takes two words, as nix has it: --option NAME VALUE")}
		case strings.HasPrefix(args[i+2], "--"):
			return nil, usageError{fmt.Errorf("--option takes NAME VALUE: %q looks like a flag", args[i+2])}
		default:
			out = append(out, "--option="+args[i+1]+"="+args[i+2])
			i += 2
		}
	}
	return out, nil
}
