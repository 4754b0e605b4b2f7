package command

import (
	"runtime"
	"strings"
	"testing"
)

// The output of a command is kept in part, and as plain text.
func TestOutput(t *testing.T) {
	for _, c := range []struct{ name, script, last, why string }{
		{"a few lines", `echo one; echo two >&2; exit 3`, "two", "exit status 3: two"},
		{"colours", `printf '\033[31;1mbad\033[0m\n'; exit 3`, "bad", "exit status 3: bad"},
		{"a line of 32 MiB", `head -c 33554432 /dev/zero | tr '\0' x; exit 3`, "x…", "x…"},
		{"100,000 lines", `seq 100000; exit 3`, "100000", "100000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			tail, err := Run(t.Context(), []string{"/bin/sh", "-c", c.script}, nil)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.HasSuffix(err.Error(), c.why) || len(err.Error()) > 10_000 {
				t.Errorf("error of %d bytes: %.200v, want %q", len(err.Error()), err, c.why)
			}
			if len(tail) == 0 || !strings.HasSuffix(tail[len(tail)-1], c.last) || len(strings.Join(tail, "")) > 200_000 {
				t.Errorf("kept %d lines, of %d bytes", len(tail), len(strings.Join(tail, "")))
			}
			if grown := int64(after.HeapSys - before.HeapSys); grown > 24<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}
