package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// actionlint is no tool of go.mod, as the package's vendored modules are all of those.
const actionlint = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"

// The workflows of this repository and those that docs/ci.md shows are sound, and give the action what it takes.
func TestWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.CopyFS(filepath.Join(dir, ".github"), os.DirFS(filepath.Join("..", ".github"))))
	must(os.WriteFile(filepath.Join(dir, "action.yml"), []byte(read(t, "..", "action.yml")), 0o644))
	must(os.Mkdir(filepath.Join(dir, ".git"), 0o755)) // by which it finds ./action.yml
	shown := 0
	for i, block := range regexp.MustCompile("(?s)```yaml\nname: (.*?)```").FindAllString(read(t, "..", "docs", "ci.md"), -1) {
		block = strings.Trim(block, "`")
		block = regexp.MustCompile(`npcnix/npcnix@v[0-9.]+`).ReplaceAllString(strings.TrimPrefix(block, "yaml\n"), "./")
		must(os.WriteFile(filepath.Join(dir, ".github", "workflows", fmt.Sprintf("shown-%d.yml", i)), []byte(block), 0o644))
		shown++
	}
	if shown < 2 {
		t.Errorf("docs/ci.md shows %d workflows", shown)
	}
	lint := exec.Command("go", "run", actionlint, "-shellcheck", need(t, "shellcheck"))
	lint.Dir = dir
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, out)
	}
	for name, step := range steps(t, "..", "action.yml") { // which actionlint does not look into
		check := exec.Command("shellcheck", "--shell", "bash", "-")
		check.Stdin = strings.NewReader(step)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// The action installs what was released under its own tag, and nothing else.
func TestActionInstalls(t *testing.T) {
	t.Parallel()
	install := steps(t, "..", "action.yml")["Install npcnix"]
	archive := releaseArchive(t)
	sum := fmt.Sprintf("%x", sha256.Sum256(archive))
	for _, c := range []struct{ name, tag, sums, says string }{
		{"a release", "v1.2.3", sum + "  npcnix_1.2.3_linux_amd64.tar.gz\n", ""},
		{"another archive's sum", "v1.2.3", sum + "  npcnix_1.2.3_darwin_amd64.tar.gz\n", "::error::npcnix_1.2.3_linux_amd64.tar.gz has the SHA-256 " + sum},
		{"another archive", "v1.2.3", strings.Repeat("0", 64) + "  npcnix_1.2.3_linux_amd64.tar.gz\n", "it is not what was released"},
		{"a branch", "main", "", "npcnix has no release 'main': use the action by a tag"},
		{"no such release", "v1.2.4", "", "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/v1.2.3/npcnix_1.2.3_checksums.txt":
					fmt.Fprint(w, c.sums)
				case "/v1.2.3/npcnix_1.2.3_linux_amd64.tar.gz":
					_, _ = w.Write(archive) // the client says if it is cut off
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			temp := t.TempDir()
			paths := filepath.Join(temp, "path")
			out, err := step(install, "VERSION="+c.tag, "DOWNLOAD_URL="+server.URL, "RUNNER_OS=Linux", "RUNNER_ARCH=X64",
				"RUNNER_TEMP="+temp, "GITHUB_PATH="+paths).CombinedOutput()
			bin, _ := os.ReadFile(paths)
			if c.says != "" {
				if err == nil || !strings.Contains(string(out), c.says) || len(bin) > 0 {
					t.Errorf("%v, PATH %q, want %q in\n%s", err, bin, c.says, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := exec.Command(filepath.Join(strings.TrimSpace(string(bin)), "npcnix"), "--version").CombinedOutput(); err != nil {
				t.Errorf("what is on PATH: %v %s", err, out)
			}
		})
	}
}

// The action's second step publishes and waits, and is green when the hosts that it was given run the version.
func TestActionPublishes(t *testing.T) {
	t.Parallel()
	publish := steps(t, "..", "action.yml")["Publish, and wait for the hosts"]
	cloud := newCloud(t)
	w := newWorld(t, cloud.URL())
	h := newHost(w, "web1")
	h.configure(map[string]any{"remote": remote, "configuration": "web1", "min_sleep_secs": 1, "max_sleep_secs": 1})
	w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: "one"}}))
	h.start()
	run := func(timeout string) ([]byte, error) {
		cmd := step(publish, append(w.env(), "REMOTE="+remote, "FLAKE="+h.path("flake"), "TOPIC_ARN=", "HOSTS=web1", "MIN_OK=100%", "TIMEOUT="+timeout)...)
		return cmd.CombinedOutput()
	}
	if out, err := run("2m"); err != nil || h.marker() != "one" {
		t.Fatalf("%v; the host runs %q\n%s", err, h.marker(), out)
	}
	w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: "two", BuildFails: true}}))
	h.run(append(h.flags(), "pause")...)
	if out, err := run("5s"); err == nil || !strings.Contains(string(out), "::error::Hosts have not answered in time") {
		t.Errorf("%v\n%s", err, out)
	}
}

// releaseArchive is an archive as a release has it.
func releaseArchive(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(npcnix)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	compressed := gzip.NewWriter(&file)
	archive := tar.NewWriter(compressed)
	err = archive.WriteHeader(&tar.Header{Name: "npcnix", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = archive.Write(program)
	}
	if err == nil {
		err = archive.Close()
	}
	if err == nil {
		err = compressed.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// step runs a step of an action as GitHub does, with npcnix on PATH.
func step(script string, env ...string) *exec.Cmd {
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Env = append(append(os.Environ(), env...), "PATH="+filepath.Dir(npcnix)+":"+os.Getenv("PATH"))
	return cmd
}

// steps returns the scripts of a workflow's or an action's steps by the steps' names.
func steps(t *testing.T, path ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	name, indent, script := "", -1, false
	for line := range strings.Lines(read(t, path...)) {
		depth := len(line) - len(strings.TrimLeft(line, " "))
		text := strings.TrimSpace(line)
		switch {
		case script && (depth > indent || text == ""):
			found[name] += strings.TrimPrefix(line, strings.Repeat(" ", indent+2))
			continue
		case strings.HasPrefix(text, "- name: "):
			name = strings.TrimPrefix(text, "- name: ")
		case strings.HasPrefix(text, "run: ") && text != "run: |":
			found[name] = strings.TrimPrefix(text, "run: ")
		}
		script, indent = text == "run: |", depth
	}
	if len(found) < 2 {
		t.Fatalf("%v has %d steps", path, len(found))
	}
	return found
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
