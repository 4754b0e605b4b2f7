package nix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Flush makes durable what nix has built, fetched and registered, the profile, and what boots. nix registers
// paths as valid before their contents are on disk: after a loss of power they would be valid and empty.
func (h *Host) Flush() error {
	begun := time.Now()
	dirs := append([]string{storeDir, "/nix/var/nix/db", filepath.Dir(h.opts.Profile)}, h.opts.BootDirs...)
	for _, dir := range dirs {
		if err := flush(dir); err != nil {
			return fmt.Errorf("%w: write %s to disk: %w", ErrMachine, dir, err)
		}
	}
	h.opts.Log.Debug("what nix has built and what boots is on disk", "after", time.Since(begun).Round(time.Millisecond))
	return nil
}

// flush writes the file system of a folder to disk. There need not be such a folder.
func flush(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return syncFileSystem(f)
}
