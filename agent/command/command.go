// Package command runs an operator's commands: hooks, and checks of a new system.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// Run runs a program and its arguments until it ends, or ctx does, with env added to the environment. It
// returns the last lines of the output, bounded and without escape sequences. The error has the last of
// them.
func Run(ctx context.Context, command, env []string) (tail []string, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), env...)
	var out nix.Output
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	err = cmd.Run()
	tail = out.Lines()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return tail, nil
	case ctx.Err() != nil:
		return tail, fmt.Errorf("%s: did not end in time", command[0])
	case len(tail) > 0:
		return tail, fmt.Errorf("%s: %w: %s", command[0], err, tail[len(tail)-1])
	}

	return tail, fmt.Errorf("%s: %w", command[0], err)
}
