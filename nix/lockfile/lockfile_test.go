package lockfile

import (
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
)

func TestHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	want := func(want bool) {
		t.Helper()
		if held, err := Held(path); err != nil || held != want {
			t.Errorf("held is %v, %v; want %v", held, err, want)
		}
	}

	want(false)
	l := flock.New(path)
	if ok, err := l.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	want(true)
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	want(false)

	if ok, err := l.TryLock(); err != nil || !ok {
		t.Errorf("a look keeps the lock: %v, %v", ok, err)
	}
	if _, err := Held(filepath.Join(path, "in a file")); err == nil {
		t.Error("a lock that cannot be made is free")
	}
}
