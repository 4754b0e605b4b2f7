package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/nix/systemd"
)

const (
	// stage2Name is under what name NixOS's stage 2 writes into the kernel's log (nixpkgs,
	// nixos/modules/system/boot/stage-2-init.sh).
	stage2Name = "stage-2-init"
	// stage2Log is its log where there is no kernel's log to write into, as in a container; beside the link to the
	// current system.
	stage2Log = "log/stage-2-init.log"
	// initrdUnit activates the system if systemd runs in the initrd (nixpkgs, nixos/modules/system/boot/systemd/initrd.nix).
	initrdUnit = "initrd-nixos-activation.service"
)

// failedSnippet is how an activation script says that one of its parts failed (nixpkgs,
// nixos/modules/system/activation/activation-script.nix).
var failedSnippet = regexp.MustCompile(`Activation script snippet '[^']*' failed(?: \(\d+\))?`)

// FailedSnippet returns what a line of an activation's output says of a part that failed; "" if nothing.
func FailedSnippet(line string) string { return failedSnippet.FindString(line) }

// BootFailures returns which parts of the activation failed when the machine booted, in NixOS's own words. There are
// none once a switch has activated a system since. Nobody else judges them: NixOS boots all the same.
func (h *Host) BootFailures(ctx context.Context) ([]string, error) {
	if h.activatedSinceBoot() {
		return nil, nil
	}
	h.bootLog.Lock()
	defer h.bootLog.Unlock()
	if h.bootLog.read { // it does not change any more
		return h.bootLog.failures, nil
	}

	text, err := os.ReadFile(filepath.Join(filepath.Dir(h.opts.CurrentSystem), stage2Log))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: read the log of the boot: %w", ErrMachine, err)
	}
	said, err := systemd.BootLog(ctx, stage2Name, initrdUnit)
	if err != nil {
		return nil, Blame(ctx, fmt.Errorf("read the log of the boot: %w", err))
	}
	for line := range strings.Lines(string(text) + said) {
		if failure := FailedSnippet(line); failure != "" && !slices.Contains(h.bootLog.failures, failure) {
			h.bootLog.failures = append(h.bootLog.failures, failure)
		}
	}
	h.bootLog.read = true
	return h.bootLog.failures, nil
}

// activatedSinceBoot reports whether another activation than that of the boot has made the link to the current system:
// a boot makes the link to the booted one after it. It is also true where no boot has made them.
func (h *Host) activatedSinceBoot() bool {
	booted, err := os.Lstat(h.booted())
	if err != nil {
		return true
	}
	current, err := os.Lstat(h.opts.CurrentSystem)
	return err != nil || current.ModTime().After(booted.ModTime())
}
