package store_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// gitIn runs git with nothing of this machine's configuration.
func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		skip(t, "no git")
	}
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "protocol.file.allow=always", "-c", "user.name=x", "-c", "user.email=x@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

// packedFrom packs src, and returns the tree that hosts get, the names that were told, and the warnings.
func packedFrom(t *testing.T, src string) (hosts map[string]string, names, warned []string) {
	t.Helper()
	var b bytes.Buffer
	err := store.Pack(t.Context(), src, &b, store.PackOptions{
		Warn:   func(msg string) { warned = append(warned, msg) },
		Packed: func(name string) { names = append(names, name) },
	})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := unpackBeside(t, b.Bytes(), store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, dir), names, warned
}

func TestInAGitTreeWhatGitTracksIsPacked(t *testing.T) {
	lib := t.TempDir()
	gitIn(t, lib, "init", "-q")
	writeFile(t, lib, "lib.nix", "lib")
	gitIn(t, lib, "add", ".")
	gitIn(t, lib, "commit", "-qm", "x")

	top := t.TempDir()
	gitIn(t, top, "init", "-q")
	src := filepath.Join(top, "fleet")
	for _, name := range []string{"flake.nix", "hosts/web1.nix", "gone.nix", "tracked.tfstate"} {
		writeFile(t, src, name, "old")
	}
	writeFile(t, top, "elsewhere.nix", "x")
	writeFile(t, src, ".gitignore", ".env\nsecrets/\n")
	gitIn(t, top, "submodule", "add", "-q", lib, "fleet/lib")
	gitIn(t, top, "submodule", "add", "-q", lib, "fleet/absent")
	gitIn(t, top, "add", ".")
	gitIn(t, top, "commit", "-qm", "x")
	gitIn(t, top, "submodule", "deinit", "-f", "fleet/absent")
	writeFile(t, src, "hosts/web1.nix", "new")
	remove(t, src, "gone.nix")
	writeFile(t, src, "added.nix", "added")
	gitIn(t, src, "add", "-N", "added.nix")
	for _, name := range []string{".env", "secrets/key", ".direnv/x", "draft.nix", "drafts/one.nix"} {
		writeFile(t, src, name, "secret")
	}
	symlink(t, src, "result", "/nix/store/x")
	t.Setenv("GIT_DIR", lib+"/.git") // as in a hook of git's

	hosts, names, warned := packedFrom(t, src)
	want := []string{".gitignore", "added.nix", "flake.nix", "hosts/web1.nix", "lib/lib.nix"}
	if !slices.Equal(names, want) || hosts["hosts/web1.nix"] != "file, x false: new" {
		t.Errorf("packed %q, want %q; web1 is %q", names, want, hosts["hosts/web1.nix"])
	}
	for name := range hosts {
		if slices.Contains([]string{".env", "secrets", ".direnv", "draft.nix", "drafts", "result"}, name) {
			t.Errorf("hosts get %s", name)
		}
	}
	all := strings.Join(warned, "\n")
	if len(warned) != 2 || !strings.Contains(all, "draft.nix, drafts/;") || !strings.Contains(all, "fleet/absent is not checked out") {
		t.Errorf("warned %q", warned)
	}
}

func TestInAGitTreeTheFlakeMustBeTracked(t *testing.T) {
	src := t.TempDir()
	gitIn(t, src, "init", "-q")
	writeFile(t, src, "flake.nix", "one")
	err := store.Pack(t.Context(), src, &bytes.Buffer{}, store.PackOptions{})
	if err == nil || !strings.Contains(err.Error(), "git add") {
		t.Errorf("got %v", err)
	}
	// What git ignores is no part of its tree, such as a directory that a script has made.
	writeFile(t, src, ".gitignore", "*\n")
	if hosts, _, _ := packedFrom(t, src); hosts["flake.nix"] == "" {
		t.Errorf("hosts get %v", hosts)
	}
	// A tree that git cannot read is not taken for one without git: its secrets would travel.
	broken := t.TempDir()
	writeFile(t, broken, "flake.nix", "one")
	writeFile(t, broken, ".git", "gitdir: elsewhere")
	if err := store.Pack(t.Context(), broken, &bytes.Buffer{}, store.PackOptions{}); err == nil || !strings.Contains(err.Error(), "without .git") {
		t.Errorf("got %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := store.Pack(t.Context(), src, &bytes.Buffer{}, store.PackOptions{}); err == nil || !strings.Contains(err.Error(), "there is no git: install it") {
		t.Errorf("got %v", err)
	}
}

func TestNpcnixignoreNamesWhatIsNotPacked(t *testing.T) {
	src := t.TempDir()
	for _, name := range []string{"flake.nix", ".env", "hosts/.env", "keys/a.key", "docs/a.md", "hosts/docs/a.md", "build", "hosts/build/x"} {
		writeFile(t, src, name, "x")
	}
	writeFile(t, src, ".npcnixignore", "# secrets\n.env\n*.key\n\n/docs\nbuild/\r\n")
	hosts, names, _ := packedFrom(t, src)
	want := []string{".npcnixignore", "build", "flake.nix", "hosts/docs/a.md"}
	if !slices.Equal(names, want) {
		t.Errorf("packed %q, want %q: %v", names, want, slices.Sorted(maps.Keys(hosts)))
	}
	for _, bad := range []string{"!x", "a/**/b", "[", "flake.*", "/"} {
		writeFile(t, src, ".npcnixignore", "x\n"+bad+"\n")
		err := store.Pack(t.Context(), src, &bytes.Buffer{}, store.PackOptions{})
		if err == nil || !strings.Contains(err.Error(), ".npcnixignore") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
