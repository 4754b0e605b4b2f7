package activation_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

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

// forgetSwitches has switches and wantSwitches begin again.
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

// roots lists the links in the folder of roots.
func roots(t *testing.T, h *host) []string {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(h.opts.Dir, "roots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// rooted tells whether nix counts a link, or a generation of a profile, among the roots of s.
func rooted(t *testing.T, s nix.System, link string) bool {
	t.Helper()
	out, err := exec.Command("nix-store", "--query", "--roots", s.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), link)
}

func TestActivate(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"it switches, and makes a generation", switches},
		{"a system runs only if the profile has it too", runsAndProfiled},
		{"nothing boots that is not committed", bootsOnceCommitted},
		{"what is no NixOS system is refused", refusesOthers},
		{"nothing but nix needs to be on PATH", needsNix},
		{"a built system is held until it is in the profile", heldUntilProfiled},
		{"old generations are deleted, but for those in use", deletesGenerations},
	} {
		t.Run(c.name, func(t *testing.T) { nixtest.Each(t, c.test) })
	}
}

func switches(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2"}}

	h.wantProfile(t, nix.System{}, 0)
	h.wantRuns(t, nix.System{}, false)
	one := h.built(t, all, "one")
	h.wantRuns(t, one, false)
	h.activated(t, one)
	h.wantRuns(t, one, true)
	h.wantProfile(t, one, 1)
	h.wantMarker(t, "v1")
	h.log.Await(t, "activating v1")

	two := h.built(t, all, "two")
	h.wantRuns(t, two, false)
	h.activated(t, two)
	h.wantRuns(t, two, true)
	h.wantRuns(t, one, false)
	h.wantProfile(t, two, 2)
	h.wantMarker(t, "v2")

	h.activated(t, two)
	h.wantProfile(t, two, 2)
	h.wantSwitches(t, "v1 test, v1 boot, v2 test, v2 boot, v2 test, v2 boot")
}

func runsAndProfiled(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2"}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	nixtest.Link(t, h.opts.CurrentSystem, two.Path) // as an operator's nixos-rebuild test does
	h.wantRuns(t, one, false)
	if runs, err := h.Runs(t.Context(), two); err != nil || runs {
		t.Errorf("Runs = %v, %v for a system that does not boot", runs, err)
	}
}

func bootsOnceCommitted(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2"}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	looked := false
	_, err := h.Activate(t.Context(), two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) {
		looked = true
		h.wantProfile(t, one, 1)
		h.wantBoots(t, "v1")
		h.wantMarker(t, "v2")
		return "", nil
	}})
	if err != nil || !looked {
		t.Fatalf("%v, looked %v", err, looked)
	}
	h.wantProfile(t, two, 2)
	h.wantBoots(t, "v2")
	h.wantSwitches(t, "v1 test, v1 boot, v2 test, v2 boot")
}

func refusesOthers(t *testing.T) {
	h := newHost(t)
	text := `{ outputs = { self }: { nixosConfigurations.web.config.system.build.toplevel = derivation {
		name = "no-system"; system = "` + nixtest.Platform() + `"; builder = "/bin/sh"; args = [ "-c" "echo >$out" ]; }; }; }`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file := h.build(t, dir, "web")
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
		_, err := h.Activate(t.Context(), nix.System{Path: c.path}, activation.Request{})
		nixtest.WantError(t, err, c.is, c.text)
	}
	h.wantProfile(t, nix.System{}, 0)
}

func needsNix(t *testing.T) {
	bin := t.TempDir()
	for _, tool := range []string{"nix", "nix-store", "nix-env"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	h := newHost(t)
	h.activated(t, h.build(t, nixtest.TestFlake(t, systems{"web": {Version: "v1"}}), "web"))
	h.wantMarker(t, "v1")
}

func heldUntilProfiled(t *testing.T) {
	h := newHost(t)
	dir := nixtest.TestFlake(t, systems{"old": {Version: "v1"}, "new": {Version: "v2"}})

	stale := h.build(t, dir, "old")
	if links := roots(t, h); len(links) != 1 || !rooted(t, stale, links[0]) {
		t.Fatalf("%v is not held by %v", stale, links)
	}
	s := h.build(t, dir, "new")
	links := roots(t, h)
	if len(links) != 1 || !rooted(t, s, links[0]) {
		t.Errorf("%v is not held by %v", s, links)
	}
	h.activated(t, s)
	if links := roots(t, h); len(links) != 0 {
		t.Errorf("roots %v are left after activation", links)
	}
	if !rooted(t, s, h.opts.Profile) {
		t.Errorf("%v is not held by the profile", s)
	}
}

func deletesGenerations(t *testing.T) {
	h := newHost(t)
	all := systems{}
	for _, v := range []string{"v1", "v2", "v3", "v4", "v5"} {
		all[v] = nixtest.System{Version: v}
	}

	one := h.built(t, all, "v1")
	h.activated(t, one)
	nixtest.Link(t, filepath.Join(filepath.Dir(h.opts.CurrentSystem), "booted-system"), one.Path)
	for _, v := range []string{"v2", "v3", "v4", "v5"} {
		if _, err := h.Activate(t.Context(), h.built(t, all, v), activation.Request{Keep: 1}); err != nil {
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
}

func TestActivationFails(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"and is rolled back", failsAndIsRolledBack},
		{"unless it is only units that fail, which the verification judges", unitsFail},
		{"as the switch hangs, which is ended", switchHangs},
		{"as its program is damaged, which is repaired", damagedIsRepaired},
		{"as its program is damaged beyond repair, which is no fault of the version", damagedBeyondRepair},
		{"as its program cannot be executed, though it is as it was built", wholeAndUnexecutable},
		{"as the switch ends early, with the status of failing units", switchEndsEarly},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Installed(t)
			c.test(t)
		})
	}
}

// damagedSwitch leaves nothing that can be executed of a system's switch.
func damagedSwitch(t *testing.T, s nix.System) {
	t.Helper()
	if err := os.Chmod(s.Switcher(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Switcher(), []byte("\x00\x01damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func damagedIsRepaired(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "damaged": {Version: "damaged " + t.Name()}}
	h.activated(t, h.built(t, all, "one"))
	s := h.built(t, all, "damaged")
	damagedSwitch(t, s)
	h.activated(t, s)
	h.wantRuns(t, s, true)
}

func damagedBeyondRepair(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "damaged": {Version: "damaged " + t.Name()}}
	one := h.built(t, all, "one")
	h.activated(t, one)
	s := h.built(t, all, "damaged")
	deriver, err := exec.Command("nix-store", "--query", "--deriver", s.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	nixtest.Delete(t, nil, "--ignore-liveness", strings.TrimSpace(string(deriver)))
	damagedSwitch(t, s)
	_, err = h.Activate(t.Context(), s, activation.Request{})
	failed := wantRolledBack(t, err, s.Path+" is damaged")
	if failed.Cause != activation.CauseMachine || !strings.Contains(failed.Reason, "nix-store --repair-path") {
		t.Errorf("%+v", failed)
	}
	h.wantRuns(t, one, true)
	nixtest.Delete(t, nil, "--ignore-liveness", s.Path) // so that no other test finds it
}

func wholeAndUnexecutable(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "odd": {Version: "odd", SwitchRuns: "printf '\\001odd' >odd; chmod +x odd; exec ./odd"}}
	one := h.built(t, all, "one")
	h.activated(t, one)
	_, err := h.Activate(t.Context(), h.built(t, all, "odd"), activation.Request{})
	if failed := wantRolledBack(t, err, "exit status 12"); failed.Cause != activation.CauseVersion {
		t.Errorf("%+v", failed)
	}
	h.wantRuns(t, one, true)
}

func failsAndIsRolledBack(t *testing.T) {
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
		{"its verification fails", nixtest.System{}, errors.New("the store cannot be reached"), true, "verify: the store cannot be reached; rolled back to ",
			"activating v2", "v2 test, v1 test"},
		{"units fail, and its verification does too", nixtest.System{SwitchExit: 4}, errors.New("units failed"), true, "verify: units failed; rolled back to ",
			"warning: the following units failed: demo.service", "v2 test, v1 test"},
		{"the boot loader fails", nixtest.System{BootExit: 1}, nil, true, "make it what boots: switch to ",
			"installing the boot loader failed", "v2 test, v2 boot, v1 test, v1 boot"},
		{"the first system of a new host fails", nixtest.System{SwitchExit: 1}, nil, false, "; there was no system before it",
			"pre-switch checks failed", "v2 test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.system.Version = "v2"
			all := systems{"good": {Version: "v1"}, "bad": c.system, "next": {Version: "v3"}}
			good, generation := nix.System{}, 0
			if c.before {
				good, generation = h.built(t, all, "good"), 1
				h.activated(t, good)
				h.forgetSwitches(t)
			}
			bad := h.built(t, all, "bad")
			a, err := h.Activate(t.Context(), bad, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { return "", c.verify }})

			var failed *activation.Error
			if !errors.As(err, &failed) {
				t.Fatalf("error is %T: %v\n%s", err, err, h.workerLog())
			}
			if failed.System != bad.Path || a.Phase != activation.RolledBack || a.Cause != activation.CauseVersion || len(a.Tail) == 0 || a.Tail[len(a.Tail)-1] != c.last {
				t.Errorf("%+v", failed)
			}
			nixtest.WantError(t, err, nil, c.sentence)
			h.wantProfile(t, good, generation)
			h.wantSwitches(t, c.switches)
			if running, err := h.Current(t.Context()); err != nil || running != good {
				t.Errorf("%v runs, %v; want %v", running, err, good)
			}
			if c.before {
				h.wantMarker(t, "v1")
				h.wantBoots(t, "v1")
			}
			h.activated(t, h.built(t, all, "next"))
			h.wantBoots(t, "v3")
		})
	}
}

// NixOS ends a switch with 4 when some unit is failing, whose fault that may be or not. The system is
// activated then, and is verified as any other.
func unitsFail(t *testing.T) {
	h := newHost(t)
	s := h.built(t, systems{"web": {Version: "v1", SwitchExit: 4}}, "web")
	a, err := h.Activate(t.Context(), s, activation.Request{})
	if err != nil || a.Phase != activation.Committed {
		t.Fatalf("%+v, %v", a, err)
	}
	h.wantRuns(t, s, true)
}

func switchEndsEarly(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2", SwitchRuns: "[ -e again ] || { : >again; exit 4; }"}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	_, err := h.Activate(t.Context(), two, activation.Request{})
	failed := wantRolledBack(t, err, "it ended before the system was activated")
	if !failed.Cause.Transient() {
		t.Errorf("the cause is %s", failed.Cause)
	}
	h.wantRuns(t, one, true)
	h.activated(t, two)
}

func switchHangs(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2", SwitchRuns: "sleep 1000 &", SwitchWaits: "/nowhere"}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	_, err := h.Activate(t.Context(), two, activation.Request{SwitchTimeout: 2 * time.Second})
	nixtest.WantError(t, err, nil, "it hung, and was ended after 2s")
	if left := h.marked(t, "sleep"); len(left) != 0 {
		t.Errorf("of the switch there is left: %v", left)
	}
	h.wantRuns(t, one, true)
}
