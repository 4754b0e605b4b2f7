package nix_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestActivateSwitchesAndMakesAGeneration(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2"}})

		h.wantProfile(t, nix.System{}, 0)
		h.wantRuns(t, nix.System{}, false)
		one := h.built(t, dir, "one")
		h.wantRuns(t, one, false)
		h.activated(t, one)
		h.wantRuns(t, one, true)
		h.wantProfile(t, one, 1)
		h.wantMarker(t, "v1")
		h.log.await(t, "activating v1")

		two := h.built(t, dir, "two")
		h.wantRuns(t, two, false)
		h.activated(t, two)
		h.wantRuns(t, two, true)
		h.wantRuns(t, one, false)
		h.wantProfile(t, two, 2)
		h.wantMarker(t, "v2")

		h.activated(t, two)
		h.wantProfile(t, two, 2)
		h.wantSwitches(t, "v1 test, v1 boot, v2 test, v2 boot, v2 test, v2 boot")
	})
}

// wantRuns checks Runs, and Current with it.
func (h *host) wantRuns(t *testing.T, s nix.System, want bool) {
	t.Helper()
	if got, err := h.Runs(t.Context(), s); err != nil || got != want {
		t.Errorf("Runs(%v) = %v, %v; want %v", s, got, err, want)
	}
	if current, err := h.Current(t.Context()); err != nil || want && current != s {
		t.Errorf("Current() = %v, %v; want %v", current, err, s)
	}
}

func TestRunsWantsTheSystemInTheProfileToo(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2"}})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)
		h.points(t, h.opts.CurrentSystem, two.Path) // switched to by hand, by "test"
		h.wantRuns(t, one, false)
		if runs, err := h.Runs(t.Context(), two); err != nil || runs {
			t.Errorf("Runs = %v, %v for a system that does not boot", runs, err)
		}
	})
}

// points has a link point to a target.
func (h *host) points(t *testing.T, link, target string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedActivationIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		system   nixtest.System
		verify   error
		before   bool // there is a good system before
		sentence string
		last     string // of the output
		switches string
	}{
		{"a check fails before anything was changed", nixtest.System{SwitchExit: 1}, nil, true, ": exit status 1: pre-switch checks failed; rolled back to ",
			"pre-switch checks failed", "v2 test, v1 test"},
		{"the activation script fails midway", nixtest.System{SwitchExit: 2}, nil, true, ": exit status 2: warning: the following units failed: demo.service; rolled back to ",
			"warning: the following units failed: demo.service", "v2 test, v1 test"},
		{"it does not prove itself", nixtest.System{}, errors.New("the store cannot be reached"), true, "verify: the store cannot be reached; rolled back to ",
			"activating v2", "v2 test, v1 test"},
		{"units fail, and it does not prove itself", nixtest.System{SwitchExit: 4}, errors.New("units failed"), true, "verify: units failed; rolled back to ",
			"warning: the following units failed: demo.service", "v2 test, v1 test"},
		{"the boot loader fails", nixtest.System{BootExit: 1}, nil, true, "make it what boots: switch to ",
			"installing the boot loader failed", "v2 test, v2 boot, v1 test, v1 boot"},
		{"the first system of a new host fails", nixtest.System{SwitchExit: 1}, nil, false, "; there was no system before it",
			"pre-switch checks failed", "v2 test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachNix(t, func(t *testing.T) {
				h := newHost(t)
				c.system.Version = "v2"
				dir := flake(t, map[string]nixtest.System{"good": {Version: "v1"}, "bad": c.system, "next": {Version: "v3"}})
				good, generation := nix.System{}, 0
				if c.before {
					good, generation = h.built(t, dir, "good"), 1
					h.activated(t, good)
					h.forgetSwitches(t)
				}
				bad := h.built(t, dir, "bad")
				a, err := h.Activate(t.Context(), bad, nix.Order{Verify: func(context.Context, nix.Activation) error { return c.verify }})

				var failed *nix.ActivateError
				if !errors.As(err, &failed) {
					t.Fatalf("error is %T: %v\n%s", err, err, h.workerLog())
				}
				if failed.System != bad.Path || a.Stage != nix.StageRolledBack || a.CutShort || len(a.Tail) == 0 || a.Tail[len(a.Tail)-1] != c.last {
					t.Errorf("%+v", failed)
				}
				wantError(t, err, nil, c.sentence)
				h.wantProfile(t, good, generation)
				h.wantSwitches(t, c.switches)
				if running, err := h.Current(t.Context()); err != nil || running != good {
					t.Errorf("%v runs, %v; want %v", running, err, good)
				}
				if c.before {
					h.wantMarker(t, "v1")
					h.wantBoots(t, "v1")
				}
				h.activated(t, h.built(t, dir, "next"))
				h.wantBoots(t, "v3")
			})
		})
	}
}

// forgetSwitches has switches and wantSwitches begin anew.
func (h *host) forgetSwitches(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(h.root, nixtest.Switches)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// wantBoots checks what a boot loader would boot.
func (h *host) wantBoots(t *testing.T, version string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(h.root, nixtest.Boot))
	if err != nil || strings.TrimSpace(string(got)) != version {
		t.Errorf("boots %q, %v; want %q", got, err, version)
	}
}

// NixOS ends a switch with 4 when some unit is failing, whose fault that may be or not. The system is
// activated then, and has to prove itself as any other.
func TestUnitsThatFailAreJudgedByTheProof(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {Version: "v1", SwitchExit: 4}}), "web")
		a, err := h.Activate(t.Context(), s, nix.Order{})
		if err != nil || a.Stage != nix.StageConfirmed {
			t.Fatalf("%+v, %v", a, err)
		}
		h.wantRuns(t, s, true)
	})
}

func TestNothingBootsThatWasNotConfirmed(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2"}})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)
		looked := false
		_, err := h.Activate(t.Context(), two, nix.Order{Verify: func(context.Context, nix.Activation) error {
			looked = true
			h.wantProfile(t, one, 1)
			h.wantBoots(t, "v1")
			h.wantMarker(t, "v2")
			return nil
		}})
		if err != nil || !looked {
			t.Fatalf("%v, looked %v", err, looked)
		}
		h.wantProfile(t, two, 2)
		h.wantBoots(t, "v2")
		h.wantSwitches(t, "v1 test, v1 boot, v2 test, v2 boot")
	})
}

func TestASwitchThatHangsIsEndedAndTakenBack(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2", SwitchRuns: "sleep 1000 &", SwitchWaits: "/nowhere"}})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)
		_, err := h.Activate(t.Context(), two, nix.Order{SwitchTimeout: 2 * time.Second})
		wantError(t, err, nil, "it hung, and was ended after 2s")
		if left := h.marked(t, "sleep"); len(left) != 0 {
			t.Errorf("of the switch there is left: %v", left)
		}
		h.wantRuns(t, one, true)
	})
}

func TestASystemThatMayNotBeSwitchedToBootsNext(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{
			"one":   {Version: "v1", Inhibitors: `{"dbus":"daemon","old":"1"}`},
			"two":   {Version: "v2", Inhibitors: `{"dbus":"broker","new":"1"}`},
			"three": {Version: "v3", Inhibitors: `{"dbus":"daemon"}`},
			"four":  {Version: "v4", SwitchExit: 100},
		})
		one, two, three, four := h.built(t, dir, "one"), h.built(t, dir, "two"), h.built(t, dir, "three"), h.built(t, dir, "four")
		h.activated(t, one)
		h.forgetSwitches(t)

		a, err := h.Activate(t.Context(), two, nix.Order{})
		if err != nil || a.Stage != nix.StageBooting || !strings.Contains(a.Why, "dbus (daemon to broker)") {
			t.Fatalf("%+v, %v", a, err)
		}
		h.wantSwitches(t, "v2 boot")
		h.wantMarker(t, "v1")
		h.wantProfile(t, two, 2)
		if a, found, err := h.Resume(t.Context(), nix.Order{}); err != nil || !found || a.Stage != nix.StageBooting {
			t.Errorf("resumed before the restart: %+v, %v, %v", a, found, err)
		}

		h.activated(t, three) // what runs is still one
		h.wantRuns(t, three, true)
		h.wantBoots(t, "v3")

		h.forgetSwitches(t)
		a, err = h.Activate(t.Context(), four, nix.Order{})
		if err != nil || a.Stage != nix.StageBooting || !strings.Contains(a.Why, "init") {
			t.Fatalf("%+v, %v", a, err)
		}
		h.wantSwitches(t, "v4 test, v4 boot")
	})
}

// wantSwitches checks which versions were switched to, and how.
func (h *host) wantSwitches(t *testing.T, want string) {
	t.Helper()
	var got []string
	for _, run := range h.switches(t) {
		got = append(got, strings.Join(run[:2], " "))
	}
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("switches %q, want %q", s, want)
	}
}

func TestActivateRefusesWhatIsNoNixOSSystem(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		text := `{ outputs = { self }: { nixosConfigurations.web.config.system.build.toplevel = derivation {
			name = "no-system"; system = "` + nixSystem(t) + `"; builder = "/bin/sh"; args = [ "-c" "echo >$out" ]; }; }; }`
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file := h.built(t, dir, "web")
		for _, c := range []struct {
			path string
			is   error
			text string
		}{
			{file.Path, nix.ErrNotNixOS, "has no executable bin/switch-to-configuration"},
			{"", nix.ErrNotNixOS, `"" is not a store path`},
			{t.TempDir(), nix.ErrNotNixOS, "is not a store path"},
			{file.Path + "/bin", nix.ErrNotNixOS, "is not a store path"},
			{"/nix/store/00000000000000000000000000000000-gone", nix.ErrMachine, "is gone from the store: build it again"},
		} {
			_, err := h.Activate(t.Context(), nix.System{Path: c.path}, nix.Order{})
			wantError(t, err, c.is, c.text)
		}
		h.wantProfile(t, nix.System{}, 0)
	})
}

func TestNewRefusesBadOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		opts nix.Options
		text string
	}{
		{"no data directory", nix.Options{}, "no data directory"},
		{"two substituters in one", nix.Options{Dir: "r", Substituters: []string{"a b"}}, `"a b": must be one word`},
		{"empty key", nix.Options{Dir: "r", PublicKeys: []string{""}}, "must be one word"},
		{"option without a name", nix.Options{Dir: "r", Settings: [][2]string{{"", "1"}}}, "without a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := nix.New(c.opts)
			wantError(t, err, nil, c.text)
		})
	}
}

func TestLinksThatLeadNowhereAreNoSystem(t *testing.T) {
	h := newHost(t)
	if s, err := h.Current(t.Context()); err != nil || s != (nix.System{}) {
		t.Errorf("Current() = %v, %v without a link", s, err)
	}
	collected := "/nix/store/00000000000000000000000000000000-collected"
	h.points(t, h.opts.CurrentSystem, collected)
	if s, err := h.Current(t.Context()); err != nil || s.Path != collected {
		t.Errorf("Current() = %v, %v; what is gone from the store still has run", s, err)
	}
	h.points(t, h.opts.Profile, "system")
	if _, _, err := h.Profiled(); err == nil {
		t.Error("a profile that points to itself is read")
	}
	h.points(t, h.opts.Profile, "system-7-link")
	h.points(t, h.opts.Profile+"-7-link", collected)
	h.wantProfile(t, nix.System{Path: collected}, 7)
	if got := slices.Collect(strings.Lines(h.log.String())); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
}
