package nix_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// powerLost has the host believe that its last boot, another one than this, did not end in an orderly way.
func (h *host) powerLost(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(h.opts.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.opts.Dir, "boot"), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// empty leaves nothing in a file of the store, as a loss of power does.
func empty(t *testing.T, path string) {
	t.Helper()
	err := os.Chmod(path, 0o644)
	if err == nil {
		err = os.Truncate(path, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func deriver(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimSpace(output(t, "nix-store", "--query", "--deriver", path))
}

// layered builds a system that refers to another path, which is returned too.
func layered(t *testing.T, h *host) (flake string, s nix.System, needs string) {
	t.Helper()
	flake = filepath.Join(t.TempDir(), "flake")
	text := strings.NewReplacer("builtins.currentSystem or ", "", "SYSTEM", nixtest.Platform(), "SALT", nixtest.Salt()).Replace(deeper)
	if err := os.MkdirAll(flake, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(flake, "flake.nix"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s = h.built(t, flake, "web1")
	return flake, s, strings.TrimSpace(output(t, "nix-store", "--query", "--references", s.Path))
}

func TestDamageAfterALossOfPower(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		t.Run("what a build left is built again", rebuilt)
		t.Run("what runs is repaired", repairedInPlace)
		t.Run("what runs and cannot be repaired is the machine's error, until it is repaired", beyondRepair)
		t.Run("what boots is repaired", bootFilesRepaired)
		t.Run("nothing is checked in the same boot, or after an orderly shutdown", unchecked)
	})
}

func rebuilt(t *testing.T) {
	h := newHost(t)
	flake, s, needs := layered(t, h)
	want, err := os.ReadFile(needs)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, needs)
	empty(t, deriver(t, needs))
	gone := deriver(t, s.Path)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Build(t.Context(), flake, "web1"); err == nil {
		t.Error("the flake builds in spite of the damage")
	}

	h.powerLost(t)
	if err := h.CheckStore(t.Context(), nil, []nix.System{s}); err != nil {
		t.Fatalf("%v\n%s", err, h.log)
	}
	if again := h.built(t, flake, "web1"); again != s {
		t.Errorf("built %s, want %s", again, s)
	}
	if got, err := os.ReadFile(needs); err != nil || string(got) != string(want) {
		t.Errorf("%s has %q, %v; want %q", needs, got, err, want)
	}
}

func repairedInPlace(t *testing.T) {
	h := newHost(t)
	_, s, needs := layered(t, h)
	nixtest.Link(t, h.opts.CurrentSystem, s.Path)
	want, err := os.ReadFile(needs)
	if err != nil {
		t.Fatal(err)
	}
	empty(t, needs)
	h.powerLost(t)
	if err := h.CheckStore(t.Context(), nil, nil); err != nil {
		t.Fatalf("%v\n%s", err, h.log)
	}
	if got, err := os.ReadFile(needs); err != nil || string(got) != string(want) {
		t.Errorf("%s has %q, %v; want %q", needs, got, err, want)
	}
}

func beyondRepair(t *testing.T) {
	h := newHost(t)
	_, s, needs := layered(t, h)
	nixtest.Link(t, h.opts.CurrentSystem, s.Path)
	want, err := os.ReadFile(needs)
	if err != nil {
		t.Fatal(err)
	}
	nixtest.Delete(t, nil, "--ignore-liveness", deriver(t, s.Path), deriver(t, needs))
	empty(t, needs)
	h.powerLost(t)
	for range 2 {
		nixtest.WantError(t, h.CheckStore(t.Context(), nil, nil), nix.ErrMachine, needs+" is damaged")
	}
	if err := os.WriteFile(needs, want, 0o444); err != nil {
		t.Fatal(err)
	}
	output(t, "touch", "--date=@1", needs)
	output(t, "chmod", "444", needs)
	if err := h.CheckStore(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
}

func unchecked(t *testing.T) {
	h := newHost(t)
	_, s, needs := layered(t, h)
	t.Cleanup(func() { nixtest.Delete(t, nil, "--ignore-liveness", s.Path, needs) })
	empty(t, needs)
	for range 2 { // the first boot of all, and the same
		if err := h.CheckStore(t.Context(), nil, []nix.System{s}); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(needs); err != nil {
		t.Error(err)
	}
	id, err := os.ReadFile(filepath.Join(h.opts.Dir, "boot"))
	if err != nil || string(id) != nix.BootID() {
		t.Errorf("the boot is noted as %q, %v", id, err)
	}
	if err := h.NoteShutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.opts.Dir, "boot")); errors.Is(err, os.ErrNotExist) {
		t.Error("a shutdown was noted, and there is none")
	}
}

// A kernel is in a folder of the store, and an initrd can be a file of its own, to which secrets were appended.
func bootFilesRepaired(t *testing.T) {
	h := newHost(t)
	kernel := filepath.Join(t.TempDir(), "linux-6.1")
	if err := os.Mkdir(kernel, 0o755); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	for path, text := range map[string]string{filepath.Join(kernel, "bzImage"): "the kernel", initrd: "the initrd"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := filepath.Base(strings.TrimSpace(output(t, "nix-store", "--add", kernel)))
	i := filepath.Base(strings.TrimSpace(output(t, "nix-store", "--add", initrd)))
	files := map[string]struct{ before, after string }{
		"nixos/" + k + "-bzImage":                {"", "the kernel"},                // as extlinux has it
		"EFI/nixos/" + k + "-bzImage.efi":        {"the\x00\x00\x00", "the kernel"}, // as systemd-boot
		"EFI/nixos/" + i + ".efi":                {"the initrd and secrets", "the initrd and secrets"},
		"EFI/nixos/store-" + i + ".efi":          {"\x00\x00\x00 initrd and secrets", "the initrd"},
		"nixos/" + k[:33] + "linux-0-bzImage":    {"", ""}, // of another package: none of the store
		"loader/entries/nixos-generation-1.conf": {"", ""},
	}
	for name, file := range files {
		path := filepath.Join(h.opts.BootDirs[0], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.before), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.powerLost(t)
	if err := h.CheckStore(t.Context(), nil, nil); err != nil {
		t.Fatalf("%v\n%s", err, h.log)
	}
	for name, file := range files {
		if got, err := os.ReadFile(filepath.Join(h.opts.BootDirs[0], name)); err != nil || string(got) != file.after {
			t.Errorf("%s has %q, %v; want %q", name, got, err, file.after)
		}
	}
}
