package nix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// storeDir is where systems are. NixOS has no other.
const storeDir = "/nix/store"

// Current returns the system that runs, the zero System where there is none (yet).
func (h *Host) Current(context.Context) (System, error) {
	path, err := resolve(h.opts.CurrentSystem)
	if errors.Is(err, fs.ErrNotExist) {
		return System{}, nil
	}
	if err != nil {
		return System{}, fmt.Errorf("current system: %w", err)
	}
	return System{Path: path}, nil
}

// Specialisation returns the name of the specialisation of s that another system is; "" if it is none.
func (s System) Specialisation(other System) string {
	entries, err := os.ReadDir(filepath.Join(s.Path, "specialisation"))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if path, err := resolve(filepath.Join(s.Path, "specialisation", e.Name())); err == nil && path == other.Path {
			return e.Name()
		}
	}
	return ""
}

// Profiled returns the system that the profile points to, which is the boot default, and
// the number of its generation. Both are zero where there is no profile yet; the number alone is
// where the profile points to something that is no generation of it.
func (h *Host) Profiled() (System, int, error) {
	path, err := resolve(h.opts.Profile)
	if errors.Is(err, fs.ErrNotExist) {
		return System{}, 0, nil
	}
	if err != nil {
		return System{}, 0, fmt.Errorf("profile: %w", err)
	}
	link, err := os.Readlink(h.opts.Profile)
	if err != nil {
		return System{}, 0, fmt.Errorf("profile: %w", err)
	}
	return System{Path: path}, h.generation(link), nil
}

// Runs tells whether s runs and the profile has it too, so that its activation would change nothing.
func (h *Host) Runs(ctx context.Context, s System) (bool, error) {
	current, err := h.Current(ctx)
	if err != nil {
		return false, err
	}
	profiled, _, err := h.Profiled()
	if err != nil {
		return false, err
	}
	return s != System{} && s == current && s == profiled, nil
}

// SetProfile makes s a generation and points the profile to it.
func (h *Host) SetProfile(ctx context.Context, s System) error {
	if err := os.MkdirAll(filepath.Dir(h.opts.Profile), 0o755); err != nil {
		return fmt.Errorf("set profile: %w", err)
	}
	out := &Output{Emit: h.logged("nix-env")}
	if err := run(ctx, nil, out, "nix-env", "--profile", h.opts.Profile, "--set", s.Path); err != nil {
		return fmt.Errorf("set profile %s: %w", h.opts.Profile, because(out.Lines(), err))
	}
	return nil
}

// Fallback returns what the profile is to point to after a rollback, so that it has a system: "" for no
// profile at all, as it is on a new host. If the system is no generation of the profile, that stays as it is.
func (h *Host) Fallback(s System) (string, error) {
	link, err := os.Readlink(h.opts.Profile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("profile: %w", err)
	}
	profiled, _, err := h.Profiled()
	if err != nil {
		return "", err
	}
	if s == (System{}) || s == profiled {
		return link, nil
	}
	entries, err := os.ReadDir(filepath.Dir(h.opts.Profile))
	if err != nil {
		return "", fmt.Errorf("profile: %w", err)
	}
	newest := 0
	for _, e := range entries {
		n := h.generation(e.Name())
		target, err := os.Readlink(filepath.Join(filepath.Dir(h.opts.Profile), e.Name()))
		if n > newest && err == nil && target == s.Path {
			newest, link = n, e.Name()
		}
	}
	return link, nil
}

// RestoresTo returns the system that the profile has after RestoreProfile; the zero System for no profile.
func (h *Host) RestoresTo(link string, ran System) System {
	if link == "" {
		return System{}
	}
	path := filepath.Join(filepath.Dir(h.opts.Profile), link)
	if _, err := os.Stat(path); err != nil && ran != (System{}) {
		return ran
	}
	system, err := resolve(path)
	if err != nil {
		return ran
	}
	return System{Path: system}
}

// RestoreProfile points the profile back to what Fallback returned. A generation that is gone by now is
// made again, of the system that ran.
func (h *Host) RestoreProfile(ctx context.Context, link string, ran System) error {
	if link == "" {
		return os.Remove(h.opts.Profile)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(h.opts.Profile), link)); err != nil && ran != (System{}) {
		return h.SetProfile(ctx, ran)
	}
	return renameio.Symlink(link, h.opts.Profile)
}

// generation returns the number in a link's name, such as 12 in system-12-link, else 0.
func (h *Host) generation(link string) int {
	name, ok := strings.CutPrefix(filepath.Base(link), filepath.Base(h.opts.Profile)+"-")
	number, isLink := strings.CutSuffix(name, "-link")
	n, err := strconv.Atoi(number)
	if !ok || !isLink || err != nil || n < 0 {
		return 0
	}
	return n
}

// resolve follows links from path until they arrive in the store. What is there need not exist,
// and may itself be a link.
func resolve(path string) (string, error) {
	for range 40 {
		if filepath.Dir(path) == storeDir {
			return path, nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = filepath.Clean(target)
	}
	return "", fmt.Errorf("%s: too many links", path)
}
