package nix_test

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// onASmallDisk is a nix-store whose store is empty, and has room for a database and little else.
const onASmallDisk = `#!/bin/sh
exec unshare --mount sh -ec 'mount -t tmpfs -o size=24m none /nix; exec "$@"' small `

// A disk that fills while a system is realised is the machine's fault, and the sentence says what to do.
func TestRealiseOnAFullDisk(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
			nixtest.Skip(t, "mounts need root: "+err.Error())
		}
		h := newHost(t)
		dir := t.TempDir()
		large := make([]byte, 32<<20)
		_, _ = rand.Read(large)
		if err := os.WriteFile(filepath.Join(dir, "large"), large, 0o644); err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSpace(output(t, "nix-store", "--add", filepath.Join(dir, "large")))
		cache := nix.Cache{URL: "file://" + filepath.Join(dir, "cache"), Keys: []string{key(t, dir, "cache-1")}}
		nixOutput(t, "copy", "--to", cache.URL+"?compression=none&secret-key="+filepath.Join(dir, "cache-1"), path)
		nixtest.Delete(t, nil, path)

		real, err := exec.LookPath("nix-store")
		if err != nil {
			t.Fatal(err)
		}
		programs := filepath.Join(dir, "bin")
		if err := os.Mkdir(programs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(programs, "nix-store"), []byte(onASmallDisk+real+` "$@"`+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
		err = h.Realise(t.Context(), nix.System{Path: path}, []nix.Cache{cache})
		if !errors.Is(err, nix.ErrDiskFull) || !errors.Is(err, nix.ErrMachine) || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%v", err)
		}
	})
}
