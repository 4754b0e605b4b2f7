// Package prometheus runs Debian's Prometheus, its promtool and its node_exporter for a test.
//
// It promises servers of the test's own on unused ports of 127.0.0.1, which are gone when the test ends. A missing
// program skips the test, or fails it if NPCNIX_REQUIRE_ALL is set.
package prometheus

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// find returns the path of a program: of the system, or as integration/deps.sh unpacks it.
func find(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", ".cache", "prometheus", "usr", "bin", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatalf("no %s: run integration/deps.sh prometheus", name)
		}
		t.Skipf("no %s: run integration/deps.sh prometheus", name)
	}
	return path
}

// Check has promtool check metrics in the text format. What it would only have otherwise is an error too.
func Check(t testing.TB, text []byte) {
	t.Helper()
	Promtool(t, text, "check", "metrics")
}

// Promtool runs promtool, and returns what it prints.
func Promtool(t testing.TB, input []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command(find(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %q: %v\n%s\n%s", args, err, out, input)
	}
	return string(out)
}
