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

// These tests are about the way back where it is not the plain one: somebody else has changed what runs
// or boots meanwhile, or what it needs is gone.

// backRig is a host that runs and boots v1, which may not be switched from to boots, and has built others.
type backRig struct {
	*host
	one, two, boots, fix nix.System
}

func newBackRig(t *testing.T, change func(systems map[string]nixtest.System)) *backRig {
	nixtest.Installed(t)
	h := newHost(t)
	systems := map[string]nixtest.System{
		"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2"},
		"boots": {Version: "boots", Inhibitors: `{"a":"2"}`}, "fix": {Version: "fix"},
	}
	if change != nil {
		change(systems)
	}
	dir := nixtest.TestFlake(t, systems)
	r := &backRig{h, h.built(t, dir, "one"), h.built(t, dir, "two"), h.built(t, dir, "boots"), h.built(t, dir, "fix")}
	h.activated(t, r.one)
	h.forgetSwitches(t)
	return r
}

// bootsNext has the system that may not be switched to made what boots next.
func (r *backRig) bootsNext(t *testing.T) {
	t.Helper()
	if a, err := r.Activate(t.Context(), r.boots, activation.Request{}); err != nil || a.Phase != activation.RebootPending {
		t.Fatal(a.Phase, err)
	}
	r.forgetSwitches(t)
}

// byHand does what nixos-rebuild switch does.
func (r *backRig) byHand(t *testing.T, s nix.System, version string) {
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

func refuses(context.Context, activation.Journal) error { return errors.New("no") }

// wantTakenBack checks the error of an activation that ended with the stage rolled-back.
func wantTakenBack(t *testing.T, err error, text string) *activation.Error {
	t.Helper()
	var failed *activation.Error
	if !errors.As(err, &failed) || failed.RollbackFailed() || !strings.Contains(err.Error(), text) {
		t.Fatalf("%v, want %q", err, text)
	}
	return failed
}

func TestWhatSomebodyHasSwitchedToByHandIsLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		when func(t *testing.T, r *backRig) error
		says string
	}{
		{"during the proof, which succeeds", func(t *testing.T, r *backRig) error {
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) error {
				r.byHand(t, r.fix, "fix")
				return nil
			}})
			return err
		}, "ran when "},
		{"during the proof, which fails", func(t *testing.T, r *backRig) error {
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) error {
				r.byHand(t, r.fix, "fix")
				return errors.New("no")
			}})
			return err
		}, "verify: no"},
		{"while another system is to boot next, and restarted", func(t *testing.T, r *backRig) error {
			r.bootsNext(t)
			r.byHand(t, r.fix, "fix")
			r.restarted(t, r.fix)
			_, _, err := r.Resume(t.Context(), activation.Request{})
			return err
		}, "did not boot the new system"},
		{"while another system is to boot next, which is taken back", func(t *testing.T, r *backRig) error {
			r.bootsNext(t)
			r.byHand(t, r.fix, "fix")
			if err := r.Abandon(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, _, err := r.Resume(t.Context(), activation.Request{})
			return err
		}, "another system is wanted by now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newBackRig(t, nil)
			failed := wantTakenBack(t, c.when(t, r), c.says)
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

func TestWhatSomebodyHasMadeWhatBootsIsLeftAlone(t *testing.T) {
	r := newBackRig(t, nil)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: func(context.Context, activation.Journal) error {
		r.byHand(t, r.fix, "fix")
		nixtest.Link(t, r.opts.CurrentSystem, r.two.Path) // nixos-rebuild boot
		return nil
	}})
	wantTakenBack(t, err, "an operator has put "+r.fix.Path+" into the profile")
	r.wantMarker(t, "v1")
	r.wantBoots(t, "fix")
	r.wantProfile(t, r.fix, 9)
	r.wantSwitches(t, "v2 test, v1 test")
}

func TestASystemThatBootedBeforeItWasActivatedIsTakenOutOfTheBootLoader(t *testing.T) {
	r := newBackRig(t, nil)
	r.byHand(t, r.two, "v2")
	nixtest.Link(t, r.opts.CurrentSystem, r.one.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
	wantTakenBack(t, err, "verify: no")
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

func TestAWayBackWhoseGenerationIsGoneMakesItAgain(t *testing.T) {
	r := newBackRig(t, nil)
	r.bootsNext(t)
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

// What runs is a system that somebody tries by "nixos-rebuild test": it is gone back to, but the one to
// boot is again the one in the profile, as boot loaders know of no other.
func TestWhatBootsAfterTheWayBackIsWhatTheProfileHas(t *testing.T) {
	r := newBackRig(t, func(systems map[string]nixtest.System) { systems["two"] = nixtest.System{Version: "v2", BootExit: 1} })
	nixtest.Link(t, r.opts.CurrentSystem, r.fix.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{Keep: 1})
	wantTakenBack(t, err, "make it what boots")
	if running, err := r.Current(t.Context()); err != nil || running != r.fix {
		t.Errorf("%v runs, %v", running, err)
	}
	r.wantProfile(t, r.one, 1)
	r.wantBoots(t, "v1")
	r.wantSwitches(t, "v2 test, v2 boot, fix test, v1 boot")
}

func TestABootedSystemThatIsRestartedAgainAndAgainIsTakenBack(t *testing.T) {
	r := newBackRig(t, nil)
	r.bootsNext(t)
	for range 3 {
		r.restarted(t, r.boots)
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := r.Resume(ctx, activation.Request{Verify: func(context.Context, activation.Journal) error { cancel(); return nil }})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	r.restarted(t, r.boots)
	_, _, err := r.Resume(t.Context(), activation.Request{})
	if failed := wantTakenBack(t, err, "restarted 3 times before the new system was verified"); failed.Cause != activation.CauseVersion {
		t.Error("it is not held against the version")
	}
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

func TestAWayBackThatFailsHalfWayIsNotOne(t *testing.T) {
	for exit, stranded := range map[string]bool{"1": true, "2": false, "4": false} {
		t.Run("it ends with "+exit, func(t *testing.T) {
			r := newBackRig(t, func(systems map[string]nixtest.System) {
				systems["one"] = nixtest.System{Version: "v1", SwitchRuns: "[ ! -e refuses ] || { ln -sfn $toplevel run/x; mv -fT run/x run/current-system; exit " + exit + "; }"}
			})
			r.write(t, "refuses", "")
			_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
			var failed *activation.Error
			if !errors.As(err, &failed) || failed.RollbackFailed() != stranded || !strings.Contains(failed.RollbackError, "exit status "+exit) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A rejected generation stays in the profile, and may be booted from the menu: it is no way back from itself.
func TestTheWayBackFromASystemThatRanBeforeIsWhatTheProfileHas(t *testing.T) {
	r := newBackRig(t, func(systems map[string]nixtest.System) { systems["two"] = nixtest.System{Version: "v2", BootExit: 1} })
	nixtest.Link(t, r.opts.Profile+"-2-link", r.two.Path)
	nixtest.Link(t, r.opts.CurrentSystem, r.two.Path)
	_, err := r.Activate(t.Context(), r.two, activation.Request{})
	wantTakenBack(t, err, "make it what boots")
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

// lockedOnce is a script that ends as a switch does while somebody else switches, the first time.
const lockedOnce = "[ -e locked ] || { : >locked; echo 'Could not acquire lock' >&2; exit 11; }"

// activating has v2 activated, and returns when its worker waits for the lock.
func (r *backRig) activating(t *testing.T) <-chan error {
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

func TestWhatWasSwitchedToWhileTheCommitWaitedIsLeftAlone(t *testing.T) {
	r := newBackRig(t, func(systems map[string]nixtest.System) {
		systems["two"] = nixtest.System{Version: "v2", BootRuns: lockedOnce}
	})
	done := r.activating(t)
	r.byHand(t, r.fix, "fix")
	if failed := wantTakenBack(t, <-done, "make it what boots"); failed.OperatorSystem != r.fix.Path {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.fix, true)
	r.wantBoots(t, "fix")
}

func TestALockThatIsHeldThroughTheCommitIsNoFaultOfTheVersions(t *testing.T) {
	r := newBackRig(t, func(systems map[string]nixtest.System) {
		systems["two"] = nixtest.System{Version: "v2", BootRuns: "echo 'Could not acquire lock' >&2; exit 11"}
	})
	_, err := r.Activate(t.Context(), r.two, activation.Request{SwitchTimeout: time.Second})
	if failed := wantTakenBack(t, err, "make it what boots"); failed.Cause != activation.CauseInterrupted {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.one, true)
	r.wantBoots(t, "v1")
}

func TestWhatWasSwitchedToWhileTheWorkerWaitedIsNotSwitchedAwayFrom(t *testing.T) {
	r := newBackRig(t, func(systems map[string]nixtest.System) {
		systems["two"] = nixtest.System{Version: "v2", SwitchRuns: lockedOnce}
	})
	done := r.activating(t)
	r.byHand(t, r.fix, "fix")
	if failed := wantTakenBack(t, <-done, "another process was switching: exit status 11; nothing was changed"); failed.Cause != activation.CauseBusy {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.fix, true)
	r.wantBoots(t, "fix")
	r.wantSwitches(t, "v2 test")
	r.activated(t, r.two)
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

func TestWhatAnOlderNpcnixHasOrderedIsBroughtToItsEnd(t *testing.T) {
	r := newBackRig(t, nil)
	r.bootsNext(t)
	r.edit(t, func(all map[string]any) {
		delete(all, "profile_system")
		all["previous_system"] = r.fix.Path // which was tried by hand
		all["boot_id"] = all["boot_id"].(string)[:36]
	})
	if a, found, err := r.Resume(t.Context(), activation.Request{}); err != nil || !found || a.Phase != activation.RebootPending {
		t.Fatalf("in the same boot: %+v, %v, %v", a, found, err)
	}
	r.restarted(t, r.boots)
	_, _, err := r.Resume(t.Context(), activation.Request{Verify: refuses})
	wantTakenBack(t, err, "verify: no")
	r.wantProfile(t, r.one, 1)
	r.wantBoots(t, "v1")
}

func TestAWayBackThatFailedIsNotHiddenByWhatWasDoneByHand(t *testing.T) {
	r := newBackRig(t, nil)
	r.bootsNext(t)
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
