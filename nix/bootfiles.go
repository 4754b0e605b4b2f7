package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
)

// copied matches the name that an installer of a boot loader gives to a copy of a file of the store: the path in the
// store, with a dash for each slash. systemd-boot wants the suffix.
var copied = regexp.MustCompile(`([0-9a-z]{32}-[0-9a-zA-Z+._?=-]+?)(\.efi)?$`)

// repairBootFiles writes again what a loss of power has damaged of the kernels and initrds beside the boot loader. An
// installer takes a file that is there for whole, and the next system with that kernel would not boot.
func (h *Host) repairBootFiles(ctx context.Context) (repaired int, err error) {
	for _, dir := range h.opts.BootDirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return ctx.Err() // there need not be such a folder
			}
			original := originalOf(e.Name())
			if original == "" {
				return ctx.Err()
			}
			whole, err := beginsWith(path, original)
			if whole || err != nil {
				return err
			}
			h.opts.Log.Warn("repairing a damaged file of the boot loader", "path", path, "from", original)
			repaired++
			return copyFile(original, path)
		})
		if err != nil {
			return repaired, fmt.Errorf("repair what boots: %w", err)
		}
	}
	return repaired, nil
}

// originalOf returns the file of the store that a name is made of; "" if there is none.
func originalOf(name string) string {
	m := copied.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	packages, err := filepath.Glob(filepath.Join(storeDir, m[1][:33]+"*"))
	if err != nil {
		return ""
	}
	for _, p := range packages {
		rest, ok := strings.CutPrefix(m[1], filepath.Base(p))
		if !ok {
			continue
		}
		file := p
		if rest != "" {
			file = filepath.Join(p, rest[1:])
		}
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// beginsWith reports whether a file is another, with or without something after it: installers append secrets to
// initrds.
func beginsWith(path, original string) (bool, error) {
	a, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := os.Open(original)
	if err != nil {
		return false, err
	}
	defer b.Close()
	one, other := make([]byte, 1<<18), make([]byte, 1<<18)
	for {
		n, err := io.ReadFull(b, other)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if n == 0 {
			return true, nil
		}
		if _, err := io.ReadFull(a, one[:n]); err != nil || !bytes.Equal(one[:n], other[:n]) {
			return false, nil
		}
	}
}

// copyFile puts a whole copy in the place of a file, durably.
func copyFile(from, to string) error {
	original, err := os.Open(from)
	if err != nil {
		return err
	}
	defer original.Close()
	file, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }()
	if _, err := io.Copy(file, original); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return file.CloseAtomicallyReplace()
}
