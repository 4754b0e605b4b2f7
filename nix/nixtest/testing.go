package nixtest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Each runs a test with the nix that is installed, and with the newer one that integration/nix-next.sh
// puts beside it.
func Each(t *testing.T, test func(*testing.T)) {
	t.Run("installed nix", func(t *testing.T) {
		Installed(t)
		test(t)
	})
	t.Run("newer nix", func(t *testing.T) {
		next := Newer(t)
		setEnv(t)
		t.Setenv("PATH", next+":"+os.Getenv("PATH"))
		test(t)
	})
}

// Newer is the folder of the programs of the nix that integration/nix-next.sh puts beside the installed one.
func Newer(t *testing.T) string {
	t.Helper()
	next := os.Getenv("NPCNIX_NIX_NEXT")
	if next == "" {
		_, file, _, _ := runtime.Caller(0)
		next = filepath.Join(filepath.Dir(file), "..", "..", ".cache", "nix-next")
	}
	next = filepath.Join(next, "bin")
	if _, err := os.Stat(filepath.Join(next, "nix")); err != nil {
		Skip(t, "no newer nix: run integration/nix-next.sh")
	}
	return next
}

// Installed sees to it that nix can be run, for tests that need only one.
func Installed(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nix"); err != nil {
		Skip(t, "nix is not on PATH: apt-get install nix-bin")
	}
	setEnv(t)
}

// Delete is nix-store --delete with these arguments. A nix that meets the deletions of another can end by SIGABRT, and
// is run again.
func Delete(t testing.TB, env []string, args ...string) {
	t.Helper()
	for try := 1; ; try++ {
		cmd := exec.Command("nix-store", append([]string{"--delete"}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if try == 5 || !strings.Contains(err.Error(), "aborted") {
			t.Fatalf("nix-store --delete %q: %v\n%s", args, err, out)
		}
	}
}

func setEnv(t *testing.T) {
	for _, e := range Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}

// Skip skips a test whose real part is missing, or fails it where all of them are required.
func Skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// TestFlake writes a flake of these systems, that no other test has, and returns its folder.
func TestFlake(t *testing.T, systems map[string]System) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "flake")
	if err := Flake(dir, Salt(), systems); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Link has a link point to a target, whatever it was.
func Link(t *testing.T, link, target string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
}

// Log keeps what is written to it, and tells who waits for a text.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func NewLog() *Log { return &Log{changed: make(chan struct{})} }

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Await returns what follows a text in the log, up to the end of the line, as soon as it is there.
func (l *Log) Await(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		l.mu.Lock()
		log, changed := l.text.String(), l.changed
		l.mu.Unlock()
		if _, after, found := strings.Cut(log, text); found {
			if rest, _, complete := strings.Cut(after, "\n"); complete {
				return strings.Trim(rest, "\" ")
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q did not come in the log:\n%s", text, log)
		}
	}
}

// WantError checks that an error is another, unless that is nil, and has a text.
func WantError(t *testing.T, err, is error, text string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want %v with %q", err, is, text)
	}
}
