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

// program returns the built switch-to-configuration of a flavour, and the path at which systems have it; both
// are "" for one that is a script.
func program(t testing.TB, parts, flavour string) (path, inside string) {
	t.Helper()
	switch flavour {
	case Rust2024: // the parts have its source
		path, inside = filepath.Join(Root(t), ".cache", "nixos", "switch-2024"), "/opt/switch-2024"
	case RustNow:
		path, inside = filepath.Join(parts, "ng", "switch-to-configuration"), "/opt/switch-now"
	default:
		return "", ""
	}
	if _, err := os.Stat(path); err != nil {
		lacks(t, fmt.Sprintf("no switch-to-configuration of the flavour %s: %v. Run integration/deps.sh nixos", flavour, err))
	}
	return path, inside
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
