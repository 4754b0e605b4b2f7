package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// `make lock` makes what the maintainers' job wants: it fails without flake.lock, and passes with it.
func TestTheLockOfTheFlake(t *testing.T) {
	t.Parallel()
	need(t, "nix")
	dir := t.TempDir()
	nixpkgs, err := filepath.Abs(filepath.Join("..", "nix", "testdata", "nixpkgs"))
	if err == nil {
		err = os.CopyFS(filepath.Join(dir, "nix"), os.DirFS(filepath.Join("..", "nix")))
	}
	if err != nil {
		t.Fatal(err)
	}
	flake := strings.Replace(read(t, "..", "flake.nix"), "github:NixOS/nixpkgs/nixos-unstable", "path:"+nixpkgs, 1)
	for name, text := range map[string]string{"flake.nix": flake, "Makefile": read(t, "..", "Makefile")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), nixtest.Env()...), "NIX_CONFIG=extra-experimental-features = nix-command flakes")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}} {
		if out, err := run("git", args...); err != nil {
			t.Fatalf("git: %v\n%s", err, out)
		}
	}
	job := steps(t, "..", ".github", "workflows", "lock.yml")
	committed, complete := job["flake.lock is committed"], job["flake.lock names every input of flake.nix"]
	if out, err := run("bash", "-e", "-c", committed); err == nil || !strings.Contains(out, "run make lock and commit it") {
		t.Errorf("without flake.lock the job ends with %v\n%s", err, out)
	}
	if out, err := run("make", "lock"); err != nil {
		t.Fatalf("make lock: %v\n%s", err, out)
	}
	var lock struct {
		Nodes map[string]struct{ Locked struct{ NarHash string } }
	}
	if err := json.Unmarshal([]byte(read(t, dir, "flake.lock")), &lock); err != nil || lock.Nodes["nixpkgs"].Locked.NarHash == "" {
		t.Errorf("flake.lock: %v, %+v", err, lock)
	}
	_, _ = run("git", "add", "flake.lock")
	for _, step := range []string{committed, complete} {
		if out, err := run("bash", "-e", "-c", step); err != nil {
			t.Errorf("with flake.lock: %s: %v\n%s", step, err, out)
		}
	}
	// An input that the lock does not name.
	more := strings.Replace(flake, "outputs =", "inputs.more = { url = \"path:"+nixpkgs+"\"; flake = false; };\n  outputs =", 1)
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(more), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run("bash", "-e", "-c", complete); err == nil {
		t.Errorf("an input is missing in flake.lock, and the job passes\n%s", out)
	}
}
