package activation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// activationVariable names the environment variable by which the processes of a switch are known.
const activationVariable = "NPCNIX_ACTIVATION"

// Exit codes of switch-to-configuration (nixpkgs, switch-to-configuration-ng/src/main.rs).
const (
	exitActivation = 2   // a part of the activation script failed, and all of it ran
	exitUnits      = 4   // the system was activated, and some unit is failing: which, is for Verify to see
	exitBusy       = 11  // EAGAIN: somebody else holds its lock, and nothing was done
	exitInit       = 100 // the init systems do not fit: it can only be booted
)

// busyPause is the time between two tries while somebody else switches.
const busyPause = 2 * time.Second

// tried runs a system's switch-to-configuration, for an error that says all.
func (w *worker) tried(ctx context.Context, system, action string) error {
	if err := w.run(ctx, system, action); err != nil {
		return fmt.Errorf("%s (%s)", failure(system, err, w.Tail), action)
	}
	return nil
}

// run runs a system's switch-to-configuration to its end, or to the end of its time. While somebody
// else switches it waits. ExitCode and Tail are set.
func (w *worker) run(parent context.Context, system, action string) error {
	ctx, cancel := context.WithTimeout(parent, seconds(w.SwitchSecs))
	defer cancel()
	for {
		err := w.runOnce(parent, ctx, system, action)
		w.ExitCode = 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			w.ExitCode = exit.ExitCode()
		} else if err != nil {
			w.ExitCode = -1
		}
		if !w.lockTaken() {
			return err
		}
		w.log.Warn("somebody else is switching; waiting for them", "for", busyPause)
		if sleep(ctx, busyPause); ctx.Err() != nil {
			return err
		}
		if w.Phase == Switching && w.outdated(parent) || w.Phase == Committing && w.overtaken(parent) != "" {
			return err // what they have switched to is to stay
		}
	}
}

// lockTaken reports whether the last switch did nothing, as somebody else was switching. The exit code
// alone may be of another cause: switch-to-configuration ends with any errno.
func (w *worker) lockTaken() bool {
	return w.ExitCode == exitBusy && slices.ContainsFunc(w.Tail, func(line string) bool { return strings.Contains(line, "acquire lock") })
}

// runOnce runs a switch-to-configuration in a session of its own, which ends with the worker. Its
// output goes to a file, as a pipe would break when its reader is restarted.
func (w *worker) runOnce(parent, ctx context.Context, system, action string) error {
	output, err := os.OpenFile(filepath.Join(w.dir, switchLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	defer output.Close()
	written, err := os.Open(output.Name())
	if err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	defer written.Close()
	if _, err := written.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}

	cmd := exec.Command(nix.System{Path: system}.Switcher(), action)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), activationVariable+"="+w.ID)
	if w.Phase == RollingBack {
		cmd.Env = append(cmd.Env, "NIXOS_NO_CHECK=1") // the way back is not to be refused
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = switchSession()
	// The kernel takes the end of the thread that forked for the end of the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	log := &nix.Output{Emit: func(line string) { w.log.Info(line, "program", "switch-to-configuration "+action) }}
	err = follow(ctx, log, written, ended)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		killSwitch(w.ID) // what is in another process group
		<-ended
		if parent.Err() == nil {
			err = fmt.Errorf("it hung, and was ended after %s", seconds(w.SwitchSecs))
		}
	}
	_, _ = io.Copy(log, written)

	w.Tail = log.Lines()
	return err
}

// follow copies what is appended to a file until ended yields, and returns what it yielded, or the
// error of ctx when that ends first.
func follow(ctx context.Context, to io.Writer, file io.Reader, ended <-chan error) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		// What cannot be read is lost to the log, and no reason to fail a switch.
		_, _ = io.Copy(to, file)
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// killSwitch kills what a worker that was cut short has left of its switch. Units that the switch
// has started do not carry its mark, as the service manager starts them.
func killSwitch(id string) {
	mark := activationVariable + "=" + id
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue
		}
		for v := range strings.SplitSeq(string(environ), "\x00") {
			if v == mark {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}

// signalled reports whether a switch was ended by a signal that is not the worker's own: by the kernel,
// for want of memory, or by a person.
func signalled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && !exit.Exited()
}

// failure says how a switch failed.
func failure(system string, err error, tail []string) string {
	text := fmt.Sprintf("switch to %s: %v", system, err)
	if len(tail) > 0 {
		text += ": " + tail[len(tail)-1]
	}
	return text
}
