package activation_test

import (
	"bytes"
	"context"
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

// lostRig is a host that runs version v1 and has built v2, whose switch waits for a file.
type lostRig struct {
	*host
	one, two nix.System
	release  string
}

func newLostRig(t *testing.T) *lostRig {
	h := newHost(t)
	release := filepath.Join(h.root, "release")
	dir := nixtest.TestFlake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2", SwitchWaits: release}})
	r := &lostRig{host: h, one: h.built(t, dir, "one"), two: h.built(t, dir, "two"), release: release}
	h.activated(t, r.one)
	h.forgetSwitches(t)
	return r
}

func (r *lostRig) letSwitch(t *testing.T) {
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

// awaitWorkers waits until no worker is left: it tidies up after an activation is settled.
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

// awaitStage waits until the activation on disk is in a stage.
func (h *host) awaitStage(t *testing.T, stage activation.Phase) activation.Journal {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		a, err := activation.Read(h.opts.Dir)
		if err == nil && a != nil && a.Phase == stage {
			return *a
		}
		if time.Now().After(deadline) {
			t.Fatalf("activation %+v, %v; want stage %q\n%s", a, err, stage, h.workerLog())
		}
		time.Sleep(10 * time.Millisecond) // another process's doing can only be looked for
	}
}

func (r *lostRig) wantConfirmed(t *testing.T) {
	t.Helper()
	r.wantRuns(t, r.two, true)
	r.wantBoots(t, "v2")
	r.wantMarker(t, "v2")
}

func (r *lostRig) wantBack(t *testing.T) {
	t.Helper()
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
	r.wantMarker(t, "v1")
}

func TestAnotherAgentBringsAnActivationToItsEnd(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		for _, when := range []string{"during the switch", "after the switch", "during the proof"} {
			t.Run("killed "+when, func(t *testing.T) {
				r := newLostRig(t)
				t.Setenv("NPCNIX_VERIFIED", "/nowhere")
				kill := startAgent(t, r.host, "activate", r.two.Path)
				r.awaitStage(t, activation.Switching)
				switch when {
				case "during the switch":
					kill()
				case "after the switch":
					kill()
					r.letSwitch(t)
					r.awaitStage(t, activation.Verifying)
				case "during the proof":
					r.letSwitch(t)
					r.log.Await(t, "verifying, pid ")
					kill()
				}
				r.letSwitch(t)
				a, found, err := r.Resume(t.Context(), activation.Request{})
				if err != nil || !found || a.Phase != activation.Committed {
					t.Fatalf("%+v, %v, %v", a, found, err)
				}
				r.wantConfirmed(t)
				r.wantSwitches(t, "v2 test, v2 boot")
				if a, found, err := r.Resume(t.Context(), activation.Request{}); err != nil || !found || a.Phase != activation.Committed {
					t.Errorf("resumed again: %+v, %v, %v", a, found, err)
				}
				r.wantSwitches(t, "v2 test, v2 boot")
			})
		}
	})
}

func TestASwitchWhoseWorkerIsKilledIsTakenBack(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		r := newLostRig(t)
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
	})
}

func TestTheDeadMansSwitchTakesBackWhatNobodyConfirms(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			lose   func(t *testing.T, r *lostRig, kill func())
			reason string
			cause  activation.Cause
		}{
			{"the agent dies", func(t *testing.T, r *lostRig, kill func()) {
				kill()
				r.letSwitch(t)
			}, "not verified within 1s", activation.CauseVersion},
			{"the agent hangs", func(t *testing.T, r *lostRig, _ func()) {
				r.letSwitch(t)
				pid, err := strconv.Atoi(r.log.Await(t, "verifying, pid "))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}, "not verified within 1s", activation.CauseVersion},
			{"agent and worker die", func(t *testing.T, r *lostRig, kill func()) {
				kill()
				r.killWorker(t)
			}, "the switch was interrupted", activation.CauseInterrupted},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := newLostRig(t)
				t.Setenv("NPCNIX_VERIFIED", "/nowhere")
				t.Setenv("NPCNIX_VERIFY_TIMEOUT", "1s")
				kill := startAgent(t, r.host, "activate", r.two.Path)
				r.log.Await(t, "waiting, pid ")
				c.lose(t, r, kill)
				a := r.awaitStage(t, activation.RolledBack)
				if !strings.Contains(a.Reason, c.reason) || a.Cause != c.cause {
					t.Errorf("%+v", a)
				}
				r.wantBack(t)
				r.wantSwitches(t, "v2 test, v1 test")
			})
		}
	})
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

func TestARestartOfTheMachineBeforeTheConfirmationBringsBackThePreviousSystem(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		r := newLostRig(t)
		r.letSwitch(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := r.Activate(ctx, r.two, activation.Request{Verify: func(context.Context, activation.Journal) error { cancel(); return nil }})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		r.restarted(t, r.one)
		var failed *activation.Error
		if _, _, err := r.Resume(t.Context(), activation.Request{}); !errors.As(err, &failed) || failed.Cause != activation.CauseInterrupted || !strings.Contains(err.Error(), "restarted before") {
			t.Fatal(err)
		}
		if n := len(r.switches(t)); n != 0 {
			t.Errorf("%d switches, as if booting had not done it all", n)
		}
		r.wantRuns(t, r.one, true)
		if data, err := os.ReadFile(filepath.Join(r.opts.Dir, "activation.json")); err != nil || !bytes.Contains(data, []byte("from_the_future")) {
			t.Errorf("what a newer npcnix has written is lost: %s, %v", data, err)
		}
	})
}

func TestASystemThatWasBootedProvesItself(t *testing.T) {
	for _, c := range []struct {
		name   string
		booted int
		verify error
		want   string // switches after the restart
		back   string // why it was taken back
	}{
		{"and is confirmed", 2, nil, "v2 boot", ""},
		{"or is taken back", 2, errors.New("nothing works"), "v1 boot, v1 test", "verify: nothing works"},
		{"or was not booted at all", 1, nil, "v1 boot", "did not boot the new system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Each(t, func(t *testing.T) {
				h := newHost(t)
				dir := nixtest.TestFlake(t, map[string]nixtest.System{"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2", Inhibitors: `{"a":"2"}`}})
				one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
				h.activated(t, one)
				if a, err := h.Activate(t.Context(), two, activation.Request{}); err != nil || a.Phase != activation.RebootPending {
					t.Fatal(a.Phase, err)
				}
				h.restarted(t, map[int]nix.System{1: one, 2: two}[c.booted])
				_, _, err := h.Resume(t.Context(), activation.Request{Verify: func(context.Context, activation.Journal) error { return c.verify }})
				h.wantSwitches(t, c.want)
				if c.back == "" {
					if err != nil {
						t.Fatal(err)
					}
					h.wantRuns(t, two, true)
					return
				}
				nixtest.WantError(t, err, nil, c.back)
				h.wantRuns(t, one, true)
				h.wantBoots(t, "v1")
			})
		})
	}
}

// What was to boot next is taken back when something else is wanted, whatever becomes of that.
func TestASystemThatBootsNextIsNotForgottenWhenANewerOneFails(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{
			"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2", Inhibitors: `{"a":"2"}`}, "three": {Version: "v3", SwitchExit: 1},
		})
		one := h.built(t, dir, "one")
		h.activated(t, one)
		if a, err := h.Activate(t.Context(), h.built(t, dir, "two"), activation.Request{}); err != nil || a.Phase != activation.RebootPending {
			t.Fatal(a.Phase, err)
		}
		_, err := h.Activate(t.Context(), h.built(t, dir, "three"), activation.Request{})
		nixtest.WantError(t, err, nil, "pre-switch checks failed; rolled back to "+one.Path)
		h.wantRuns(t, one, true)
		h.wantBoots(t, "v1")
	})
}

// A system that runs without having been confirmed is no way back from itself.
func TestASystemThatWasNotConfirmedIsNotGoneBackTo(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2"}})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)
		nixtest.Link(t, h.opts.CurrentSystem, two.Path)
		_, err := h.Activate(t.Context(), two, activation.Request{Verify: func(context.Context, activation.Journal) error { return errors.New("no") }})
		nixtest.WantError(t, err, nil, "verify: no; rolled back to "+one.Path)
		h.wantRuns(t, one, true)
	})
}

func TestAWayBackThatFailsIsTriedAgainAndThenSaysSo(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{
			"one": {Version: "v1", SwitchRuns: "[ ! -e refuses ] || exit 1"}, "two": {Version: "v2"},
		})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)
		if err := os.WriteFile(filepath.Join(h.root, "refuses"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		h.forgetSwitches(t)
		a, err := h.Activate(t.Context(), two, activation.Request{Verify: func(context.Context, activation.Journal) error { return errors.New("no") }})
		var failed *activation.Error
		if !errors.As(err, &failed) || !failed.RollbackFailed() || a.RollbackTries != 3 {
			t.Fatalf("%+v, %v", a, err)
		}
		nixtest.WantError(t, err, nil, "the rollback to the previous system failed: ")
		h.wantSwitches(t, "v2 test, v1 test, v1 test, v1 test")
	})
}

func TestADamagedActivationIsSetAside(t *testing.T) {
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

func TestOldGenerationsAreDeletedButForThoseInUse(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		systems := map[string]nixtest.System{}
		for _, v := range []string{"v1", "v2", "v3", "v4", "v5"} {
			systems[v] = nixtest.System{Version: v}
		}
		dir := nixtest.TestFlake(t, systems)
		one := h.built(t, dir, "v1")
		h.activated(t, one)
		nixtest.Link(t, filepath.Join(filepath.Dir(h.opts.CurrentSystem), "booted-system"), one.Path)
		for _, v := range []string{"v2", "v3", "v4", "v5"} {
			if _, err := h.Activate(t.Context(), h.built(t, dir, v), activation.Request{Keep: 1}); err != nil {
				t.Fatal(err)
			}
			h.awaitWorkers(t)
		}
		links, err := filepath.Glob(h.opts.Profile + "-*-link")
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range links {
			links[i] = filepath.Base(l)
		}
		if want := []string{"system-1-link", "system-4-link", "system-5-link"}; !slices.Equal(links, want) {
			t.Errorf("generations %v, want %v: booted, previous and current", links, want)
		}
	})
}
