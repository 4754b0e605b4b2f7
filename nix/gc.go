package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Prune deletes the profile's generations, but keeps the latest, the one that keepLink names, and those of
// the given systems, of the one that runs and of the one that was booted. What it cannot delete costs
// disk space only.
func (h *Host) Prune(latest int, keepLink string, systems ...System) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	doomed, err := h.surplus(latest, keepLink, systems)
	if err == nil && len(doomed) > 0 {
		out := &Output{Emit: h.logged("nix-env")}
		err = run(ctx, nil, out, "nix-env", append([]string{"--profile", h.opts.Profile, "--delete-generations"}, doomed...)...)
	}
	if err != nil {
		h.opts.Log.Warn("old generations of the profile are kept for longer than they need be", "error", err)
	}
}

// surplus returns the numbers of the generations that are to go.
func (h *Host) surplus(latest int, keepLink string, systems []System) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(h.opts.Profile))
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	for _, link := range []string{h.opts.CurrentSystem, h.booted()} {
		if path, err := resolve(link); err == nil {
			systems = append(systems, System{path})
		}
	}
	targets := map[int]System{}
	var numbers []int
	for _, e := range entries {
		n := h.generation(e.Name())
		target, err := os.Readlink(filepath.Join(filepath.Dir(h.opts.Profile), e.Name()))
		if n > 0 && err == nil {
			numbers, targets[n] = append(numbers, n), System{target}
		}
	}
	_, current, err := h.Profiled()
	if err != nil {
		return nil, err
	}
	slices.Sort(numbers)
	var doomed []string
	for _, n := range numbers[:max(0, len(numbers)-latest)] {
		if n != current && n != h.generation(keepLink) && !slices.Contains(systems, targets[n]) {
			doomed = append(doomed, strconv.Itoa(n))
		}
	}
	return doomed, nil
}

// previousRoot is the root that HoldPrevious makes.
func (h *Host) previousRoot() string { return filepath.Join(h.roots(), "previous") }

// ReleasePrevious ends what HoldPrevious began. A root that stays costs disk space only.
func (h *Host) ReleasePrevious() { _ = os.Remove(h.previousRoot()) }

// HoldPrevious keeps a system from the garbage collector, also when its generation is deleted, because a
// rollback must be possible offline.
func (h *Host) HoldPrevious(ctx context.Context, s System) {
	if s == (System{}) {
		return
	}
	err := os.MkdirAll(h.roots(), 0o755)
	if err == nil {
		err = run(ctx, nil, &Output{}, "nix-store", "--realise", s.Path, "--add-root", h.previousRoot(), "--indirect")
	}
	if err != nil {
		h.opts.Log.Warn("the system that runs is not held against garbage collection; it may be gone should it be needed", "system", s.Path, "error", err)
	}
}

// dropRoots removes the roots that drop picks, by link and by the store path that it holds.
// One that cannot be removed costs disk space only.
func (h *Host) dropRoots(drop func(link, path string) bool) {
	entries, err := os.ReadDir(h.roots())
	for _, e := range entries {
		link := filepath.Join(h.roots(), e.Name())
		path, notLink := os.Readlink(link)
		if notLink == nil && strings.HasPrefix(e.Name(), "build-") && drop(link, path) {
			err = errors.Join(err, os.Remove(link))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.opts.Log.Warn("garbage collector root kept for longer than needed", "error", err)
	}
}

// ReleaseBuilt removes the roots that hold a system since it was built.
func (h *Host) ReleaseBuilt(s System) {
	h.dropRoots(func(_, path string) bool { return path == s.Path })
}
