package nix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// NewestGeneration returns the number of the profile's newest generation; 0 where it has none.
func (h *Host) NewestGeneration() (int, error) {
	entries, err := os.ReadDir(filepath.Dir(h.opts.Profile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("list generations: %w", err)
	}
	newest := 0
	for _, e := range entries {
		newest = max(newest, h.generation(e.Name()))
	}
	return newest, nil
}

// DropGeneration deletes the first generation after a number, if it is of the system s and the profile
// does not point to it. Some boot loaders make the newest generation of the profile the default, whatever
// they are told, and others list only the newest few: that of a rejected system must not be among them.
func (h *Host) DropGeneration(s System, after int) error {
	_, current, err := h.Profiled()
	if err != nil {
		return err
	}
	newest, err := h.NewestGeneration()
	if err != nil {
		return err
	}
	for n := after + 1; n <= newest; n++ {
		link := fmt.Sprintf("%s-%d-link", h.opts.Profile, n)
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		if target != s.Path || n == current {
			return nil // another process made it, or has chosen it
		}
		if err := os.Remove(link); err != nil {
			return fmt.Errorf("delete the generation of a rejected system: %w", err)
		}
		return nil
	}
	return nil
}
