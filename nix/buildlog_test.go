package nix

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBuildLogHasABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var journal bytes.Buffer
		h, err := New(Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&journal, nil))})
		if err != nil {
			t.Fatal(err)
		}
		b := h.openBuildLog("nix build")
		var want strings.Builder
		for i := range 5000 { // then one each 100 ms, for 100 s
			if i >= 4000 {
				time.Sleep(100 * time.Millisecond)
			}
			b.emit(fmt.Sprintf("line %d", i))
			fmt.Fprintf(&want, "line %d\n", i)
		}
		b.close()

		if n := strings.Count(journal.String(), "msg=\"nix build\""); n != journalLines+100 {
			t.Errorf("%d lines reached the logger", n)
		}
		if !strings.Contains(journal.String(), "lines=3900 file="+b.path) {
			t.Errorf("the log does not end with what it lacks: %s", journal.String()[journal.Len()-200:])
		}
		if got, err := os.ReadFile(b.path); err != nil || string(got) != want.String() {
			t.Errorf("the file has %d bytes (%v), want %d", len(got), err, want.Len())
		}
	})
}

func TestBuildLogIsRotated(t *testing.T) {
	h, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	first := h.openBuildLog("nix build")
	first.emit("of the first build")
	first.close()
	second := h.openBuildLog("nix build")
	second.emit("of the second build")
	wantFile(t, second.path, "of the second build")
	wantFile(t, second.path+".1", "of the first build")

	second.size = maxBuildLog - 5
	second.emit("which prints without end")
	second.close()
	wantFile(t, second.path, "which prints without end")
	wantFile(t, second.path+".1", "of the second build")
}

// A build goes on without its file, which root does not write through a link.
func TestBuildLogIsNotWrittenThroughALink(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	h, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, buildLogFile+".1"), 0o755); err != nil { // the rename fails
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, buildLogFile)); err != nil {
		t.Fatal(err)
	}
	b := h.openBuildLog("nix build")
	b.emit("a line")
	b.close()
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the link's target was written: %v", err)
	}
}

func wantFile(t *testing.T, path, line string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != line+"\n" {
		t.Errorf("%s has %q, %v; want %q", filepath.Base(path), got, err, line)
	}
}
