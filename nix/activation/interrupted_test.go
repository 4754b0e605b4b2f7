package activation_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// slowRig is a host that runs version v1 and has built v2, whose switch waits for a file.
type slowRig struct {
	*host
	one, two nix.System
	release  string
}

func newSlowRig(t *testing.T) *slowRig {
	h := newHost(t)
	release := filepath.Join(h.root, "release")
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2", SwitchWaits: "release"}}
	r := &slowRig{host: h, one: h.built(t, all, "one"), two: h.built(t, all, "two"), release: release}
	h.activated(t, r.one)
	h.forgetSwitches(t)
	return r
}

func (r *slowRig) letSwitch(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(r.release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// marked returns the processes of this host's activations whose command line has a word.
func (h *host) marked(t *testing.T, word string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		words := strings.Split(string(command), "\x00")
		if err == nil && slices.Contains(words, word) && bytes.Contains(environ, []byte(nixtest.RootVariable+"="+h.root+"\x00")) {
			found = append(found, pid)
		}
	}
	return found
}

// awaitWorkers waits until no worker is left: it tidies up after an activation has ended.
func (h *host) awaitWorkers(t *testing.T) {
	t.Helper()
	for len(h.marked(t, "run")) > 0 {
		time.Sleep(10 * time.Millisecond) // another process's doing can only be looked for
	}
}

// killWorker kills the worker, as kill -9 does.
func (h *host) killWorker(t *testing.T) {
	t.Helper()
	workers := h.marked(t, "run")
	if len(workers) != 1 {
		t.Fatalf("workers %v, want one", workers)
	}
	if err := syscall.Kill(workers[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// awaitPhase waits until the activation on disk is in a phase.
func (h *host) awaitPhase(t *testing.T, phase activation.Phase) activation.Journal {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		a, err := activation.Read(h.opts.Dir)
		if err == nil && a != nil && a.Phase == phase {
			return *a
		}
		if time.Now().After(deadline) {
			t.Fatalf("activation %+v, %v; want phase %q\n%s", a, err, phase, h.workerLog())
		}
		time.Sleep(10 * time.Millisecond) // another process's doing can only be looked for
	}
}

func (r *slowRig) wantCommitted(t *testing.T) {
	t.Helper()
	r.wantRuns(t, r.two, true)
	r.wantBoots(t, "v2")
	r.wantMarker(t, "v2")
}

func (r *slowRig) wantBack(t *testing.T) {
	t.Helper()
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
	r.wantMarker(t, "v1")
}

// restarted makes the activation on disk one of another boot of the machine, which has booted s.
func (h *host) restarted(t *testing.T, s nix.System) {
	t.Helper()
	h.edit(t, func(all map[string]any) {
		all["boot_id"] = "of another boot"
		all["from_the_future"] = true
	})
	nixtest.Link(t, h.opts.CurrentSystem, s.Path)
	h.forgetSwitches(t)
}

// Processes that share the work of an activation are killed.
func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"another agent brings the activation to its end", agentDies},
		{"a switch whose worker is killed is rolled back", workerDies},
		{"the rollback timer rolls back what nobody verifies", nobodyVerifies},
		{"a damaged activation is set aside", damaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Installed(t)
			c.test(t)
		})
	}
}

func agentDies(t *testing.T) {
	for _, when := range []string{"during the switch", "after the switch", "during the verification"} {
		t.Run("killed "+when, func(t *testing.T) {
			r := newSlowRig(t)
			t.Setenv("NPCNIX_VERIFIED", "/nowhere")
			kill := startAgent(t, r.host, "activate", r.two.Path)
			r.awaitPhase(t, activation.Switching)
			switch when {
			case "during the switch":
				kill()
			case "after the switch":
				kill()
				r.letSwitch(t)
				r.awaitPhase(t, activation.Verifying)
			case "during the verification":
				r.letSwitch(t)
				r.log.Await(t, "verifying, pid ")
				kill()
			}
			r.letSwitch(t)
			a, found, err := r.Resume(t.Context(), activation.Request{})
			if err != nil || !found || a.Phase != activation.Committed {
				t.Fatalf("%+v, %v, %v", a, found, err)
			}
			r.wantCommitted(t)
			r.wantSwitches(t, "v2 test, v2 boot")
			if a, found, err := r.Resume(t.Context(), activation.Request{}); err != nil || !found || a.Phase != activation.Committed {
				t.Errorf("resumed again: %+v, %v, %v", a, found, err)
			}
			r.wantSwitches(t, "v2 test, v2 boot")
		})
	}
}

func workerDies(t *testing.T) {
	r := newSlowRig(t)
	done := make(chan error, 1)
	go func() {
		_, err := r.Activate(t.Context(), r.two, activation.Request{})
		done <- err
	}()
	hanging := open(t, r.log.Await(t, "waiting, pid "))
	r.killWorker(t)
	var failed *activation.Error
	if err := <-done; !errors.As(err, &failed) || failed.Cause != activation.CauseInterrupted {
		t.Fatalf("%v\n%s", err, r.workerLog())
	}
	if !hanging.ended(10 * time.Second) {
		t.Error("the switch runs on")
	}
	r.wantBack(t)
	r.wantSwitches(t, "v2 test, v1 test")
}

func nobodyVerifies(t *testing.T) {
	for _, c := range []struct {
		name   string
		lose   func(t *testing.T, r *slowRig, kill func())
		reason string
		cause  activation.Cause
	}{
		{"the agent dies", func(t *testing.T, r *slowRig, kill func()) {
			kill()
			r.letSwitch(t)
		}, "not verified within 1s", activation.CauseVersion},
		{"the agent hangs", func(t *testing.T, r *slowRig, _ func()) {
			r.letSwitch(t)
			pid, err := strconv.Atoi(r.log.Await(t, "verifying, pid "))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}, "not verified within 1s", activation.CauseVersion},
		{"agent and worker die", func(t *testing.T, r *slowRig, kill func()) {
			kill()
			r.killWorker(t)
		}, "the switch was interrupted", activation.CauseInterrupted},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newSlowRig(t)
			t.Setenv("NPCNIX_VERIFIED", "/nowhere")
			t.Setenv("NPCNIX_VERIFY_TIMEOUT", "1s")
			kill := startAgent(t, r.host, "activate", r.two.Path)
			r.log.Await(t, "waiting, pid ")
			c.lose(t, r, kill)
			a := r.awaitPhase(t, activation.RolledBack)
			if !strings.Contains(a.Reason, c.reason) || a.Cause != c.cause {
				t.Errorf("%+v", a)
			}
			r.wantBack(t)
			r.wantSwitches(t, "v2 test, v1 test")
		})
	}
}

func damaged(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(h.opts.Dir, "activation.json")
	if err := os.MkdirAll(h.opts.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{", `{"schema": 4}`, `{"schema": 0}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, found, err := h.Resume(t.Context(), activation.Request{}); found || err != nil {
			t.Errorf("%s: found %v, %v", text, found, err)
		}
		if data, err := os.ReadFile(path + ".damaged"); err != nil || string(data) != text {
			t.Errorf("set aside: %q, %v", data, err)
		}
	}
}
