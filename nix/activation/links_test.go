package activation

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// What root writes as it activates is not written through a link in the data directory.
func TestLinksInTheDataDirectoryAreNotFollowed(t *testing.T) {
	system := t.TempDir()
	if err := os.Mkdir(filepath.Join(system, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(nix.System{Path: system}.Switcher(), []byte("#!/bin/sh\necho switched\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	worker := []string{"/bin/sh", "-c", "echo working >&2"}
	for _, c := range []struct {
		name, file string
		write      func(dir string) error
	}{
		{"of the output of a switch", switchLog, func(dir string) error {
			return switchRun{system: system, action: "test", timeout: time.Minute}.do(t.Context(), dir, slog.New(slog.DiscardHandler)).err
		}},
		{"of the log of a worker", "activation.log", func(dir string) error { return detach(dir, worker, os.O_APPEND) }},
		{"of the log of a rollback timer", "activation.log", func(dir string) error { return detach(dir, worker, os.O_TRUNC) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
			if err := os.WriteFile(precious, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(precious, filepath.Join(dir, c.file)); err != nil {
				t.Fatal(err)
			}
			if err := c.write(dir); !errors.Is(err, syscall.ELOOP) || !errors.Is(err, nix.ErrMachine) {
				t.Errorf("got %v", err)
			}
			if data, err := os.ReadFile(precious); err != nil || string(data) != "content" {
				t.Errorf("the file that the link leads to holds %q, %v", data, err)
			}
		})
	}
}
