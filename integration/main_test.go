package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// npcnix is the built binary that these tests run.
var npcnix string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "npcnix-integration-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	npcnix = filepath.Join(dir, "npcnix")
	build := exec.Command("go", "build", "-o", npcnix, "github.com/npcnix/npcnix/cmd/npcnix")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build npcnix:", err)
		return 1
	}
	return m.Run()
}

// need finds a real part, and skips the test without it, or fails it where
// NPCNIX_REQUIRE_ALL is set.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		local, _ := filepath.Abs(filepath.Join("..", ".cache", "moto", "bin", program))
		if _, missing := os.Stat(local); missing == nil {
			return local
		}
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}
