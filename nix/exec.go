package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// killAfter is the time that nix has to end its builders when a build is cancelled.
const killAfter = 2 * time.Second

// nix runs a subcommand of the new command line interface.
func (h *Host) nix(ctx context.Context, stdout io.Writer, stderr *Output, args ...string) error {
	return run(ctx, stdout, stderr, "nix", append(h.settings(), args...)...)
}

// settings are the options of nix for each call. The experimental features come last, so that
// an operator's option of that name adds to them and does not replace them.
func (h *Host) settings() []string {
	var args []string
	for _, s := range h.opts.Settings {
		args = append(args, "--option", s[0], s[1])
	}
	if s := h.opts.Substituters; len(s) > 0 {
		args = append(args, "--option", "extra-substituters", strings.Join(s, " "))
	}
	if k := h.opts.PublicKeys; len(k) > 0 {
		args = append(args, "--option", "extra-trusted-public-keys", strings.Join(k, " "))
	}
	return append(args, "--extra-experimental-features", "nix-command flakes")
}

// run runs one of nix's programs to its end, in a process group of its own. When ctx ends, the
// group is asked to, and killed a little later; the error is then that of ctx.
func run(ctx context.Context, stdout io.Writer, stderr *Output, name string, args ...string) error {
	return runWith(ctx, nil, stdout, stderr, name, args...)
}

// runWith is run with something to read.
func runWith(ctx context.Context, stdin io.Reader, stdout io.Writer, stderr *Output, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w (%w): install nix, or start with its folder in PATH", ErrNoNix, err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.SysProcAttr = dieWithParent()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killAfter

	// The kernel takes the end of the thread that forked for the end of the parent. A thread
	// that is locked to this goroutine cannot end before it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	stderr.flush()

	if ctx.Err() != nil {
		if cmd.Process != nil {
			// nix has ended; this is for what it may have left behind. A group without members is no error.
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return ctx.Err()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // nix is done, and something that outlives it (a shared ssh connection) holds our pipe
	}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.As(err, &exit) && exit.Exited():
		return err
	case exit != nil:
		return fmt.Errorf("%w: %s ended by a signal (%w): is there enough memory?", ErrMachine, name, err)
	default:
		return fmt.Errorf("%w: start %s: %w", ErrMachine, name, err)
	}
}
