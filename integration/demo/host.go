package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// host stands for one machine: its folders, and the agent that runs in them.
type host struct {
	*fleet
	name, dir string
	agent     *exec.Cmd     // nil before it was started
	stopping  chan struct{} // closed when it is told to end
	ended     chan struct{} // closed when it has
}

func (h *host) path(elem ...string) string { return filepath.Join(append([]string{h.dir}, elem...)...) }

// configure makes the host's folders and its config.json, as a user does.
func (h *host) configure(ctx context.Context, queueURL string) error {
	for _, dir := range []string{"root", "profiles", "tmp"} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, setting := range [][2]string{
		{"remote", remote}, {"configuration", h.name}, {"queue-url", queueURL}, {"lease-secs", "2"}, {"retry-delays-secs", "[1, 1]"},
	} {
		cmd := exec.CommandContext(ctx, h.npcnix, "--data-dir", h.path("data"), "config", "set", setting[0], setting[1])
		cmd.Env = h.env()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npcnix config set %s: %w\n%s", setting[0], err, out)
		}
	}
	return nil
}

// start starts the agent. If the agent ends unasked, the play is cancelled.
func (h *host) start(ctx context.Context, cancel context.CancelCauseFunc) error {
	log, err := os.Create(h.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(h.npcnix, "--data-dir", h.path("data"), "follow", "--host", h.name,
		"--profile", h.path("profiles", "system"), "--current-system", h.path("root", nixtest.CurrentSystem))
	cmd.Env = h.env(append(nixtest.Env(), nixtest.RootVariable+"="+h.path("root"), "HOME="+h.dir,
		"XDG_CACHE_HOME="+h.path("cache"), "TMPDIR="+h.path("tmp"), "NIX_LOG_DIR="+h.path("nix-log"))...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the demo alone
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s's agent: %w", h.name, err)
	}
	h.agent, h.stopping, h.ended = cmd, make(chan struct{}), make(chan struct{})
	go func() {
		err := cmd.Wait()
		select {
		case <-h.stopping:
		default:
			cancel(fmt.Errorf("%s's agent has ended by itself: %w", h.name, err))
		}
		close(h.ended)
	}()
	return nil
}

// terminate tells the agent to end.
func (h *host) terminate() {
	if h.agent != nil {
		close(h.stopping)
		_ = h.agent.Process.Signal(syscall.SIGTERM) // it may have ended
	}
}

// awaitEnd returns when the agent has ended, and with it the processes of an activation, which outlive
// the agent. If the agent takes too long, it is killed.
func (h *host) awaitEnd() {
	if h.agent == nil {
		return
	}
	defer h.endActivation()
	tooLong := time.NewTimer(10 * time.Second)
	defer tooLong.Stop()
	select {
	case <-h.ended:
	case <-tooLong.C:
		_ = syscall.Kill(-h.agent.Process.Pid, syscall.SIGKILL)
		<-h.ended
	}
}

// endActivation kills the processes of an activation until none is left, or for ten seconds.
func (h *host) endActivation() {
	mark := []byte("\x00--data-dir\x00" + h.path("data") + "\x00")
	for begun, left := time.Now(), true; left && time.Since(begun) < 10*time.Second; {
		left = false
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range all {
			line, _ := os.ReadFile(file) // it may have ended
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && bytes.Contains(line, mark) {
				left = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// record waits for an acknowledgement record of the published version in one of the given states.
func (h *host) record(ctx context.Context, published awsfake.Entry, state record.Status) (record.Record, error) {
	what := fmt.Sprintf("%s's record says %s", h.name, state)
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	recordKey := key + ".acks/" + h.name + ".json"
	for e := range h.cloud.Follow(bounded) {
		if e.What != awsfake.Answered || e.Action != "PutObject" || e.Key != recordKey || e.At.Before(published.At) {
			continue
		}
		out, err := h.s3.GetObject(bounded, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &recordKey})
		if err != nil {
			return record.Record{}, missing(ctx, what, err)
		}
		var r record.Record
		err = json.NewDecoder(out.Body).Decode(&r)
		out.Body.Close()
		if err != nil {
			return record.Record{}, fmt.Errorf("read %s's record: %w", h.name, err)
		}
		switch {
		case r.Version.ETag != published.ETag: // of the previous version
		case r.Status == state:
			return r, nil
		case state == record.Applied && r.Status == record.Failed:
			return r, fmt.Errorf("%s failed: %s\n%s", h.name, r.Error, strings.Join(r.LogTail, "\n"))
		}
	}
	return record.Record{}, missing(ctx, what, bounded.Err())
}

// message waits for the publish's message in one of the host's queues.
func (h *host) message(ctx context.Context, published awsfake.Entry, what awsfake.What, queue string) (awsfake.Entry, error) {
	return h.await(ctx, fmt.Sprintf("the message is %s, %s", what, queue), func(e awsfake.Entry) bool {
		return e.What == what && e.Queue == queue && e.At.After(published.At)
	})
}

// runs tells what the host runs: the version that its switch wrote, the system, and the generation of
// the profile. It is an error if the profile holds another system.
func (h *host) runs() (version, system string, generation int, err error) {
	marker, err := os.ReadFile(h.path("root", nixtest.Marker))
	if err != nil {
		return "", "", 0, fmt.Errorf("what %s runs: %w", h.name, err)
	}
	if system, err = os.Readlink(h.path("root", nixtest.CurrentSystem)); err != nil {
		return "", "", 0, fmt.Errorf("what %s runs: %w", h.name, err)
	}
	profiled, err := filepath.EvalSymlinks(h.path("profiles", "system"))
	if err != nil {
		return "", "", 0, fmt.Errorf("%s's profile: %w", h.name, err)
	}
	link, err := os.Readlink(h.path("profiles", "system"))
	if err != nil {
		return "", "", 0, fmt.Errorf("%s's profile: %w", h.name, err)
	}
	generation, err = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(link, "system-"), "-link"))
	if err != nil {
		return "", "", 0, fmt.Errorf("%s's generation: %w", h.name, err)
	}
	if profiled != system {
		return "", "", 0, fmt.Errorf("%s runs %s, and has %s in its profile", h.name, system, profiled)
	}
	return strings.TrimSpace(string(marker)), system, generation, nil
}

// logTail returns the last lines of the agent's log.
func (h *host) logTail(n int) []byte {
	data, _ := os.ReadFile(h.path("log")) // without a log there is nothing to show
	lines := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-1-n):], nil)
}
