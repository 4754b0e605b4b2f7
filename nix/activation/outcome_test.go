package activation

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
)

func TestASystemIsActivatedUnlessItsActivationFailed(t *testing.T) {
	failure := errors.New("exit status")
	for _, c := range []struct {
		name string
		ran  outcome
		want bool
	}{
		{"well", outcome{}, true},
		{"a unit fails", outcome{err: failure, exit: exitUnits, tail: []string{"warning: the following units failed: web.service"}}, true},
		{"a part of the activation fails", outcome{err: failure, exit: exitActivation}, false},
		{"a unit fails, after the Rust one said that the activation did",
			outcome{err: failure, exit: exitUnits, tail: []string{"Failed to run activate script", "Failed to start web.service"}}, false},
		{"a unit fails, after the activation script said that a part of it did",
			outcome{err: failure, exit: exitUnits, tail: []string{"Activation script snippet 'etc' failed (2)", "warning: error(s) occurred while switching to the new configuration"}}, false},
		{"a check fails", outcome{err: failure, exit: exitCheck}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.ran.activated(); got != c.want {
				t.Errorf("activated: %v, want %v", got, c.want)
			}
		})
	}
}

func TestUnitsThatASwitchCouldNotStartAreRead(t *testing.T) {
	got := notStarted([]string{
		"stopping the following units: web.service",
		"Failed to start web.service",
		"Failed to restart db.service: Unit x.service not found.",
		"A dependency job for worker@a.service failed. See 'journalctl -xe' for details.",
		"Job for api.service failed because the control process exited with error code.",
		"Failed to run activate script",
	})
	if want := []string{"web.service", "db.service", "worker@a.service", "api.service"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhoIsToBlame(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Cause
	}{
		{errors.New("exit status 1"), CauseVersion},
		{&fs.PathError{Op: "fork/exec", Err: syscall.ENOEXEC}, CauseVersion}, // its file is whole
		{&fs.PathError{Op: "fork/exec", Err: syscall.ENOMEM}, CauseMachine},
		{&fs.PathError{Op: "write", Err: syscall.ENOSPC}, CauseMachine},
		{&fs.PathError{Op: "read", Err: syscall.EIO}, CauseMachine},
		{fmt.Errorf("%w: set profile", nix.ErrDiskFull), CauseMachine},
		{exec.Command("/bin/sh", "-c", "kill -9 $$").Run(), CauseInterrupted},
	} {
		if got := (outcome{err: c.err, exit: -1}).cause(); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

func TestABootLoaderThatCannotWrite(t *testing.T) {
	for line, want := range map[string]bool{
		"cp: error writing '/boot/nixos/a-bzImage': No space left on device":                    true,
		"OSError: [Errno 28] No space left on device: '/boot/a.tmp' -> '/boot/EFI/nixos/a.efi'": true,
		"    1: No space left on device (os error 28)":                                          true,
		"mv: cannot create regular file '/boot/b': Input/output error":                          true,
		"install: error writing '/boot/c': Disk quota exceeded":                                 true,
		"there is No space left on device names":                                                false,
		"disk is full":                                                                          false,
	} {
		if got := (outcome{err: errors.New("exit status"), exit: 1, tail: []string{"updating", line}}).unwritten(); (got == line) != want {
			t.Errorf("%q: %q, want %v", line, got, want)
		}
	}
	if got := (outcome{tail: []string{"cp: No space left on device"}}).unwritten(); got != "" {
		t.Errorf("one that has succeeded could not write: %q", got)
	}
}

func TestSystemdWithoutAnAnswer(t *testing.T) {
	for line, want := range map[string]bool{
		"    Did not receive a reply. Possible causes include: the reply timeout expired":               true,
		"Failed to reload daemon: Connection timed out":                                                 true,
		"Error: Failed to list units: Message recipient disconnected from message bus without replying": true,
		"Failed to start web.service: Transport endpoint is not connected":                              true,
		"Nov 28 12:00:00 web1 curl[7]: Failed to connect: Connection timed out":                         false,
		"Job for web.service failed because a timeout was exceeded.":                                    false,
		"curl: (28) Connection timed out":                                                               false,
	} {
		if got := (outcome{err: errors.New("exit status"), exit: 1, tail: []string{"restarting the following units", line}}).unanswered(); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

func TestPausesBeforeARollbackIsTriedAgainGrow(t *testing.T) {
	for retries, want := range map[int]time.Duration{0: time.Minute, 1: 2 * time.Minute, 5: 32 * time.Minute, 6: time.Hour, 100: time.Hour} {
		if got := retryPause(retries); got != want {
			t.Errorf("after %d: %s, want %s", retries, got, want)
		}
	}
}
