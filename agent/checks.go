package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// Check is one of the operator's own proofs that a system works: a command that ends with 0, an URL
// that answers with a status below 400, or an address that takes a connection.
type Check struct {
	Name        string   `json:"name,omitempty"`
	Command     []string `json:"command,omitempty"` // a program and its arguments
	HTTP        string   `json:"http,omitempty"`
	TCP         string   `json:"tcp,omitempty"`          // HOST:PORT
	TimeoutSecs int64    `json:"timeout_secs,omitempty"` // of one try; default 10
}

const defaultCheckTimeout = 10 * time.Second

func (c Check) String() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.HTTP != "":
		return c.HTTP
	case c.TCP != "":
		return c.TCP
	}
	return strings.Join(c.Command, " ")
}

func (c Check) validate() error {
	kinds := 0
	for _, given := range []bool{len(c.Command) > 0, c.HTTP != "", c.TCP != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return errors.New("give one of command, http and tcp")
	}
	if c.TimeoutSecs < 0 || c.TimeoutSecs > maxSeconds {
		return fmt.Errorf("timeout_secs is %d: it must be from 0 to %d", c.TimeoutSecs, maxSeconds)
	}
	if c.HTTP != "" {
		if u, err := url.Parse(c.HTTP); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("http is %q: want http://HOST/PATH or https://HOST/PATH", c.HTTP)
		}
	}
	if c.TCP != "" {
		if _, port, err := net.SplitHostPort(c.TCP); err != nil || port == "" {
			return fmt.Errorf("tcp is %q: want HOST:PORT", c.TCP)
		}
	}
	return nil
}

// run tries the check once.
func (c Check) run(ctx context.Context) error {
	timeout := seconds(c.TimeoutSecs)
	if timeout == 0 {
		timeout = defaultCheckTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case c.HTTP != "":
		return c.get(ctx)
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
func (c Check) get(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP, nil)
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
