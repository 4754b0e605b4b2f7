package nix_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestARestartIsDueWhenWhatWasBootedDiffers(t *testing.T) {
	h := newHost(t)
	run := filepath.Dir(h.opts.CurrentSystem)
	for _, c := range []struct {
		name           string
		booted, runs   map[string]string
		due            string
		withoutABooted bool
	}{
		{name: "nothing known of what was booted", withoutABooted: true, runs: map[string]string{"kernel": "a"}},
		{name: "the same", booted: map[string]string{"kernel": "a", "initrd": "b"}, runs: map[string]string{"kernel": "a", "initrd": "b"}},
		{name: "a container, without a kernel", booted: map[string]string{}, runs: map[string]string{}},
		{name: "another kernel", booted: map[string]string{"kernel": "a"}, runs: map[string]string{"kernel": "c"}, due: "kernel is not the one"},
		{name: "another initrd", booted: map[string]string{"kernel": "a", "initrd": "b"}, runs: map[string]string{"kernel": "a", "initrd": "c"}, due: "initrd is not the one"},
		{name: "other modules", booted: map[string]string{"kernel-modules": "b"}, runs: map[string]string{"kernel-modules": "c"}, due: "kernel-modules is not the one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.RemoveAll(run); err != nil {
				t.Fatal(err)
			}
			for link, parts := range map[string]map[string]string{"booted-system": c.booted, "current-system": c.runs} {
				if link == "booted-system" && c.withoutABooted {
					continue
				}
				system := t.TempDir()
				for part, content := range parts {
					target := filepath.Join(run, "files", content)
					if err := os.MkdirAll(target, 0o755); err != nil {
						t.Fatal(err)
					}
					nixtest.Link(t, filepath.Join(system, part), target)
				}
				nixtest.Link(t, filepath.Join(run, link), system)
			}
			why, err := h.RebootDue(t.Context())
			if err != nil || (why == "") != (c.due == "") || !strings.Contains(why, c.due) {
				t.Errorf("due %q, %v; want %q", why, err, c.due)
			}
		})
	}
}
