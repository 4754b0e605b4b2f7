package integration

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
)

// The gate as a person sees it, in a real terminal.

func TestTerminal(t *testing.T) {
	t.Parallel()
	t.Run("shows a wait", terminalWait)
	t.Run("shows a rollout", terminalRollout)
	t.Run("shows hosts", terminalHosts)
	t.Run("says after a push what to do next", terminalPush)
}

func terminalPush(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 200, 24)
	f := newFileFleet(t, 1)
	flake := t.TempDir()
	f.must(os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o644))
	s.types("clear; " + npcnix + " push --src " + flake + " --remote " + f.remote + "; echo ended with $?")
	s.awaits("ended with 0", 1)
	s.has("Published to "+f.remote, "npcnix wait --remote "+f.remote+" --etag "+f.etag[:20])
}

func terminalRollout(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 200, 24)
	f := newFileFleet(t, 3)
	dir := t.TempDir()
	flake, key := filepath.Join(dir, "flake"), filepath.Join(dir, "key")
	f.must(os.Mkdir(flake, 0o755))
	f.must(os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{ outputs = _: { two = 2; }; }"), 0o644))
	f.must(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	f.say(f.hosts, "applied", "")

	s.types("clear; " + npcnix + " rollout --src " + flake + " --check=none --remote " + f.remote + " --sign-key " + key +
		" --rev two --wave h0000 --wave 100% --wave-interval 100ms; echo ended with $?")
	s.awaits("held, wave 2", 2)
	s.has("(two) of file://", " of 45:00", "[....", "0 of 3 done, 2 held, wave 2, 1 waiting, wave 1", "h0000  waiting, wave 1", "h0002  held, wave 2")
	body, err := os.ReadFile(f.path)
	f.must(err)
	f.etag = fmt.Sprintf("%x", sha256.Sum256(body))
	f.say(f.hosts[:1], "rolled_back", "check web: refused")
	s.awaits("ended with 3", 1)
	s.has("step 2: halted, 1 of 2 waves admitted", "h0000 failed: rolled back: check web: refused", "the rollout is halted")
	if strings.Contains(s.shows(), "[....") {
		t.Errorf("the table is left behind:\n%s", s.shows())
	}
}

func terminalWait(t *testing.T) {
	t.Parallel()
	for _, width := range []int{80, 200} {
		for _, size := range []int{3, 1000} {
			t.Run(fmt.Sprintf("%d hosts at %d columns", size, width), func(t *testing.T) { terminalShows(t, width, size) })
		}
	}
}

func terminalShows(t *testing.T, width, size int) {
	const height = 24
	s := newScreen(t, width, height)
	f := newFileFleet(t, size)
	long := strings.Repeat("a long reason ", 20)
	f.say(f.hosts[:1], "failed", "build fails: "+long)
	f.say(f.hosts[1:2], "building", "")
	counts := fmt.Sprintf("0 of %d done, 1 failed, ", size)

	s.types("clear; echo what stood before")
	s.awaits("what stood before", 1)
	s.types(npcnix + " wait --keep-going --allow-unknown --remote " + f.remote + " --hosts-file " + f.file + "; echo ended with $?")
	s.awaits(counts, 1)
	text := s.shows()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for _, line := range lines {
		if len(line) > width-1 && strings.Contains(line, "reason") {
			t.Errorf("a line of %d columns", len(line))
		}
	}
	// A line a host, each on one row: the long reason is cut. Of a thousand, those that matter.
	if n := strings.Count(text, "a long reason"); n == 0 || strings.Count(text, "...") == 0 {
		t.Errorf("the reason is not shown and cut:\n%s", text)
	}
	s.has("h0000", "failed", "h0001", "building", "[", "1 building")
	if size > height {
		s.has(fmt.Sprintf("and %d more: %d unheard", size-20, size-20))
	} else {
		s.has("h0002", "unheard")
	}

	// It redraws in place: nothing is left behind above, and what stood before stands.
	f.say(f.hosts[1:2], "applied", "")
	s.awaits(fmt.Sprintf("1 of %d done, 1 failed", size), 1)
	f.say(f.hosts[2:size-1], "applied", "")
	s.awaits(fmt.Sprintf("%d of %d done, 1 failed", size-2, size), 1)
	for what, times := range map[string]int{f.etag[:12] + " of " + f.remote[:20]: 1, " done, 1 failed": 1, "what stood before": 1} {
		if n := strings.Count(s.history(), what); n != times {
			t.Errorf("%q stands there %d times, want %d:\n%s", what, n, times, s.history())
		}
	}

	// Ctrl-C: a sane terminal, and how to go on.
	s.keys("C-c")
	s.awaits("ended with 1", 1)
	s.has("to go on waiting: npcnix wait --remote", "--keep-going", "interrupted", "look further, on h0000")
	if cursor := s.tmux("display-message", "-p", "-t", "s", "#{cursor_flag} #{alternate_on} #{wrap_flag}"); strings.TrimSpace(cursor) != "1 0 1" {
		t.Errorf("cursor, alternate screen and wrapping are %q", cursor)
	}
	s.types("echo still $((40+2))")
	s.awaits("still 42", 1)

	// To its end: the live part is gone, the summary remains.
	f.say(f.hosts, "applied", "")
	s.types("clear; " + npcnix + " wait --remote " + f.remote + "; echo ended with $?")
	s.awaits("ended with 0", 1)
	s.has("passed: ", fmt.Sprintf("%d of %d done", size, size), "p50 ", "p99 ", "slowest ")
	if strings.Contains(s.shows(), "[") {
		t.Errorf("the bar remains:\n%s", s.shows())
	}
}

func terminalHosts(t *testing.T) {
	t.Parallel()
	s := newScreen(t, 120, 24)
	f := newFileFleet(t, 100)
	f.say(f.hosts[:99], "applied", "")
	f.say(f.hosts[99:], "failed", "build fails")
	s.types("clear; " + npcnix + " hosts --watch --interval 200ms --remote " + f.remote + "; echo ended with $?")
	s.awaits("100 hosts, 1 behind", 1)
	s.has("HOST", "h0099", "failed", "build fails", "and 80 more")
	f.say(f.hosts[99:], "applied", "")
	s.awaits("100 hosts, 0 behind", 1)
	if n := strings.Count(s.history(), "HOST "); n != 1 {
		t.Errorf("drawn %d times:\n%s", n, s.history())
	}
	s.keys("C-c")
	s.awaits("ended with 0", 1)
}

// fileFleet is a file remote and hosts that are nothing but records.
type fileFleet struct {
	t            testing.TB
	path, remote string
	etag         string
	hosts        []string
	file         string
}

func newFileFleet(t testing.TB, size int) *fileFleet {
	t.Helper()
	return newFileFleetIn(t, t.TempDir(), size)
}

func newFileFleetIn(t testing.TB, dir string, size int) *fileFleet {
	t.Helper()
	f := &fileFleet{t: t, path: filepath.Join(dir, "dev.npcnix")}
	f.remote = "file://" + f.path
	flake := t.TempDir()
	f.must(os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o644))
	out, err := exec.Command(npcnix, "push", "--src", flake, "--remote", f.remote).Output()
	f.must(err)
	f.etag = strings.TrimSpace(string(out))
	for i := range size {
		f.hosts = append(f.hosts, fmt.Sprintf("h%04d", i))
	}
	f.file = filepath.Join(dir, "hosts")
	f.must(os.WriteFile(f.file, []byte(strings.Join(f.hosts, "\n")), 0o644))
	f.must(os.MkdirAll(f.path+".acks", 0o755))
	return f
}

func (f *fileFleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fileFleet) say(hosts []string, status record.Status, failure string) {
	f.t.Helper()
	for _, host := range hosts {
		name := filepath.Join(f.path+".acks", host+".json")
		body := fmt.Sprintf(`{"schema":2,"host":%q,"remote":%q,"version":{"etag":%q},"status":%q,"error":%q}`,
			host, f.remote, f.etag, status, failure)
		f.must(os.WriteFile(name+".new", []byte(body), 0o644))
		f.must(os.Rename(name+".new", name))
	}
}

// screen is a shell in a terminal of tmux, on a server of its own.
type screen struct {
	t      testing.TB
	socket string
	width  int
}

func newScreen(t testing.TB, width, height int) *screen {
	t.Helper()
	need(t, "tmux")
	// A socket's path must be short.
	dir, err := os.MkdirTemp("", "npcnix-tmux-*")
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, socket: filepath.Join(dir, "s"), width: width}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() // there may be none
		os.RemoveAll(dir)
	})
	s.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), "-s", "s", "env PS1='$ ' bash --norc --noprofile")
	s.awaits("$", 1)
	return s
}

func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *screen) types(line string) {
	s.tmux("send-keys", "-t", "s", "-l", line)
	s.keys("Enter")
}

func (s *screen) keys(name string) { s.tmux("send-keys", "-t", "s", name) }

// shows returns the screen; history, all that was ever on it as well. Both put wrapped lines together.
func (s *screen) shows() string   { return s.tmux("capture-pane", "-p", "-J", "-t", "s") }
func (s *screen) history() string { return s.tmux("capture-pane", "-p", "-J", "-t", "s", "-S", "-") }

// awaits waits until the screen holds a text that often.
func (s *screen) awaits(text string, times int) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the screen:\n%s", s.shows())
		}
	}()
	await(s.t, fmt.Sprintf("%q on the screen", text), func() bool { return strings.Count(s.shows(), text) >= times })
}

func (s *screen) has(texts ...string) {
	s.t.Helper()
	screen := s.shows()
	for _, text := range texts {
		if !strings.Contains(screen, text) {
			s.t.Errorf("%q is not on the screen:\n%s", text, screen)
		}
	}
}
