package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// The script that docs/ci.md gives to pipelines ends as its table of exit codes says.
func TestDocsPipeline(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(doc), "```sh\n")
	script, _, found := strings.Cut(script, "```\n")
	if !found {
		t.Fatal("docs/ci.md holds no script")
	}
	cloud := newCloud(t)
	w := newWorld(t, cloud.URL())
	queue, _ := w.queue("npcnix-web1", 10)
	(&watched{world: w}).tag(queue, map[string]string{"npcnix:host": "web1"})
	h := newHost(w, "web1")
	h.configure(map[string]any{"remote": remote, "configuration": "web1", "queue_url": queue})
	h.start()

	file, summary, bin := h.path("publish.sh"), h.path("summary.md"), t.TempDir()
	w.must(os.WriteFile(file, []byte(script), 0o644))
	w.must(os.Symlink(npcnix, filepath.Join(bin, "npcnix")))
	// publish runs the script with a system and checks its exit code and a line of what it says.
	publish := func(s nixtest.System, timeout string, want int, says string, meanwhile ...func(stderr *lockedBuffer)) {
		t.Helper()
		w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": s}))
		cmd := exec.Command("sh", file)
		cmd.Env = append(w.env(), "PATH="+bin+":"+os.Getenv("PATH"), "REMOTE="+remote, "TOPIC_ARN="+w.topic,
			"FLAKE="+h.path("flake"), "TIMEOUT="+timeout, "GITHUB_STEP_SUMMARY="+summary)
		stderr := &lockedBuffer{}
		cmd.Stderr = stderr
		w.must(cmd.Start())
		for _, do := range meanwhile {
			do(stderr)
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(stderr.String(), says) {
			t.Errorf("exit code %d, want %d and %q:\n%s", code, want, says, stderr)
		}
	}
	publish(nixtest.System{Version: "one"}, "2m", 0, "1 of 1 done")
	if h.marker() != "one" {
		t.Errorf("the host runs %q when the job is green", h.marker())
	}
	if page, err := os.ReadFile(summary); err != nil || !bytes.Contains(page, []byte("web1")) && !bytes.Contains(page, []byte("1 of 1")) {
		t.Errorf("the run's page: %v\n%s", err, page)
	}
	publish(nixtest.System{Version: "two", BuildFails: true}, "2m", 3, "A host did not take this version")
	h.run(append(h.flags(), "pause")...)
	publish(nixtest.System{Version: "three"}, "10s", 4, "Hosts have not answered in time")
	publish(nixtest.System{Version: "four"}, "2m", 0, "A newer version was published meanwhile", func(stderr *lockedBuffer) {
		await(t, "the wait", func() bool { return stderr.count("web1 paused") > 0 })
		h.publish(nixtest.System{Version: "five"})
	})
	w.topic += "-of-nobody"
	publish(nixtest.System{Version: "six"}, "2m", 1, w.topic)
}
