package activation_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// These tests are about rollbacks that are not the plain one: an operator has changed what runs or boots
// meanwhile, or what the rollback needs is gone.

// rollbackRig is a host that runs and boots v1, from which boots cannot be switched to, and has built others.
type rollbackRig struct {
	*host
	one, two, boots, fix nix.System
}

func newRollrollbackRig(t *testing.T, change func(all systems)) *rollbackRig {
	nixtest.Installed(t)
	h := newHost(t)
	all := systems{
		"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2"},
		"boots": {Version: "boots", Inhibitors: `{"a":"2"}`}, "fix": {Version: "fix"},
	}
	if change != nil {
		change(all)
	}
	r := &rollbackRig{h, h.built(t, all, "one"), h.built(t, all, "two"), h.built(t, all, "boots"), h.built(t, all, "fix")}
	h.activated(t, r.one)
	h.forgetSwitches(t)
	return r
}

// pendReboot makes the system that cannot be switched to the boot default, pending a reboot.
func (r *rollbackRig) pendReboot(t *testing.T) {
	t.Helper()
	if a, err := r.Activate(t.Context(), r.boots, activation.Request{}); err != nil || a.Phase != activation.RebootPending {
		t.Fatal(a.Phase, err)
	}
	r.forgetSwitches(t)
}

// switchedBy does what an operator's nixos-rebuild switch does.
func (r *rollbackRig) switchedBy(t *testing.T, s nix.System, version string) {
	t.Helper()
	nixtest.Link(t, r.opts.Profile+"-9-link", s.Path)
	nixtest.Link(t, r.opts.Profile, "system-9-link")
	nixtest.Link(t, r.opts.CurrentSystem, s.Path)
	r.write(t, nixtest.Boot, version+"\n")
}

func (h *host) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.root, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func refuses(context.Context, activation.Journal) (string, error) { return "", errors.New("no") }

// wantRolledBack checks the error of an activation that was rolled back.
func wantRolledBack(t *testing.T, err error, text string) *activation.Error {
	t.Helper()
	var failed *activation.Error
	if !errors.As(err, &failed) || failed.RollbackFailed() || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v, want %q", err, text)
	}
	return failed
}

// lockedOnce is a script that ends as a switch does while another process switches, the first time.
const lockedOnce = "[ -e locked ] || { : >locked; echo 'Could not acquire lock' >&2; exit 11; }"

// activating has v2 activated, and returns when its worker waits for the lock.
func (r *rollbackRig) activating(t *testing.T) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := r.Activate(t.Context(), r.two, activation.Request{})
		done <- err
	}()
	for {
		if _, err := os.Stat(filepath.Join(r.root, "locked")); err == nil {
			return done
		}
		time.Sleep(10 * time.Millisecond) // another process's doing can only be looked for
	}
}

// edit changes the activation on disk, as another npcnix would have written it.
func (h *host) edit(t *testing.T, change func(all map[string]any)) {
	t.Helper()
	path := filepath.Join(h.opts.Dir, "activation.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	change(all)
	if data, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An operator changes what runs, or what boots, while an activation is in progress.
func TestOperator(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"what they have switched to stays", operatorSwitches},
		{"what they have made what boots stays", operatorBoots},
		{"what they switch to while the commit waits stays", operatorAmidCommit},
		{"what they switch to while the worker waits stays", operatorAmidSwitch},
		{"a lock that they hold is not the fault of the version", operatorHoldsLock},
		{"a rollback that failed is told in spite of what they did", operatorAndFailedRollback},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Installed(t)
			c.test(t)
		})
	}
}

func operatorSwitches(t *testing.T) {
	for _, c := range []struct {
		name string
		when func(t *testing.T, r *rollbackRig) error
		says string
	}{
		{"during the verification, which succeeds", func(t *testing.T, r *rollbackRig) error {
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) {
				r.switchedBy(t, r.fix, "fix")
				return "", nil
			}})
			return err
		}, "ran when "},
		{"during the verification, which fails", func(t *testing.T, r *rollbackRig) error {
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) {
				r.switchedBy(t, r.fix, "fix")
				return "", errors.New("no")
			}})
			return err
		}, "verify: no"},
		{"while another system is pending a reboot, and rebooted", func(t *testing.T, r *rollbackRig) error {
			r.pendReboot(t)
			r.switchedBy(t, r.fix, "fix")
			r.restarted(t, r.fix)
			_, _, err := r.Resume(t.Context(), activation.Request{})
			return err
		}, "did not boot the new system"},
		{"while another system is pending a reboot, which is abandoned", func(t *testing.T, r *rollbackRig) error {
			r.pendReboot(t)
			r.switchedBy(t, r.fix, "fix")
			if err := r.Abandon(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, _, err := r.Resume(t.Context(), activation.Request{})
			return err
		}, "another system is wanted by now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRollrollbackRig(t, nil)
			failed := wantRolledBack(t, c.when(t, r), c.says)
			if failed.OperatorSystem != r.fix.Path || !strings.Contains(failed.Error(), "switched to "+r.fix.Path+", which stays") {
				t.Errorf("%v", failed)
			}
			r.wantRuns(t, r.fix, true)
			r.wantBoots(t, "fix")
			for _, run := range r.switches(t) {
				if run[0] != "v2" || run[1] != "test" {
					t.Errorf("switched %s %s", run[0], run[1])
				}
			}
		})
	}
}

func operatorBoots(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) {
		r.switchedBy(t, r.fix, "fix")
		nixtest.Link(t, r.opts.CurrentSystem, r.two.Path) // nixos-rebuild boot
		return "", nil
	}})
	wantRolledBack(t, err, "an operator has put "+r.fix.Path+" into the profile")
	r.wantMarker(t, "v1")
	r.wantBoots(t, "fix")
	r.wantProfile(t, r.fix, 9)
	r.wantSwitches(t, "v2 test, v1 test")
}

func operatorAmidCommit(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) {
		all["two"] = nixtest.System{Version: "v2", BootRuns: lockedOnce}
	})
	done := r.activating(t)
	r.switchedBy(t, r.fix, "fix")
	if failed := wantRolledBack(t, <-done, "make it what boots"); failed.OperatorSystem != r.fix.Path {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.fix, true)
	r.wantBoots(t, "fix")
}

func operatorAmidSwitch(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) {
		all["two"] = nixtest.System{Version: "v2", SwitchRuns: lockedOnce}
	})
	done := r.activating(t)
	r.switchedBy(t, r.fix, "fix")
	if failed := wantRolledBack(t, <-done, "another process was switching: exit status 11; nothing was changed"); failed.Cause != activation.CauseBusy {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.fix, true)
	r.wantBoots(t, "fix")
	r.wantSwitches(t, "v2 test")
	r.activated(t, r.two)
}

func operatorHoldsLock(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) {
		all["two"] = nixtest.System{Version: "v2", BootRuns: "echo 'Could not acquire lock' >&2; exit 11"}
	})
	_, err := r.Activate(t.Context(), r.two, activation.Request{SwitchTimeout: time.Second})
	if failed := wantRolledBack(t, err, "make it what boots"); failed.Cause != activation.CauseInterrupted {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

func operatorAndFailedRollback(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	r.pendReboot(t)
	nixtest.Link(t, r.opts.CurrentSystem, r.fix.Path) // nixos-rebuild test
	boot := filepath.Join(r.root, nixtest.Boot)
	if err := os.Remove(boot); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(boot, 0o755); err != nil { // so that the boot loader cannot be written
		t.Fatal(err)
	}
	var failed *activation.Error
	if err := r.Abandon(t.Context()); !errors.As(err, &failed) || !failed.RollbackFailed() || !strings.Contains(err.Error(), "the rollback to the previous system failed: switch to "+r.one.Path) {
		t.Errorf("%v", err)
	}
}

// A rollback where it is not the plain one.
func TestRollback(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"what booted before its activation does not boot after it", bootedBefore},
		{"what an operator has chosen for the next boot boots", chosenForNextBoot},
		{"a generation that is gone is made again", generationGone},
		{"what boots after it is what the profile has", bootsProfiled},
		{"after three boots without a verification", bootedThrice},
		{"one that fails half way is none", failsHalfWay},
		{"from a system that ran before, to what the profile has", ranBefore},
		{"an uncommitted system is not rolled back to", notToUncommitted},
		{"one that fails is tried again, and then says so", failsForGood},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Installed(t)
			c.test(t)
		})
	}
}

func bootedBefore(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	r.switchedBy(t, r.two, "v2")
	nixtest.Link(t, r.opts.CurrentSystem, r.one.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
	wantRolledBack(t, err, "verify: no")
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

// An operator has made another system the boot default, and not switched to it. A rollback neither drops nor hides that.
func chosenForNextBoot(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) { all["two"] = nixtest.System{Version: "v2", BootExit: 1} })
	r.switchedBy(t, r.fix, "fix")
	nixtest.Link(t, r.opts.CurrentSystem, r.one.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{})
	wantRolledBack(t, err, "make it what boots")
	r.wantProfile(t, r.fix, 9)
	r.wantBoots(t, "fix")
	r.wantSwitches(t, "v2 test, v2 boot, v1 test, fix boot")
	if running, err := r.Current(t.Context()); err != nil || running != r.one {
		t.Errorf("%v runs, %v", running, err)
	}
}

func generationGone(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	r.pendReboot(t)
	if target, err := os.Readlink(filepath.Join(r.opts.Dir, "roots", "previous")); err != nil || target != r.one.Path {
		t.Errorf("the previous system is not held: %q, %v", target, err)
	}
	if err := os.Remove(r.opts.Profile + "-1-link"); err != nil { // nix-collect-garbage -d
		t.Fatal(err)
	}
	if err := r.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
	if a, err := activation.Read(r.opts.Dir); err != nil || a.Phase != activation.RolledBack || a.RollbackError != "" || a.Cause != activation.CauseSuperseded {
		t.Errorf("%+v, %v", a, err)
	}
	r.awaitWorkers(t)
	if _, err := os.Lstat(filepath.Join(r.opts.Dir, "roots", "previous")); err == nil {
		t.Error("the previous system is still held")
	}
}

// What runs is a system that an operator tries by "nixos-rebuild test". The rollback returns to it, but what
// boots is again what the profile has, as boot loaders know of no other.
func bootsProfiled(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) { all["two"] = nixtest.System{Version: "v2", BootExit: 1} })
	nixtest.Link(t, r.opts.CurrentSystem, r.fix.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Keep: 1})
	wantRolledBack(t, err, "make it what boots")
	if running, err := r.Current(t.Context()); err != nil || running != r.fix {
		t.Errorf("%v runs, %v", running, err)
	}
	r.wantProfile(t, r.one, 1)
	r.wantBoots(t, "v1")
	r.wantSwitches(t, "v2 test, v2 boot, fix test, v1 boot")
}

func bootedThrice(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	r.pendReboot(t)
	for range 3 {
		r.restarted(t, r.boots)
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := r.Resume(ctx, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { cancel(); return "", nil }})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	r.restarted(t, r.boots)
	_, _, err := r.Resume(t.Context(), activation.Request{})
	if failed := wantRolledBack(t, err, "restarted 3 times before the new system was verified"); failed.Cause != activation.CauseVersion {
		t.Error("it is not held against the version")
	}
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

func failsHalfWay(t *testing.T) {
	for exit, fails := range map[string]bool{"1": true, "2": false, "4": false} {
		t.Run("it ends with "+exit, func(t *testing.T) {
			r := newRollrollbackRig(t, func(all systems) {
				all["one"] = nixtest.System{Version: "v1", SwitchRuns: "[ ! -e refuses ] || { ln -sfn $toplevel run/x; mv -fT run/x run/current-system; exit " + exit + "; }"}
			})
			r.write(t, "refuses", "")
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
			var failed *activation.Error
			if !errors.As(err, &failed) || failed.RollbackFailed() != fails || !strings.Contains(failed.RollbackError, "exit status "+exit) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A rejected generation stays in the profile, and may be booted from the menu: it cannot be rolled back to from itself.
func ranBefore(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) { all["two"] = nixtest.System{Version: "v2", BootExit: 1} })
	nixtest.Link(t, r.opts.Profile+"-2-link", r.two.Path)
	nixtest.Link(t, r.opts.CurrentSystem, r.two.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{})
	wantRolledBack(t, err, "make it what boots")
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

// A system that runs without having been committed cannot be rolled back to from itself.
func notToUncommitted(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2"}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	nixtest.Link(t, h.opts.CurrentSystem, two.Path)
	_, err := h.Activate(t.Context(), two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { return "", errors.New("no") }})
	nixtest.WantError(t, err, nil, "verify: no; rolled back to "+one.Path)
	h.wantRuns(t, one, true)
}

func failsForGood(t *testing.T) {
	h := newHost(t)
	all := systems{
		"one": {Version: "v1", SwitchRuns: "[ ! -e refuses ] || exit 1"}, "two": {Version: "v2"},
	}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	if err := os.WriteFile(filepath.Join(h.root, "refuses"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.forgetSwitches(t)
	a, err := h.Activate(t.Context(), two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { return "", errors.New("no") }})
	var failed *activation.Error
	if !errors.As(err, &failed) || !failed.RollbackFailed() || a.RollbackTries != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	nixtest.WantError(t, err, nil, "the rollback to the previous system failed: ")
	h.wantSwitches(t, "v2 test, v1 test, v1 test, v1 test")
}
