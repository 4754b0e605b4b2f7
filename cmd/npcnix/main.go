// Command npcnix keeps NixOS hosts at the configuration in a store.
//
// This package has the commands, a file each, their flags, signals, exit codes, and the wiring of the
// other packages, which do the work. Begin with root.go.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit code. The first signal asks the command to end; the
// second one ends the process at once, as the first restores the signals' own effect.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore)

	return report(execute(ctx, args, stdout, stderr), stderr)
}
