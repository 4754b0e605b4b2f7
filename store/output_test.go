package store_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// write writes an output to its end.
func write(t *testing.T, path, text string) {
	t.Helper()
	out, err := store.CreateOutput(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.WriteString(out, text); err != nil {
		t.Fatal(err)
	}
	if err := out.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestOutputKeepsWhatStandsAtItsPathTheKindItIs(t *testing.T) {
	t.Run("a pipe is written to", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		read := make(chan string)
		go func() {
			b, err := os.ReadFile(pipe)
			if err != nil {
				b = []byte(err.Error())
			}
			read <- string(b)
		}()
		write(t, pipe, "one")
		if got := <-read; got != "one" {
			t.Errorf("read %q", got)
		}
		if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
			t.Errorf("it became %v, %v", info, err)
		}
	})
	t.Run("a pipe without a reader is waited for until the context ends", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := store.CreateOutput(ctx, pipe)
		wantError(t, err, context.Canceled, "has no reader")
	})
	t.Run("a device is written to", func(t *testing.T) {
		write(t, os.DevNull, "one")
		if info, err := os.Lstat(os.DevNull); err != nil || info.Mode()&fs.ModeDevice == 0 {
			t.Fatalf("it became %v, %v", info, err)
		}
	})
	for name, target := range map[string]string{"a link": "real", "a link to nothing yet": "new", "a link into another directory": "../other/real"} {
		t.Run(name+" is kept, and its target written", func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "dir")
			writeFile(t, dir, "real", "old")
			writeFile(t, parent, "other/real", "old")
			symlink(t, dir, "l", target)
			write(t, filepath.Join(dir, "l"), "one")
			if is, err := os.Readlink(filepath.Join(dir, "l")); err != nil || is != target {
				t.Errorf("the link is %s, %v", is, err)
			}
			if got := readFile(t, dir, "l"); got != "one" {
				t.Errorf("it holds %q", got)
			}
		})
	}
	t.Run("a file stays as it was until it is committed", func(t *testing.T) {
		dir := t.TempDir()
		writeFile(t, dir, "f", "old")
		out, err := store.CreateOutput(t.Context(), filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, "half"); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, dir, "f"); got != "old" {
			t.Errorf("it holds %q", got)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || readFile(t, dir, "f") != "old" {
			t.Errorf("there is %v, %v", left, err)
		}
	})
}

func TestFileRemoteThatIsALinkKeepsIt(t *testing.T) {
	dir := t.TempDir()
	symlink(t, dir, "dev.npcnix", "real")
	remote := open(t, "file://"+dir+"/dev.npcnix")
	wantFetch(t, remote, publish(t, remote, packed(t, "one")), "one")
	if _, err := os.Readlink(dir + "/dev.npcnix"); err != nil {
		t.Error(err)
	}
}
