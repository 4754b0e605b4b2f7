package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch watches a file, with little patience so that tests are short.
func watch(t *testing.T, path string) *FileWatch {
	t.Helper()
	w, err := WatchFile(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	w.quiet, w.limit = 5*time.Millisecond, 100*time.Millisecond
	return w
}

// one receives the next delivery and asserts that it is of the file as it is now.
func one(t *testing.T, w *FileWatch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ds, err := w.Receive(ctx)
	if err != nil || len(ds) != 1 || len(ds[0].Notices) != 1 {
		t.Fatalf("got %+v and error %v, want one delivery with one notice", ds, err)
	}
	info, err := os.Stat(w.path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ds[0].Notices[0], (Notice{Key: w.path, At: info.ModTime().UTC()}); got != want {
		t.Errorf("notice is %+v, want %+v", got, want)
	}
	if d := ds[0]; d.ID == "" || d.Err != nil || d.Receives != 1 || d.Received.IsZero() {
		t.Errorf("delivery is %+v", d)
	}
}

// none asserts that no delivery comes in twenty times the quiet that would bring one.
func none(t *testing.T, w *FileWatch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*w.quiet)
	defer cancel()
	if ds, err := w.Receive(ctx); ds != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %+v and error %v, want nothing until the deadline", ds, err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(path, 0o755))
}

// replace writes a file as careful publishers do.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".tmp", content)
	must(t, os.Rename(path+".tmp", path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFileWatch(t *testing.T) {
	t.Run("tells of", changes)
	t.Run("is silent", silence)
	t.Run("waits for directories", missingDirectories)
	t.Run("follows a link that is switched", switchedLink)
	t.Run("lets go of directories that are no longer on the way", leftDirectories)
	t.Run("makes one delivery of a burst", burst)
	t.Run("does not wait for quiet without end", noQuiet)
	t.Run("looks for itself when reports are lost", lostReports)
	t.Run("ends Receive with its context", cancelledReceive)
	t.Run("ends Receive with Close", closedReceive)
	t.Run("has nothing to extend or acknowledge", nothingToKeep)
	t.Run("refuses what is no absolute file", notAFile)
	t.Run("says that its directory is missing", missingDirectory)
	t.Run("names inotify's limits", inotifyLimits)
}

func changes(t *testing.T) {
	// Each case starts from DIR/store/x.npcnix with a directory DIR/other beside the store.
	tests := []struct {
		name   string
		change func(t *testing.T, dir, path string)
	}{
		{"a write in place", func(t *testing.T, _, path string) { write(t, path, "two") }},
		{"a rename over the file", func(t *testing.T, _, path string) { replace(t, path, "two") }},
		{"a rename over it by a file of the same size and time", func(t *testing.T, _, path string) {
			info, err := os.Stat(path)
			must(t, err)
			write(t, path+".tmp", "ONE")
			must(t, os.Chtimes(path+".tmp", info.ModTime(), info.ModTime()))
			must(t, os.Rename(path+".tmp", path))
		}},
		{"a removal and a new file", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			write(t, path, "two")
		}},
		{"a link to another file", func(t *testing.T, dir, path string) {
			write(t, dir+"/other/y", "two")
			must(t, os.Symlink("../other/y", path+".tmp"))
			must(t, os.Rename(path+".tmp", path))
		}},
		{"another directory in the place of its own", func(t *testing.T, dir, path string) {
			write(t, dir+"/other/x.npcnix", "two")
			must(t, os.Rename(dir+"/store", dir+"/old"))
			must(t, os.Rename(dir+"/other", dir+"/store"))
		}},
		{"its directory removed and made again", func(t *testing.T, dir, path string) {
			must(t, os.RemoveAll(dir+"/store"))
			mkdir(t, dir+"/store")
			write(t, path, "two")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/store/x.npcnix"
			mkdir(t, dir+"/store")
			mkdir(t, dir+"/other")
			write(t, path, "one")
			w := watch(t, path)
			test.change(t, dir, path)
			one(t, w)
			none(t, w)
			replace(t, path, "and again, which shows that the watch is still there")
			one(t, w)
		})
	}
}

func silence(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, path string)
	}{
		{"about a file that was there before", func(*testing.T, string) {}},
		{"about a neighbour", func(t *testing.T, path string) {
			write(t, path+".tmp", "two")
			write(t, filepath.Dir(path)+"/y.npcnix", "two")
			must(t, os.Remove(path+".tmp"))
		}},
		{"about a removal", func(t *testing.T, path string) { must(t, os.Remove(path)) }},
		{"about the file's mode", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o600)) }},
		{"about a directory of that name", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			mkdir(t, path)
		}},
		{"about the file moved away and back", func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".old"))
			must(t, os.Rename(path+".old", path))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.npcnix")
			write(t, path, "one")
			w := watch(t, path)
			test.change(t, path)
			none(t, w)
		})
	}
}

func missingDirectories(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/srv/npcnix/remotes/x.npcnix"
	w := watch(t, path)
	mkdir(t, dir+"/elsewhere")
	none(t, w)
	mkdir(t, dir+"/srv")
	none(t, w)
	mkdir(t, filepath.Dir(path)) // two at once, and the file before anyone can have looked
	replace(t, path, "one")
	one(t, w)
	write(t, path, "two two")
	one(t, w)

	t.Run("and is not confused when one above is replaced", func(t *testing.T) {
		mkdir(t, dir+"/new/npcnix/remotes")
		must(t, os.Rename(dir+"/srv", dir+"/old"))
		must(t, os.Rename(dir+"/new", dir+"/srv"))
		none(t, w)
		write(t, dir+"/old/npcnix/remotes/x.npcnix", "nobody's any more")
		none(t, w)
		replace(t, path, "three three")
		one(t, w)
	})
}

func switchedLink(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a", "b"} {
		mkdir(t, dir+"/"+name)
		write(t, dir+"/"+name+"/x.npcnix", strings.Repeat("x", i+1))
	}
	must(t, os.Symlink("a", dir+"/current"))
	w := watch(t, dir+"/current/x.npcnix")
	must(t, os.Symlink("b", dir+"/next"))
	must(t, os.Rename(dir+"/next", dir+"/current"))
	one(t, w)
	write(t, dir+"/a/x.npcnix", "no more")
	none(t, w)
	write(t, dir+"/b/x.npcnix", "but here")
	one(t, w)
}

func leftDirectories(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		mkdir(t, fmt.Sprint(dir, "/", i))
		write(t, fmt.Sprint(dir, "/", i, "/x.npcnix"), strings.Repeat("x", i+1))
	}
	must(t, os.Symlink("0", dir+"/current"))
	w := watch(t, dir+"/current/x.npcnix")
	before := kernelWatches(t)
	for i := range 30 {
		must(t, os.Symlink(fmt.Sprint((i+1)%3), dir+"/next"))
		must(t, os.Rename(dir+"/next", dir+"/current"))
		one(t, w)
	}
	if after := kernelWatches(t); after != before {
		t.Errorf("the kernel keeps %d watches, %d before", after, before)
	}
}

// kernelWatches counts the process's inotify watches.
func kernelWatches(t *testing.T) int {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	must(t, err)
	watches := 0
	for _, path := range infos {
		info, _ := os.ReadFile(path) // some are gone by now
		watches += bytes.Count(info, []byte("inotify wd:"))
	}
	if watches == 0 {
		t.Fatal("the kernel does not show its watches")
	}
	return watches
}

func burst(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, dir+"/x.npcnix")
	for i := range 100 {
		replace(t, w.path, fmt.Sprint("version ", i))
		write(t, fmt.Sprint(dir, "/other", i), "")
	}
	one(t, w)
	none(t, w)
}

func noQuiet(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "x.npcnix"))
	w.quiet = time.Hour
	write(t, w.path, "one")
	one(t, w)
}

func lostReports(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "x.npcnix"))
	must(t, w.watcher.Remove(filepath.Dir(w.path))) // so that the kernel says nothing
	write(t, w.path, "one")
	none(t, w)
	go func() { w.watcher.Errors <- fsnotify.ErrEventOverflow }()
	one(t, w)
	write(t, w.path, "two two")
	one(t, w)
}

func cancelledReceive(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "x.npcnix"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := w.Receive(ctx)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want context.Canceled", err)
	}

	t.Run("and the next one gives what it had begun to see", func(t *testing.T) {
		w.quiet, w.limit = time.Hour, time.Hour
		write(t, w.path, "one")
		for started := time.Now(); !w.pending; {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := w.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error is %v, want the deadline's", err)
			}
			if time.Since(started) > 10*time.Second {
				t.Fatal("the report never came")
			}
		}
		w.quiet = 5 * time.Millisecond
		one(t, w)
	})
}

func closedReceive(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "x.npcnix"))
	done := make(chan error)
	go func() {
		_, err := w.Receive(t.Context())
		done <- err
	}()
	must(t, w.Close())
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("error is %v, want os.ErrClosed", err)
	}
}

func nothingToKeep(t *testing.T) {
	w := watch(t, filepath.Join(t.TempDir(), "x.npcnix"))
	write(t, w.path, "one")
	ds, err := w.Receive(t.Context())
	if err := errors.Join(err, w.Extend(t.Context(), ds, 0), w.Ack(t.Context(), ds)); err != nil {
		t.Fatal(err)
	}
	none(t, w)
}

func notAFile(t *testing.T) {
	for _, path := range []string{"", "x.npcnix", "./x.npcnix", "/", "/.."} {
		if w, err := WatchFile(path, slog.New(slog.DiscardHandler)); w != nil || err == nil {
			t.Errorf("WatchFile(%q) gives %v and error %v", path, w, err)
		}
	}
}

func missingDirectory(t *testing.T) {
	var out bytes.Buffer
	path := filepath.Join(t.TempDir(), "missing", "x.npcnix")
	w, err := WatchFile(path, slog.New(slog.NewTextHandler(&out, nil)))
	must(t, err)
	must(t, w.Close())
	if !strings.Contains(out.String(), "does not exist yet") || !strings.Contains(out.String(), filepath.Dir(path)) {
		t.Errorf("log is %q", out.String())
	}
}

func inotifyLimits(t *testing.T) {
	for err, want := range map[syscall.Errno]string{
		syscall.EMFILE: "fs.inotify.max_user_instances",
		syscall.ENOSPC: "fs.inotify.max_user_watches",
		syscall.EACCES: "permission denied",
	} {
		if got := inotifyHint(err); !errors.Is(got, err) || !strings.Contains(got.Error(), want) {
			t.Errorf("hint for %v is %q, want %q", err, got, want)
		}
	}
	if err := inotifyHint(nil); err != nil {
		t.Errorf("hint for no error is %v", err)
	}
}
