package nixos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Flavours of switch-to-configuration: the Perl one of 2022, which was the default until NixOS 24.11; the Rust one
// of September 2024, which waits for the end of the boot; and the Rust one of today.
const (
	Perl2022 = "perl-2022"
	Rust2024 = "rust-2024"
	RustNow  = "rust-now"
)

// Flavours lists them from old to new.
var Flavours = []string{Perl2022, Rust2024, RustNow}

// programs are the built parts, by the name that a flavour knows them by.
var programs = map[string]string{
	Rust2024: "ng/switch-to-configuration-2024",
	RustNow:  "ng/switch-to-configuration",
}

// Parts returns the folder of NixOS's parts. Without them the test is skipped, or fails where
// NPCNIX_REQUIRE_ALL is set.
func Parts(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("NPCNIX_NIXOS_PARTS")
	if dir == "" {
		dir = filepath.Join(Root(t), "..", "shared", "nixos")
	}
	for _, part := range []string{"lib/default.nix", "setup-etc.pl", "systemd-lib.nix", "extlinux-conf-builder.sh"} {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			lacks(t, fmt.Sprintf("no parts of NixOS in %s: %v. Set NPCNIX_NIXOS_PARTS, or run integration/nixos-parts.sh", dir, err))
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// lacks skips a test that lacks a part, or fails it where NPCNIX_REQUIRE_ALL is set.
func lacks(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// program returns the built switch-to-configuration of a flavour, "" for one that is a script. Of the Rust one
// of 2024 there may be none: it has to be built.
func program(parts, flavour string) (string, error) {
	name := programs[flavour]
	if name == "" {
		return "", nil
	}
	path := filepath.Join(parts, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no switch-to-configuration of the flavour %s: %w", flavour, err)
	}
	return path, nil
}

// Root returns the repository's folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the working directory is outside of the module")
		}
	}
}
