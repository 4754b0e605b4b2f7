package nix

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchCurrentReportsWhatTheLinkBecomes(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current-system")
	point := func(to string) {
		t.Helper()
		if err := os.Symlink(to, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	point("/one")
	changed, stop, err := (&Host{opts: Options{CurrentSystem: link}}).WatchCurrent(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	reported := func(why string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatal("not reported: " + why)
		}
	}

	point("/two")
	reported("a link renamed over the old one")
	point("/three")
	time.Sleep(3 * quiet) // nobody waits meanwhile
	reported("a change that nobody waited for")

	if err := os.WriteFile(filepath.Join(dir, "beside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("another file of the folder was reported")
	case <-time.After(5 * quiet):
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	reported("a link removed")
	point("/four")
	stop() // with a report that nobody takes

	if _, _, err := (&Host{opts: Options{CurrentSystem: filepath.Join(dir, "absent", "x")}}).WatchCurrent(nil); err == nil {
		t.Error("a folder that is not there is watched")
	}
}
