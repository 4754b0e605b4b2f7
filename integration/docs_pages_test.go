package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// The block of the README with which a stranger tries npcnix works, also after a change of the flake.
func TestDocsTry(t *testing.T) {
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

// The commands of the quick start and of the pages for operators work as they stand, one page after the
// other, on one bucket and one host. Where NixOS or an agent's unit is needed, they are passed over.
func TestDocsCommands(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	w := worldAt(t, cloud.URL())
	_, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("my-fleet")})
	w.must(err)
	h := newHost(w, "web1")
	w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: "one"}}))
	bin := t.TempDir()
	w.must(os.Symlink(npcnix, filepath.Join(bin, "npcnix")))
	w.must(os.WriteFile(filepath.Join(bin, "aws"), []byte("#!/bin/sh\nexec "+need(t, "aws")+` "$@"`+"\n"), 0o755))
	ran := map[string]int{}
	for _, page := range []struct{ file, from string }{
		{"README.md", "## Quick start on a NixOS host"}, {"docs/commands.md", "# "}, {"docs/operate.md", "# "},
	} {
		for _, command := range commands(t, filepath.Join("..", page.file), page.from) {
			command = strings.Replace(command, "nix run github:npcnix/npcnix#install --", "npcnix install", 1)
			if !strings.HasPrefix(command, "npcnix ") && !strings.HasPrefix(command, "aws ") {
				continue
			}
			ran[page.file]++
			cmd := exec.Command("bash", "-c", command)
			cmd.Dir = h.path("flake")
			cmd.Env = append(append(w.env(), nixtest.Env()...), nixtest.RootVariable+"="+h.path("root"), "XDG_CACHE_HOME="+h.path("cache"),
				"PATH="+bin+":"+os.Getenv("PATH"), "NPCNIX_DATA_DIR="+h.path("data"), "NPCNIX_PROFILE="+h.path("profiles", "system"),
				"NPCNIX_CURRENT_SYSTEM="+h.path("root", nixtest.CurrentSystem))
			w.must(os.MkdirAll(h.path("profiles"), 0o755))
			out, err := cmd.CombinedOutput()
			if doctor := strings.HasPrefix(command, "npcnix doctor"); err != nil && !(doctor && strings.Contains(string(out), "npcnix: wrong: 1 of ")) {
				t.Fatalf("%s: %s: %v\n%s", page.file, command, err, out) // the doctor finds no agent, and nothing else
			}
		}
	}
	if h.marker() != "one" {
		t.Errorf("the host runs %q", h.marker())
	}
	if ran["README.md"] < 6 || ran["docs/commands.md"] < 3 || ran["docs/operate.md"] < 5 {
		t.Errorf("only some commands were found: %v", ran)
	}
}

// commands returns the commands of a page's shell blocks, from a heading up to the next of its level.
func commands(t *testing.T, page, heading string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	level, _, _ := strings.Cut(heading, " ")
	within, shell, joined := false, false, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, level+" ") && !shell:
			within = strings.HasPrefix(line, heading)
		case strings.HasPrefix(line, "```"):
			shell = line == "```sh" && within
		case shell && strings.HasSuffix(line, "\\"):
			joined += strings.TrimSuffix(line, "\\")
		case shell && line != "":
			commands = append(commands, joined+line)
			joined = ""
		}
	}
	return commands
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
