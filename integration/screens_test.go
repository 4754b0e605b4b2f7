package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

// What an operator sees, in a terminal of 80, 120 and 200 columns, is what testdata/screens shows.
// NPCNIX_UPDATE=1 writes the screens: look at them before you commit them.
func TestScreens(t *testing.T) {
	t.Parallel()
	for _, width := range []int{80, 120, 200} {
		for _, size := range []int{3, 300} {
			t.Run(fmt.Sprintf("%d hosts at %d columns", size, width), func(t *testing.T) {
				t.Parallel()
				screensOfAFleet(t, size, width)
			})
		}
	}
}

// screensOfAFleet shows a fleet of which one host fails, one is drifted, and one is held.
func screensOfAFleet(t *testing.T, size, width int) {
	f := newFileFleetIn(t, place(t), size)
	f.say(f.hosts[3:], "applied", "")
	f.say(f.hosts[:1], record.Failed, `build configuration "web1": builder for '/nix/store/g928vl7mw3w9zdkddqdc6bdvdl4c7z8s-nginx-1.28.0.drv' failed with exit code 1`)
	f.say(f.hosts[1:2], record.Drifted, "an operator has switched this host")
	f.say(f.hosts[2:3], record.Held, "its wave begins when the one before is done")
	heard := time.Now().Add(-90 * time.Minute)
	files, err := filepath.Glob(f.path + "*")
	f.must(err)
	records, err := filepath.Glob(f.path + ".acks/*.json")
	f.must(err)
	for _, file := range append(files, records...) {
		f.must(os.Chtimes(file, heard, heard))
	}
	for _, c := range []struct{ name, command string }{
		{"hosts", "hosts --remote " + f.remote},
		{"hosts-watch", "hosts --watch --remote " + f.remote},
		{"wait", "wait --keep-going --remote " + f.remote + " --hosts-file " + f.file},
	} {
		s := newScreen(t, width, 24)
		s.types("clear; " + npcnix + " " + c.command + "; echo ended with $?")
		golden(t, fmt.Sprintf("%s-%d-%d", c.name, size, width), filepath.Dir(f.path), s)
	}
}

// place is a directory whose path has the same length in each run, as the screens depend on that.
func place(t *testing.T) string {
	t.Helper()
	dir := fmt.Sprintf("/tmp/npcnix-%06d", rand.IntN(1e6))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var (
	hash     = regexp.MustCompile(`\b[0-9a-f]{8,64}\b|[0-9a-z]{32}`)
	duration = regexp.MustCompile(` *\b[0-9.]+ ?(ms|s)\b *`)
	trailing = regexp.MustCompile(` +\n`)
	ago      = regexp.MustCompile(`\b1h3\dm\b`)
	elapsed  = regexp.MustCompile(`\b\d+:\d\d of`)
	varying  = map[*regexp.Regexp]string{
		regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`):        "SHA256:" + strings.Repeat("e", 43),
		regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`): "2026-11-28T12:00:00Z",
		regexp.MustCompile(`\b\d+m(\d+s)?\b`):                 "1s",    // on a busy machine
		regexp.MustCompile(`\bin [678]d\b`):                   "in 7d", // a pause varies
		regexp.MustCompile(`process \d+`):                     "process 123",
		regexp.MustCompile(`[0-9.]+ [MG]iB`):                  "50 GiB",
		regexp.MustCompile(`nix \(Nix\) [0-9.]+`):             "nix (Nix) 2",
	}
)

// golden waits until a screen shows the file of that name: all but hashes, paths, and times of less than minutes.
func golden(t *testing.T, name, dir string, s *screen) {
	t.Helper()
	file := filepath.Join("testdata", "screens", name+".txt")
	if os.Getenv("NPCNIX_UPDATE") != "" {
		time.Sleep(3 * time.Second) // until all of it is drawn
		if err := os.WriteFile(file, []byte(shown(dir, s)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("NPCNIX_UPDATE=1 go test -run Screens ./integration writes %s; it has\n%s", file, want)
		}
	})
	defer func() {
		if got := shown(dir, s); got != string(want) {
			t.Errorf("the screen is\n%s", got)
		}
	}()
	await(t, "the screen of "+file, func() bool { return shown(dir, s) == string(want) })
}

// shown is what a screen shows, without what differs from run to run.
func shown(dir string, s *screen) string {
	got := s.tmux("capture-pane", "-p", "-J", "-t", "s")
	got = strings.ReplaceAll(got, dir, "/tmp/npcnix-000000")
	for text, with := range varying {
		got = text.ReplaceAllString(got, with)
	}
	got = hash.ReplaceAllStringFunc(got, func(h string) string { return strings.Repeat("e", len(h)) })
	got = elapsed.ReplaceAllString(duration.ReplaceAllString(got, " T$1 "), "0:00 of")
	got = ago.ReplaceAllString(got, "1h30m")
	got = trailing.ReplaceAllString(got, "\n")
	return strings.TrimSuffix(strings.TrimSpace(got), "\n$") + "\n" // a prompt
}
