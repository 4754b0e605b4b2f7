package nixos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/integration/machine"
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

// program returns the built switch-to-configuration of a flavour, and the path at which systems have it; both
// are "" for one that is a script.
func program(t testing.TB, parts, flavour string) (path, inside string) {
	t.Helper()
	switch flavour {
	case Rust2024: // the parts have its source
		path, inside = filepath.Join(machine.Root(t), ".cache", "nixos", "switch-2024"), "/opt/switch-2024"
	case RustNow:
		path, inside = filepath.Join(parts, "ng", "switch-to-configuration"), "/opt/switch-now"
	default:
		return "", ""
	}
	if _, err := os.Stat(path); err != nil {
		machine.Lacks(t, fmt.Errorf("no switch-to-configuration of the flavour %s: %w. Run integration/deps.sh nixos", flavour, err))
	}
	return path, inside
}
