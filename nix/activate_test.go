package nix_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"npcnix/nix"
	"npcnix/nix/nixtest"

	"golang.org/x/sys/unix"
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
		if n := len(h.switches(t)); n != 3 {
			t.Errorf("%d switches, want one for each activation", n)
		}
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

func TestFailedSwitchSetsTheProfileBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		exit     int
		before   bool // there is a good system before
		sentence string
		last     string // of the output
		switches string
	}{
		{"the boot loader fails", 1, true, ": exit status 1: installing the boot loader failed; the profile is back at generation 1",
			"installing the boot loader failed", "v1 switch, v2 switch, v1 boot"},
		{"units fail, after the new system runs", 4, true, ": exit status 4: warning: the following units failed: demo.service; the profile is back at generation 1",
			"warning: the following units failed: demo.service", "v1 switch, v2 switch, v1 boot"},
		{"the first system of a new host fails", 4, false, "; the profile is empty, as it was before",
			"warning: the following units failed: demo.service", "v2 switch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachNix(t, func(t *testing.T) {
				h := newHost(t)
				dir := flake(t, map[string]nixtest.System{"good": {Version: "v1"}, "bad": {Version: "v2", SwitchExit: c.exit}, "next": {Version: "v3"}})
				good, generation := nix.System{}, 0
				if c.before {
					good, generation = h.built(t, dir, "good"), 1
					h.activated(t, good)
				}
				bad := h.built(t, dir, "bad")
				err := h.Activate(t.Context(), bad)

				var failed *nix.ActivateError
				if !errors.As(err, &failed) {
					t.Fatalf("error is %T: %v", err, err)
				}
				if failed.System != bad || failed.ExitCode != c.exit || len(failed.Tail) == 0 || failed.Tail[len(failed.Tail)-1] != c.last {
					t.Errorf("%+v", failed)
				}
				wantError(t, err, nil, c.sentence)
				h.wantProfile(t, good, generation)
				h.wantSwitches(t, c.switches)

				next := h.built(t, dir, "next")
				h.activated(t, next)
				h.wantProfile(t, next, generation+2)
			})
		})
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

func TestFailedSwitchAfterOneThatWasCutOffFallsBackToWhatRuns(t *testing.T) {
	for _, retried := range []string{"the same system", "a newer one"} {
		t.Run(retried, func(t *testing.T) {
			eachNix(t, func(t *testing.T) {
				h := newHost(t)
				never := filepath.Join(h.root, "never")
				dir := flake(t, map[string]nixtest.System{
					"good":          {Version: "v1"},
					"hangs":         {Version: "v2", SwitchWaits: never, SwitchExit: 1},
					"a newer one":   {Version: "v3", SwitchExit: 1},
					"the same once": {Version: "v2", SwitchWaits: never, SwitchExit: 1},
				})
				good := h.built(t, dir, "good")
				h.activated(t, good)

				s := h.built(t, dir, "hangs")
				kill := startAgent(t, h, "activate", s.Path)
				hanging := open(t, h.log.await(t, "waiting, pid "))
				kill()
				h.wantProfile(t, s, 2)
				if err := os.WriteFile(never, nil, 0o600); err != nil { // the switch fails, and nobody is there
					t.Fatal(err)
				}
				if !hanging.ended(10 * time.Second) {
					t.Fatal("the switch runs on")
				}

				if retried == "a newer one" {
					s = h.built(t, dir, retried)
				}
				wantError(t, h.Activate(t.Context(), s), nil, "the profile is back at generation 1")
				h.wantProfile(t, good, 1)
			})
		})
	}
}

func TestFailedSwitchWithNothingToFallBackToSaysSo(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {SwitchExit: 1}}), "web")
		h.points(t, h.opts.Profile, s.Path)
		err := h.Activate(t.Context(), s)
		wantError(t, err, nil, "the profile still has it, as there was no other before it")
		h.wantProfile(t, s, 0)
	})
}

func TestSwitchHasASessionOfItsOwnAndIsNotCancelled(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		release := filepath.Join(h.root, "release")
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {Version: "v1", SwitchWaits: release}}), "web")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Activate(ctx, s) }()
		h.log.await(t, "waiting, pid ")
		cancel()
		h.wantOwnSession(t)
		select {
		case err := <-done:
			t.Fatalf("Activate did not wait for the switch: %v", err)
		default:
		}
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the switch was disturbed: %v", err)
		}
		h.wantMarker(t, "v1")
		if err := h.Activate(ctx, s); !errors.Is(err, context.Canceled) || len(h.switches(t)) != 1 {
			t.Errorf("a switch is begun after the end: %v", err)
		}
	})
}

// wantOwnSession checks that the one switch so far leads a session that is not this process's.
func (h *host) wantOwnSession(t *testing.T) {
	t.Helper()
	ours, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	runs := h.switches(t)
	if len(runs) != 1 {
		t.Fatalf("switches %v, want one", runs)
	}
	if pid, session := runs[0][2], runs[0][3]; session != pid || session == strconv.Itoa(ours) {
		t.Errorf("the switch, process %s, is in session %s; ours is %d", pid, session, ours)
	}
}

func TestSwitchOutlivesAnAgentThatIsKilled(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		release := filepath.Join(h.root, "release")
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {Version: "v1", SwitchWaits: release, SwitchExit: 4}}), "web")
		kill := startAgent(t, h, "activate", s.Path)
		running := open(t, h.log.await(t, "waiting, pid "))
		kill()
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if !running.ended(10 * time.Second) {
			t.Fatal("the switch does not end")
		}
		h.wantMarker(t, "v1")
		output, err := os.ReadFile(filepath.Join(filepath.Dir(h.opts.Roots), "switch.log"))
		if err != nil || !strings.Contains(string(output), "units failed") {
			t.Errorf("switch.log has %q, %v; want what was printed after the agent's end too", output, err)
		}
		h.wantProfile(t, s, 1)
	})
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
			wantError(t, h.Activate(t.Context(), nix.System{Path: c.path}), c.is, c.text)
		}
		h.wantProfile(t, nix.System{}, 0)
	})
}

func TestActivateWithoutNixChangesNothing(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {Version: "v1"}}), "web")
		t.Setenv("PATH", t.TempDir())
		wantError(t, h.Activate(t.Context(), s), nix.ErrNoNix, "install nix")
		h.wantProfile(t, nix.System{}, 0)
		if len(h.switches(t)) != 0 || len(roots(t, h)) != 1 {
			t.Errorf("switches %v, roots %v; want none, and the one of the build", h.switches(t), roots(t, h))
		}
		h.points(t, h.opts.Profile, s.Path)
		h.activated(t, s) // the profile needs no change, so it needs no nix
	})
}

func TestActivateThatIsCancelledBeforeTheSwitchLeavesTheProfile(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		dir := flake(t, map[string]nixtest.System{"one": {Version: "v1"}, "two": {Version: "v2"}})
		one, two := h.built(t, dir, "one"), h.built(t, dir, "two")
		h.activated(t, one)

		fakeOnPath(t, "sets the profile and hangs")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Activate(ctx, two) }()
		h.log.await(t, "profile set")
		cancel()
		wantCancelled(t, done)
		h.wantProfile(t, one, 1)
		h.wantSwitches(t, "v1 switch")
	})
}

func TestActivateBlamesTheMachineForAProfileThatCannotBeSet(t *testing.T) {
	eachNix(t, func(t *testing.T) {
		h := newHost(t)
		s := h.built(t, flake(t, map[string]nixtest.System{"web": {Version: "v1"}}), "web")
		if err := os.WriteFile(filepath.Dir(h.opts.Profile), nil, 0o600); err != nil { // a file in the folder's place
			t.Fatal(err)
		}
		wantError(t, h.Activate(t.Context(), s), nix.ErrMachine, "not a directory")
		if len(h.switches(t)) != 0 {
			t.Errorf("switched all the same: %v", h.switches(t))
		}
	})
}

func TestNewRefusesBadOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		opts nix.Options
		text string
	}{
		{"no roots", nix.Options{}, "no folder for garbage collector roots"},
		{"two substituters in one", nix.Options{Roots: "r", Substituters: []string{"a b"}}, `"a b": must be one word`},
		{"empty key", nix.Options{Roots: "r", PublicKeys: []string{""}}, "must be one word"},
		{"option without a name", nix.Options{Roots: "r", Settings: [][2]string{{"", "1"}}}, "without a name"},
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
