package systemd

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnyActive(t *testing.T) {
	for _, c := range []struct {
		name, systemctl string
		active, fails   bool
	}{
		{"a unit is", "echo npcnix-rollback-x.timer loaded active waiting", true, false},
		{"none is", "", false, false},
		{"a manager that does not answer is no no", "echo Connection timed out >&2; exit 1", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+c.systemctl+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			active, err := AnyActive(t.Context(), "npcnix-rollback*")
			if active != c.active || (err != nil) != c.fails {
				t.Errorf("%v, %v", active, err)
			}
		})
	}
}
