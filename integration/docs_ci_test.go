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
	h.run(append(h.flags(), "unpause")...)
	for _, pipeline := range []string{"GitLab", "Buildkite"} {
		job := pipelineJob(t, string(doc), pipeline)
		w.must(os.MkdirAll(h.path("checkout", "ci"), 0o755))
		w.must(os.WriteFile(h.path("checkout", "ci", "publish.sh"), []byte(script), 0o644))
		for stub, text := range map[string]string{
			"nix":             `case "$*" in *"profile install github:npcnix/npcnix") ;; *) exec ` + need(t, "nix") + ` "$@" ;; esac`,
			"buildkite-agent": `[ "$*" = "oidc request-token --audience sts.amazonaws.com" ] && echo token`,
		} {
			w.must(os.WriteFile(filepath.Join(bin, stub), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
		}
		w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: pipeline}}))
		cmd := exec.Command("bash", "-e", "-c", strings.ReplaceAll(job.script, "/tmp/", h.path("")+"/"))
		cmd.Dir = h.path("checkout")
		cmd.Env = append(append(os.Environ(), job.env...), w.env()...)
		cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "REMOTE="+remote, "TOPIC_ARN="+w.topic, "FLAKE="+h.path("flake"),
			"AWS_ID_TOKEN=token", "AWS_WEB_IDENTITY_TOKEN_FILE="+h.path("aws-id-token"))
		if out, err := cmd.CombinedOutput(); err != nil || h.marker() != pipeline {
			t.Errorf("%s: %v; the host runs %q\n%s\n%s", pipeline, err, h.marker(), job.script, out)
		}
		if token, err := os.ReadFile(h.path("aws-id-token")); err != nil || len(token) == 0 {
			t.Errorf("%s: the token for AWS: %q, %v", pipeline, token, err)
		}
		w.must(os.Remove(h.path("aws-id-token")))
		w.must(os.Remove(filepath.Join(bin, "nix")))
	}
	w.topic += "-of-nobody"
	publish(nixtest.System{Version: "six"}, "2m", 1, w.topic)
}

// job is what a pipeline of docs/ci.md runs, and with which variables.
type job struct {
	env    []string
	script string
}

// pipelineJob reads the block of a section: its variables, and its commands in order.
func pipelineJob(t *testing.T, doc, section string) (j job) {
	t.Helper()
	_, block, _ := strings.Cut(doc, "\n## "+section+"\n")
	_, block, _ = strings.Cut(block, "```yaml\n")
	block, _, found := strings.Cut(block, "```\n")
	key := ""
	for line := range strings.Lines(block) {
		text, _, _ := strings.Cut(strings.TrimSpace(line), " # ")
		text = strings.TrimSpace(text)
		command, listed := strings.CutPrefix(text, "- ")
		name, value, _ := strings.Cut(text, ": ")
		switch {
		case listed && (key == "before_script" || key == "script" || key == "commands"):
			j.script += command + "\n"
		case strings.HasSuffix(text, ":"):
			key = strings.TrimSuffix(text, ":")
		case key == "variables" || key == "env":
			j.env = append(j.env, name+"="+value)
		}
	}
	if !found || len(j.env) < 4 || strings.Count(j.script, "\n") != 3 {
		t.Fatalf("docs/ci.md, %s: %q", section, j)
	}
	return j
}
