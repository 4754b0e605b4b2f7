package nix_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// TestWhatBecomesOfAVersion in integration/nixos reads the journal of a real boot too.
func TestWhatFailedAtTheBootIsKnown(t *testing.T) {
	h := newHost(t)
	run := filepath.Dir(h.opts.CurrentSystem)
	if err := os.MkdirAll(filepath.Join(run, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := "setting up /etc...\nActivation script snippet 'users' failed (12)\n<3>Activation script snippet 'a b' failed (1)\x1b[0m\n" +
		"Activation script snippet 'users' failed (12)\nActivation script snippet\n"
	if err := os.WriteFile(filepath.Join(run, "log", "stage-2-init.log"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	failures := func(want ...string) {
		t.Helper()
		if got, err := h.BootFailures(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	system := t.TempDir()
	links := []string{h.opts.CurrentSystem, filepath.Join(run, "booted-system")}
	nixtest.Link(t, links[0], system)
	failures() // a host that no stage 2 has booted
	nixtest.Link(t, links[1], system)
	failures("Activation script snippet 'users' failed (12)", "Activation script snippet 'a b' failed (1)")

	if err := os.Remove(links[0]); err != nil {
		t.Fatal(err)
	}
	for later := false; !later; { // a file system's clock has ticks
		nixtest.Link(t, links[0]+".new", system)
		if err := os.Rename(links[0]+".new", links[0]); err != nil {
			t.Fatal(err)
		}
		current, err := os.Lstat(links[0])
		if err != nil {
			t.Fatal(err)
		}
		booted, err := os.Lstat(links[1])
		if err != nil {
			t.Fatal(err)
		}
		if later = current.ModTime().After(booted.ModTime()); !later {
			time.Sleep(time.Millisecond)
		}
	}
	failures()
}
