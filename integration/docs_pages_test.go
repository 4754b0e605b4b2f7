package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// The block of the README with which a stranger tries npcnix works, also after a change of the flake.
func TestTheReadmesFirstTryWorks(t *testing.T) {
	t.Parallel()
	need(t, "nix")
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "## Try it on any Linux machine")
	_, block, _ = strings.Cut(block, "```sh\nmake build\n")
	block, _, found := strings.Cut(block, "```\n")
	if !found {
		t.Fatal("README.md holds no such block")
	}
	dir := t.TempDir()
	flake := filepath.Join(dir, "flake")
	if err := os.CopyFS(flake, os.DirFS(filepath.Join("..", "docs", "try"))); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{"$PWD/bin:", filepath.Dir(npcnix) + ":"}, {"/tmp/try/", dir + "/"}, {"--src docs/try", "--src " + flake},
	} {
		if !strings.Contains(block, r[0]) {
			t.Fatalf("the block of README.md has no %s:\n%s", r[0], block)
		}
		block = strings.ReplaceAll(block, r[0], r[1])
	}
	for _, version := range []string{"1", "2"} {
		edit(t, filepath.Join(flake, "flake.nix"), "hello from version 1", "hello from version "+version)
		cmd := exec.Command("bash", "-e", "-c", block)
		cmd.Env = append(os.Environ(), nixtest.Env()...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "hello from version "+version) {
			t.Fatalf("version %s: %v\n%s", version, err, out)
		}
	}
}

// edit replaces a text in a file.
func edit(t *testing.T, file, from, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(data), from, to)), 0o644); err != nil {
		t.Fatal(err)
	}
}
