// Package command runs an operator's commands: hooks, and checks of a new system.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// credentials are the variables by which the AWS SDK finds credentials, and systemd's folder of those that a
// unit was given.
var credentials = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
	"AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "CREDENTIALS_DIRECTORY"}

// Environment is this process's, without AWS credentials unless they are to be passed on.
func Environment(passCredentials bool) []string {
	env := os.Environ()
	if passCredentials {
		return env
	}

	return slices.DeleteFunc(env, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(credentials, name)
	})
}

// Run runs a program and its arguments until it ends, or ctx does, in the environment env. It
// returns the last lines of the output, bounded and without escape sequences. The error has the last of
// them.
func Run(ctx context.Context, command, env []string) (tail []string, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = env
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
