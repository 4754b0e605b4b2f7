package systemd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	// nameGrace is how long the name of a unit may stay taken by an earlier one that ends.
	nameGrace = 5 * time.Second
	nameLook  = 20 * time.Millisecond
)

// passedOn are the environment variables that a unit inherits: those that a switch may depend on (nixpkgs,
// nixos-rebuild), and those that configure npcnix's log. Everybody can read the environment of a unit, so
// that none of them may hold a secret.
var passedOn = []string{
	"PATH", "HOME", "LOCALE_ARCHIVE", "NIXOS_INSTALL_BOOTLOADER", "NIXOS_NO_CHECK",
	"NIX_REMOTE", "NIX_PATH", "NPCNIX_LOG_LEVEL", "NPCNIX_LOG_FORMAT",
}

// Run starts a command in a transient unit, with more options for systemd-run.
func Run(ctx context.Context, unit string, command []string, options ...string) error {
	args := append([]string{"--quiet", "--no-ask-password", "--collect", "--unit=" + unit, "--property=OOMScoreAdjust=-900",
		// At a shutdown the command is told first: it knows that its children have not failed.
		"--property=KillMode=mixed"}, options...)
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(passedOn, name) {
			args = append(args, "--setenv="+v)
		}
	}
	args = append(append(args, "--"), command...)
	for begun := time.Now(); ; {
		out, err := exec.CommandContext(ctx, "systemd-run", args...).CombinedOutput()
		if err == nil {
			return nil
		}
		// A unit of that name that has just ended is gone in a moment.
		if said := string(out); !strings.Contains(said, "already loaded") && !strings.Contains(said, "already exists") || time.Since(begun) > nameGrace {
			return fmt.Errorf("systemd-run %s: %w: %s", unit, err, bytes.TrimSpace(out))
		}
		select {
		case <-time.After(nameLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
