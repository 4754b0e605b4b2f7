package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDir(t *testing.T) {
	t.Run("one that cannot be written is an error that says what to do", dirUnwritable)
	t.Run("a second agent is refused", dirTwoAgents)
	t.Run("one that others can write is refused", dirOfOthers)
	t.Run("a link in place of a lock is not followed", dirLinks)
}

func dirOfOthers(t *testing.T) {
	changes := map[string]func(path string) error{"mode": func(path string) error { return os.Chmod(path, 0o777) }}
	if os.Geteuid() == 0 {
		changes["owner"] = func(path string) error { return os.Chown(path, 65534, -1) }
		changes["group"] = func(path string) error { return os.Chmod(path, 0o775) }
	}
	for name, change := range changes {
		dir := Dir(t.TempDir())
		if err := change(string(dir)); err != nil {
			t.Fatal(err)
		}
		_, follow := dir.LockFollow()
		_, activate := dir.LockActivation(t.Context(), nil)
		for what, err := range map[string]error{
			"check": dir.Check(), "follow": follow, "activate": activate,
			"config": dir.UpdateConfig(t.Context(), func(*Config) error { return nil }),
		} {
			if !errors.Is(err, ErrOthers) || !strings.Contains(err.Error(), "--data-dir") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

func dirLinks(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious")
	write(t, precious, "content")
	dir := Dir(t.TempDir())
	for _, name := range []string{"follow.lock", "activate.lock", "config.lock"} {
		if err := os.Symlink(precious, dir.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	_, follow := dir.LockFollow()
	_, activate := dir.LockActivation(t.Context(), nil)
	update := dir.UpdateConfig(t.Context(), func(*Config) error { return nil })
	if follow == nil || activate == nil || update == nil {
		t.Errorf("follow: %v, activate: %v, update: %v", follow, activate, update)
	}
	if data, err := os.ReadFile(precious); err != nil || string(data) != "content" {
		t.Errorf("the file that the link leads to holds %q, %v", data, err)
	}
}

func dirUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	dir := Dir(filepath.Join(file, "sub"))
	for name, err := range map[string]error{
		"check":  dir.Check(),
		"config": dir.UpdateConfig(t.Context(), func(*Config) error { return nil }),
	} {
		if err == nil || !strings.Contains(err.Error(), "--data-dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func dirTwoAgents(t *testing.T) {
	dir := Dir(t.TempDir())
	unlock, err := dir.LockFollow()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.LockFollow(); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("the second: %v", err)
	}
	lost := dir.Lost()
	if err := lost(); err != nil {
		t.Errorf("while it is there: %v", err)
	}
	if err := os.RemoveAll(string(dir)); err != nil {
		t.Fatal(err)
	}
	if err := lost(); !errors.Is(err, ErrLost) {
		t.Errorf("deleted: %v", err)
	}
	again, err := dir.LockFollow()
	if err != nil {
		t.Fatalf("in a new directory: %v", err)
	}
	if err := lost(); !errors.Is(err, ErrLost) {
		t.Errorf("replaced: %v", err)
	}
	unlock()
	again()
	if again, err = dir.LockFollow(); err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again()
}
