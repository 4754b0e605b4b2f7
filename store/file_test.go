package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// overwrite writes other bytes of the same length into the file, in place, and
// restores its time: only who reads the file can tell.
func overwrite(t *testing.T, path string, modified time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 0xff
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func TestUnchangedFileIsNotReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev.npcnix")
	remote := open(t, "file://"+path)
	archive := packed(t, "one")
	publish(t, remote, archive)
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	before := latest(t, remote)
	if before.ETag != digest(archive) {
		t.Errorf("ETag %s is not the content's SHA-256", before.ETag)
	}
	overwrite(t, path, hourAgo)
	if now := latest(t, remote); now != before {
		t.Errorf("the file was read again: %+v", now)
	}
	// What is fetched is verified all the same.
	err := remote.Fetch(t.Context(), before, filepath.Join(t.TempDir(), "x"))
	wantError(t, err, store.ErrChanged, "")

	if err := os.Chtimes(path, time.Now(), hourAgo.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if now := latest(t, remote); now.Same(before) {
		t.Error("the file was not read again when its time had changed")
	}
}

func TestFileWrittenJustNowIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev.npcnix")
	remote := open(t, "file://"+path)
	publish(t, remote, packed(t, "one"))
	before := latest(t, remote)
	overwrite(t, path, before.Modified)
	if now := latest(t, remote); now.Same(before) {
		t.Error("a second write within the clock's step was missed")
	}
}

func TestFileRemoteThatIsNoFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		_, err := open(t, "file://"+path).Latest(t.Context(), store.Version{})
		if err == nil || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("%s: got %v", path, err)
		}
		_, err = open(t, "file://"+path).Publish(t.Context(), strings.NewReader("abc"), 3)
		if err == nil || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("%s: published to: %v", path, err)
		}
	}
}

func TestPublishedFileLeavesNothingBeside(t *testing.T) {
	dir := t.TempDir()
	remote := open(t, "file://"+dir+"/new/dirs/dev.npcnix")
	publish(t, remote, packed(t, "one"))
	if _, err := remote.Publish(t.Context(), strings.NewReader("short"), 6); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("a wrong size was taken: %v", err)
	}
	entries, err := os.ReadDir(dir + "/new/dirs")
	if err != nil || len(entries) != 1 {
		t.Errorf("there is %v, %v", entries, err)
	}
	wantFetch(t, remote, latest(t, remote), "one")
}
