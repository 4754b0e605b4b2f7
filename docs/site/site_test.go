package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// build makes the site in a directory, with the commands of the program as it is.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	npcnix := filepath.Join(dir, "npcnix")
	if out, err := exec.Command("go", "build", "-o", npcnix, "github.com/npcnix/npcnix/cmd/npcnix").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	made := filepath.Join(dir, "site")
	for _, name := range []string{ofEarlier, "kept.txt"} {
		if err := put(filepath.Join(made, name), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := run([]string{"--repository", repository, "--npcnix", npcnix, made}); err != nil {
		t.Fatal(err)
	}
	return made
}

// ofEarlier is a page of an earlier run, of a file that is no more.
const ofEarlier = "docs/gone.html"

var (
	reference = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	anchor    = regexp.MustCompile(`id="([^"]*)"`)
)

// Every link of every page leads to a page, a heading or a file of the site, or out of it.
func TestSite(t *testing.T) {
	t.Parallel()
	dir := build(t)
	if _, err := os.Stat(filepath.Join(dir, ofEarlier)); !os.IsNotExist(err) {
		t.Errorf("a page of an earlier run: %v", err)
	}
	if read(t, filepath.Join(dir, "kept.txt")) != "x" {
		t.Error("a file that is no page was changed")
	}
	links := 0
	err := filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".html" {
			return err
		}
		for _, m := range reference.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			to, heading, hasHeading := strings.Cut(m[1], "#")
			target := file
			if to != "" {
				target = filepath.Join(filepath.Dir(file), to)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
			} else if hasHeading && !slices.ContainsFunc(anchor.FindAllStringSubmatch(read(t, target), -1), func(id []string) bool { return id[1] == heading }) {
				t.Errorf("%s: %s leads to no heading", file, m[1])
			}
		}
		return nil
	})
	if err != nil || links < 1000 {
		t.Errorf("%d links: %v", links, err)
	}
	commands := read(t, filepath.Join(dir, address(commandPage)))
	for _, part := range []string{`<h2 id="npcnix-follow">`, `<h2 id="npcnix-release-show">`, "--queue-url", "Examples:"} {
		if !strings.Contains(commands, part) {
			t.Errorf("the page of the commands has no %s", part)
		}
	}
	if strings.Contains(commands, "npcnix manual") {
		t.Error("the page has commands that are not for people")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The site has every page, and those for users in the order of README.md's table.
func TestPages(t *testing.T) {
	t.Parallel()
	var here, users []string
	for _, part := range sections {
		here = append(here, part.pages...)
	}
	for _, pattern := range []string{"docs/*.md", "docs/design/*.md", "terraform/*/README.md", "terraform/examples/*/README.md", "*.md"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			if page, err := filepath.Rel(repository, file); err != nil || !slices.Contains(here, page) {
				t.Errorf("%s is in no section of pages.go (%v)", file, err)
			}
		}
	}
	for _, page := range here {
		if strings.HasPrefix(page, "docs/") && page != commandPage && !strings.HasPrefix(page, "docs/design/") {
			users = append(users, page)
		}
	}
	var table []string
	for _, m := range regexp.MustCompile(`(?m)^\| \[[^\]]+\]\((docs/[\w-]+\.md)\) \|`).FindAllStringSubmatch(read(t, filepath.Join(repository, "README.md")), -1) {
		table = append(table, m[1])
	}
	if !slices.Equal(users, table) {
		t.Errorf("the site has %v\nREADME.md has %v", users, table)
	}
}

// A link that leads nowhere is an error, also of pages that the repository's rules do not know.
func TestLinks(t *testing.T) {
	t.Parallel()
	s := &site{repository: repository, source: "https://example.org/blob", pages: []*page{
		parse("docs/a.md", []byte("# A\n\n## One `thing`\n")), parse("terraform/m/README.md", []byte("# M\n")),
	}}
	for link, want := range map[string]string{
		"a.md": "../docs/a.html", "a.md#one-thing": "../docs/a.html#one-thing", "#one-thing": "../docs/a.html#one-thing",
		"../terraform/m": "../terraform/m.html", "../terraform/m/README.md": "../terraform/m.html",
		"record.schema.json": "../docs/record.schema.json", "../Makefile": "https://example.org/blob/Makefile", "https://example.com": "https://example.com",
	} {
		if got, err := s.target(s.pages[0], link); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", link, got, err, want)
		}
	}
	for _, link := range []string{"b.md", "a.md#two", "../nothing"} {
		if got, err := s.target(s.pages[0], link); err == nil {
			t.Errorf("%s leads to %s", link, got)
		}
	}
}
