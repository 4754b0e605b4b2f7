package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// ActivateError is a switch that failed. The system may run in part, or wholly: which does is
// for [Host.Current] to say.
type ActivateError struct {
	System   System
	ExitCode int      // of switch-to-configuration; -1 where it did not start or was killed
	Tail     []string // the last lines of its output
	Profile  string   // what became of the profile, to be read by people
	Err      error    // how the switch ended
}

func (e *ActivateError) Error() string {
	text := fmt.Sprintf("switch to %s: %v", e.System.Path, e.Err)
	if len(e.Tail) > 0 {
		text += ": " + e.Tail[len(e.Tail)-1]
	}
	return text + "; " + e.Profile
}

func (e *ActivateError) Unwrap() error { return e.Err }

// Activate makes s the system that runs and that boots: it points the profile to s, unless that
// is so already, and runs the system's switch-to-configuration to its end. Where nothing is to be
// done ([Host.Runs]) it does it all the same.
//
// The switch has this process's environment and a session of its own; it is not ended when ctx
// is, nor when this process is. Its output goes to switch.log, from there to the logger. (Under
// systemd that is not enough to outlive the agent: its unit needs KillMode=process as well.)
//
// When the switch fails, the profile is pointed back to the system that ran before, and that
// system's boot loader entry is made the default again; the error is an [*ActivateError]. Nothing
// is changed where the error is [ErrNotNixOS], [ErrMachine] that is no ActivateError, or that of
// ctx, which had ended before the switch began.
func (h *Host) Activate(ctx context.Context, s System) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	if err := switchable(s); err != nil {
		return fmt.Errorf("activate: %w", err)
	}
	back, err := h.intoProfile(ctx, s)
	if err != nil {
		return fmt.Errorf("activate: %w", blamed(ctx, err))
	}
	h.dropRoots(func(_, path string) bool { return path == s.Path })
	tail, err := h.runSwitch(s, "switch")
	if err == nil {
		return nil
	}
	failed := &ActivateError{System: s, ExitCode: -1, Tail: tail, Err: err}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		failed.ExitCode = exit.ExitCode()
	}
	failed.Profile = h.goBack(back, s)
	return failed
}

// intoProfile points the profile to s and returns what it is to point to should the switch fail.
func (h *Host) intoProfile(ctx context.Context, s System) (back string, err error) {
	back, err = h.fallback(ctx)
	if err != nil {
		return "", err
	}
	profiled, _, err := h.Profiled()
	if err != nil || profiled == s {
		return back, err
	}
	if err := h.setProfile(ctx, s); err != nil {
		_ = h.restoreProfile(back) // nix-env may have done it before it was ended
		return "", err
	}
	return back, nil
}

// switchable returns an error that says why s is not a system to switch to.
func switchable(s System) error {
	name := filepath.Base(s.Path)
	if filepath.Dir(s.Path) != storeDir || len(name) < 34 || name[32] != '-' {
		return fmt.Errorf("%w: %q is not a store path", ErrNotNixOS, s.Path)
	}
	if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone from the store: build it again", ErrMachine, s.Path)
	}
	info, err := os.Stat(switcher(s))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: %s has no executable bin/switch-to-configuration", ErrNotNixOS, s.Path)
	}
	return nil
}

func switcher(s System) string { return filepath.Join(s.Path, "bin", "switch-to-configuration") }

// goBack undoes what the failed switch to s left for the next boot, and says how that went.
func (h *Host) goBack(link string, s System) string {
	if err := h.restoreProfile(link); err != nil {
		return fmt.Sprintf("the profile still has it, so it may boot next: %v", err)
	}
	before, generation, err := h.Profiled()
	switch {
	case err != nil:
		return fmt.Sprintf("the profile was set back, yet cannot be read: %v", err)
	case before == s:
		return "the profile still has it, as there was no other before it"
	case before == (System{}):
		return "the profile is empty, as it was before"
	}
	text := fmt.Sprintf("the profile is back at generation %d", generation)
	// By now the boot loader may know the failed system as its default.
	if switchable(before) == nil {
		if _, err := h.runSwitch(before, "boot"); err != nil {
			text += fmt.Sprintf(", but the boot loader could not be set back: %v", err)
		}
	}
	return text
}

// runSwitch runs s's switch-to-configuration to its end and returns the last lines it printed.
//
// A pipe would break when this process ends, and a switch that replaces the agent would with it;
// so the output goes to a file, which is followed.
func (h *Host) runSwitch(s System, action string) ([]string, error) {
	path := filepath.Join(h.opts.LogDir, action+".log")
	if err := os.MkdirAll(h.opts.LogDir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	// A switch that outlived its agent may still write to the last one: leave it that one.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	output, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer output.Close()
	written, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer written.Close()

	cmd := exec.Command(switcher(s), action)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	log := &lines{emit: h.logged("switch-to-configuration " + action)}
	err = follow(log, written, ended)
	log.flush()
	return log.tail, err
}

// follow copies what is appended to a file until ended yields, and returns what it yielded.
func follow(to io.Writer, file io.Reader, ended <-chan error) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		// What cannot be read is lost to the log, and no reason to fail a switch.
		_, _ = io.Copy(to, file)
		select {
		case err := <-ended:
			_, _ = io.Copy(to, file)
			return err
		case <-look.C:
		}
	}
}
