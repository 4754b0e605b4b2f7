package integration

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// Every link of a page to another page, file or heading of the repository leads somewhere.
func TestLinksInThePagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !hasHeading(t, target, anchor) {
				t.Errorf("%s: the link %s leads to no heading", page, m[1])
			}
		}
	}
}

// hasHeading reports whether GitHub would give a heading of the page this anchor.
func hasHeading(t *testing.T, page, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// pages returns the Markdown files of the repository.
func pages(t *testing.T) (pages []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "..":
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("only %d pages were found: %v", len(pages), pages)
	}
	return pages
}
