package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
)

// try tries the check once.
func try(ctx context.Context, c config.Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout())
	defer cancel()
	switch {
	case c.HTTP != "":
		return get(ctx, c.HTTP)
	case c.TCP != "":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	_, err := runCommand(ctx, c.Command, nil)
	return err
}

// get asks anew: on a connection of its own, so that an old one proves nothing.
func get(ctx context.Context, url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	_ = answer.Body.Close() // nothing was written
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	return nil
}

// runCommand runs an operator's command to its end, or to that of ctx, and returns the last lines of
// what it printed. The error has the last of them.
func runCommand(ctx context.Context, command, env []string) (tail []string, err error) {
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
		return tail, fmt.Errorf("%s: not done in its time", command[0])
	case len(tail) > 0:
		return tail, fmt.Errorf("%s: %w: %s", command[0], err, tail[len(tail)-1])
	}
	return tail, fmt.Errorf("%s: %w", command[0], err)
}
