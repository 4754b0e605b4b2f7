package nix

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// prune deletes the profile's generations but for the latest, for the one that an activation may have to
// go back to, and for those of its systems, of the one that runs and of the one that was booted. What it
// cannot delete costs disk space only.
func (h *Host) prune(a *Activation) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	doomed, err := h.surplus(a)
	if err == nil && len(doomed) > 0 {
		out := &lines{emit: h.logged("nix-env")}
		err = run(ctx, nil, out, "nix-env", append([]string{"--profile", h.opts.Profile, "--delete-generations"}, doomed...)...)
	}
	if err != nil {
		h.opts.Log.Warn("old generations of the profile are kept for longer than they need be", "error", err)
	}
}

// surplus returns the numbers of the generations that are to go.
func (h *Host) surplus(a *Activation) ([]string, error) {
	systems := []string{a.System, a.Previous}
	entries, err := os.ReadDir(filepath.Dir(h.opts.Profile))
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	for _, link := range []string{h.opts.CurrentSystem, h.booted()} {
		if path, err := resolve(link); err == nil {
			systems = append(systems, path)
		}
	}
	targets := map[int]string{}
	var numbers []int
	for _, e := range entries {
		n := h.generation(e.Name())
		target, err := os.Readlink(filepath.Join(filepath.Dir(h.opts.Profile), e.Name()))
		if n > 0 && err == nil {
			numbers, targets[n] = append(numbers, n), target
		}
	}
	_, current, err := h.Profiled()
	if err != nil {
		return nil, err
	}
	slices.Sort(numbers)
	var doomed []string
	for _, n := range numbers[:max(0, len(numbers)-a.Keep)] {
		if n != current && n != h.generation(a.ProfileLink) && !slices.Contains(systems, targets[n]) {
			doomed = append(doomed, strconv.Itoa(n))
		}
	}
	return doomed, nil
}

// booted is the link to the system that the machine was booted into.
func (h *Host) booted() string {
	return filepath.Join(filepath.Dir(h.opts.CurrentSystem), "booted-system")
}

// RebootDue says why the machine is to be restarted for the system that runs to run wholly: its
// kernel, initial RAM disk or kernel modules are not those that were booted (as NixOS's
// system.autoUpgrade tells). "" if not, and where that cannot be told.
func (h *Host) RebootDue(context.Context) (string, error) {
	for _, part := range []string{"kernel", "initrd", "kernel-modules"} {
		booted, err := filepath.EvalSymlinks(filepath.Join(h.booted(), part))
		if err != nil {
			continue
		}
		current, err := filepath.EvalSymlinks(filepath.Join(h.opts.CurrentSystem, part))
		if err == nil && booted != current {
			return part + " is not the one that was booted", nil
		}
	}
	return "", nil
}

// Reboot restarts the machine, in an orderly way.
func (h *Host) Reboot(ctx context.Context) error {
	if !underSystemd() {
		return fmt.Errorf("%w: restart the machine: systemd does not run it", ErrMachine)
	}
	return systemctl(ctx, nil, "reboot")
}
