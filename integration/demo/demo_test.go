package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// need finds a real part, and skips the test without it, or fails it where NPCNIX_REQUIRE_ALL is set.
func need(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, filepath.Join("..", "..", ".cache", "moto", "bin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatalf("%s is missing", program)
	}
	t.Skipf("%s is missing", program)
	return ""
}

// show is one run of the built demo, in a temporary folder of its own.
type show struct {
	*exec.Cmd
	tmp    string
	pipe   io.Closer // the reading end of stdout
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func start(t *testing.T, env ...string) *show {
	t.Helper()
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, ".", "github.com/npcnix/npcnix/cmd/npcnix").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	s := &show{Cmd: exec.CommandContext(ctx, filepath.Join(bin, "demo"), filepath.Join(bin, "npcnix")), tmp: tmp}
	s.Env = append(append(os.Environ(), "TMPDIR="+tmp), env...)
	s.Dir = filepath.Join("..", "..")
	s.Stderr = &s.stderr
	pipe, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	s.pipe, s.stdout = pipe, bufio.NewReader(pipe)
	s.Cmd.Cancel = func() error { return s.Process.Signal(syscall.SIGTERM) }
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.ProcessState == nil { // the test has failed
			cancel()
			_ = s.Wait()
		}
		for _, pid := range s.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// until reads the output up to and with the first line that holds text.
func (s *show) until(t *testing.T, text string) string {
	t.Helper()
	var read strings.Builder
	for {
		line, err := s.stdout.ReadString('\n')
		read.WriteString(line)
		if strings.Contains(line, text) {
			return read.String()
		}
		if err != nil {
			t.Fatalf("the output ends before %q:\n%s\n%s", text, read.String(), s.stderr.String())
		}
	}
}

// ends waits for the end, and returns the exit code and the rest of the output.
func (s *show) ends(t *testing.T) (code int, rest string) {
	t.Helper()
	out, err := io.ReadAll(s.stdout)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return s.ProcessState.ExitCode(), string(out)
}

// processes lists those with the run's folder on their command line.
func (s *show) processes() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, _ := os.ReadFile(file) // it may have ended
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && bytes.Contains(line, []byte(s.tmp)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leavesNothing asserts that there are no processes, files and garbage collector roots of the run.
func (s *show) leavesNothing(t *testing.T) {
	t.Helper()
	if left := s.processes(); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	files, err := os.ReadDir(s.tmp)
	if err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
	if links := s.roots(t); len(links) > 0 {
		t.Errorf("garbage collector roots are left: %v", links)
	}
}

// roots lists what nix holds for links in the run's folder.
func (s *show) roots(t *testing.T) (links []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(autoRoots, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range all {
		if target, _ := os.Readlink(link); strings.HasPrefix(target, s.tmp) {
			links = append(links, link)
		}
	}
	return links
}

var (
	goodRow   = regexp.MustCompile(`(?m)^  (web\d) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$`)
	brokenRow = regexp.MustCompile(`(?m)^  (web\d) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +version (\w+), generation (\d+)$`)
	runsRow   = regexp.MustCompile(`(?m)^  (web\d) runs (/nix/store/\S+), generation (\d+)$`)
)

// rows returns what the hosts' lines say, and asserts that there is one a host, in order.
func rows(t *testing.T, line *regexp.Regexp, text string) [][]string {
	t.Helper()
	var hosts []string
	var all [][]string
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		hosts = append(hosts, m[1])
		all = append(all, m[2:])
	}
	if !slices.Equal(hosts, []string{"web1", "web2", "web3"}) {
		t.Errorf("lines of the hosts %v in:\n%s", hosts, text)
	}
	return all
}

// increasing asserts that milliseconds start at zero and grow.
func increasing(t *testing.T, texts []string) {
	t.Helper()
	last := -1.0
	for i, text := range texts {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || ms < last || i == 0 && ms != 0 || i > 1 && ms == 0 {
			t.Errorf("milliseconds do not increase from 0 on: %v", texts)
			return
		}
		last = ms
	}
}

func TestDemo(t *testing.T) {
	t.Run("has three hosts apply three publishes and reject one", wholeShow)
	t.Run("leaves nothing when it is cut short", curtailed)
	t.Run("says in one line how to get nix", withoutNix)
}

func wholeShow(t *testing.T) {
	need(t, "nix")
	need(t, "aws")
	s := start(t)
	code, out := s.ends(t)
	if code != 0 || s.stderr.Len() > 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, s.stderr.String())
	}
	s.leavesNothing(t)

	parts := regexp.MustCompile(`(?m)^\d\. `).Split(out, -1)
	if len(parts) != 5 {
		t.Fatalf("%d publishes, not 4:\n%s", len(parts)-1, out)
	}
	systems := map[string]bool{}
	for i, generation := range map[int]string{1: "1", 2: "2", 4: "3"} {
		for _, times := range rows(t, goodRow, parts[i]) {
			increasing(t, times)
		}
		for _, runs := range rows(t, runsRow, parts[i]) {
			if systems[runs[0]] || runs[1] != generation {
				t.Errorf("publish %d: runs %v", i, runs)
			}
			systems[runs[0]] = true
			if _, err := os.Stat(filepath.Join(runs[0], "bin", "switch-to-configuration")); err != nil {
				t.Error(err)
			}
		}
	}
	for _, row := range rows(t, brokenRow, parts[3]) {
		increasing(t, row[:4])
		if row[4] != "two" || row[5] != "2" {
			t.Errorf("after the broken version a host runs version %s, generation %s", row[4], row[5])
		}
	}
	for _, want := range []string{"rejected after 3 attempts", "> broken does not build", `"retry_delays_secs": [1, 1]`} {
		if !strings.Contains(parts[3], want) {
			t.Errorf("the broken publish says nothing of %q:\n%s", want, parts[3])
		}
	}
	if n := strings.Count(out, "\n$ aws s3 cp dev.npcnix "+remote+"\n"); n != 4 {
		t.Errorf("aws s3 cp was shown %d times, not 4:\n%s", n, out)
	}
	for line := range strings.Lines(out) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
}

func curtailed(t *testing.T) {
	need(t, "nix")
	tests := map[string]struct {
		act  func(*show) error
		code int
		says string
	}{
		"after an interrupt": {
			func(s *show) error { return s.Process.Signal(os.Interrupt) }, 130, "demo: interrupted",
		},
		"when who reads it leaves": {
			func(s *show) error { return s.pipe.Close() }, 130, "demo: interrupted",
		},
		"when an agent dies": {
			func(s *show) error {
				for _, pid := range s.processes() {
					line, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
					if bytes.Contains(line, []byte("\x00follow\x00--host\x00web2\x00")) {
						return syscall.Kill(pid, syscall.SIGKILL)
					}
				}
				return errors.New("there is no agent of web2")
			}, 1, "demo: web2's agent has ended by itself: signal: killed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A machine with nix and no AWS CLI.
			path := t.TempDir()
			for _, program := range []string{"nix", "nix-env", "nix-store"} {
				if err := os.Symlink(need(t, program), filepath.Join(path, program)); err != nil {
					t.Fatal(err)
				}
			}
			s := start(t, "PATH="+path)
			out := s.until(t, "web1 runs")
			if !strings.Contains(out, "\n$ npcnix push --src flake --remote "+remote+"\n") {
				t.Errorf("no npcnix push without the AWS CLI:\n%s", out)
			}
			if len(s.roots(t)) == 0 || len(s.processes()) < 3 {
				t.Error("in mid-run there are neither roots nor agents: the checks at the end are worth nothing")
			}
			if err := test.act(s); err != nil {
				t.Fatal(err)
			}
			code, _ := s.ends(t)
			if code != test.code || !strings.Contains(s.stderr.String(), test.says) {
				t.Errorf("exit code %d, not %d, or no %q:\n%s", code, test.code, test.says, s.stderr.String())
			}
			s.leavesNothing(t)
		})
	}
}

func withoutNix(t *testing.T) {
	s := start(t, "PATH="+t.TempDir())
	code, out := s.ends(t)
	said := s.stderr.String()
	if code != 1 || out != "" || strings.Count(said, "\n") != 1 || !strings.Contains(said, "apt-get install nix-bin") {
		t.Errorf("exit code %d, output %q, errors %q", code, out, said)
	}
	s.leavesNothing(t)
}
