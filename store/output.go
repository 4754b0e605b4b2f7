package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// Output is a file that is being written. A regular one is replaced at once by
// Commit, and stays as it was until then; readers see the old content or the new.
// A device or a pipe is written to as it is.
type Output struct {
	*os.File
	pending *renameio.PendingFile // nil: the file itself is written
	old     fs.FileInfo           // what is to be replaced; nil: nothing
}

// CreateOutput begins to write to path. A symbolic link is followed, and kept. Of a
// pipe it waits for the reader until ctx ends. Close gives up what Commit did not
// complete.
func CreateOutput(ctx context.Context, path string) (*Output, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		info = nil
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory: give a file", path)
	case !info.Mode().IsRegular():
		f, err := openForWriting(ctx, path)
		if err != nil {
			return nil, err
		}
		return &Output{File: f}, nil
	}
	target, err := followLinks(path)
	if err != nil {
		return nil, err
	}
	pending, err := renameio.NewPendingFile(target, renameio.WithTempDir(filepath.Dir(target)),
		renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return nil, err
	}
	return &Output{File: pending.File, pending: pending, old: info}, nil
}

// openForWriting opens a device or a pipe. A pipe without a reader refuses with
// ENXIO; waiting in open itself could not be cancelled.
func openForWriting(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.ENXIO) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s has no reader: %w", path, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// followLinks resolves path, of which the last element need not exist.
func followLinks(path string) (string, error) {
	for range 40 {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // no link, or nothing yet
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", fmt.Errorf("%s: %w", path, syscall.ELOOP)
}

// Files are what stands on disk for the output: what is written now, and what
// that replaces.
func (o *Output) Files() []fs.FileInfo {
	var files []fs.FileInfo
	if o.old != nil {
		files = append(files, o.old)
	}
	if now, err := o.Stat(); err == nil {
		files = append(files, now)
	}
	return files
}

// Commit completes the output.
func (o *Output) Commit() error {
	if o.pending == nil {
		return o.File.Close()
	}
	return o.pending.CloseAtomicallyReplace()
}

// Close gives up an output that was not committed.
func (o *Output) Close() error {
	if o.pending == nil {
		_ = o.File.Close() // once more, after Commit
		return nil
	}
	return o.pending.Cleanup()
}
