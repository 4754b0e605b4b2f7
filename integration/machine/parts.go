package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// partsInside is the folder in which a machine has NixOS's parts, if there are any here.
const partsInside = "/opt/nixos"

// Parts returns the folder of NixOS's parts: NPCNIX_NIXOS_PARTS, by default ../shared/nixos beside the
// repository. Without them the test is skipped, or fails where NPCNIX_REQUIRE_ALL is set.
func Parts(t testing.TB) string {
	t.Helper()
	dir, err := findParts("lib/default.nix", "setup-etc.pl", "systemd-lib.nix", "extlinux-conf-builder.sh")
	if err != nil {
		Lacks(t, err)
	}
	return dir
}

// needSwitch skips a test that lacks what switches a machine, or fails it where NPCNIX_REQUIRE_ALL is set.
func needSwitch(t testing.TB) {
	t.Helper()
	if _, err := findParts("setup-etc.pl", "pre-switch-check.sh", "ng/switch-to-configuration"); err != nil {
		Lacks(t, err)
	}
}

// partsFolder returns where NixOS's parts are, if they are anywhere.
func partsFolder() (string, error) {
	if dir := os.Getenv("NPCNIX_NIXOS_PARTS"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := findModule()
	return filepath.Join(root, "..", "shared", "nixos"), err
}

func findParts(parts ...string) (string, error) {
	dir, err := partsFolder()
	if err != nil {
		return "", err
	}
	for _, part := range parts {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return "", fmt.Errorf("no parts of NixOS in %s: %w. Set NPCNIX_NIXOS_PARTS, or run integration/nixos-parts.sh", dir, err)
		}
	}
	return dir, nil
}

// Lacks skips a test that lacks something, or fails it where NPCNIX_REQUIRE_ALL is set.
func Lacks(t testing.TB, what error) {
	t.Helper()
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Root returns the repository's folder.
func Root(t testing.TB) string {
	t.Helper()
	root, err := findModule()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func findModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is outside of the module")
		}
	}
}
