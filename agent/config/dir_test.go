package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestDir(t *testing.T) {
	t.Run("one that cannot be written is an error that says what to do", dirUnwritable)
	t.Run("a second agent is refused", dirTwoAgents)
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
	unlock()
	again, err := dir.LockFollow()
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again()
}
