package moto_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/integration/moto"
)

func TestStart(t *testing.T) {
	t.Run("answers during the test and is gone after it", answersAndEnds)
	t.Run("skips or fails the test without a server", missingServer)
	t.Run("ends what the server started", childrenEnd)
	t.Run("fails the test when the server ends at once", endsAtOnce)
}

func answersAndEnds(t *testing.T) {
	var endpoint string
	t.Run("a test that uses it", func(t *testing.T) {
		endpoint = moto.Start(t)
		response, err := http.Get(endpoint + "/moto-api/data.json")
		if err != nil {
			t.Fatalf("ask the server: %v", err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("the server answers %s", response.Status)
		}
	})
	if endpoint == "" {
		t.Skip("the test that uses it was skipped")
	}
	if response, err := http.Get(endpoint); err == nil {
		_ = response.Body.Close()
		t.Errorf("the server still answers %s after its test", response.Status)
	}
}

// TestHelperStart is not a test of its own: other tests run it in a process of its own.
func TestHelperStart(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_HELPER") == "" {
		return
	}
	moto.Start(t)
}

func missingServer(t *testing.T) {
	for name, c := range map[string]struct{ require, want string }{
		"it is skipped by default":              {"", "--- SKIP: TestHelperStart"},
		"it fails where all parts are required": {"1", "--- FAIL: TestHelperStart"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelperStart$", "-test.v")
			cmd.Env = append(os.Environ(), "NPCNIX_TEST_HELPER=1", "NPCNIX_REQUIRE_ALL="+c.require,
				"NPCNIX_MOTO_SERVER="+filepath.Join(t.TempDir(), "moto_server"))
			out, _ := cmd.CombinedOutput() // fails in one of the cases
			if !strings.Contains(string(out), c.want) {
				t.Errorf("want %q in:\n%s", c.want, out)
			}
		})
	}
}

func childrenEnd(t *testing.T) {
	answering := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answering.Close()
	// The child keeps the log open: as long as it lives, the test that started the server does not end.
	dir := t.TempDir()
	program, child := filepath.Join(dir, "moto_server"), filepath.Join(dir, "child")
	script := "#!/bin/sh\nsleep 300 &\necho $! >" + child + "\necho ' * Running on " + answering.URL + "' >&2\nwait\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NPCNIX_MOTO_SERVER", program)
	t.Run("a test that uses it", func(t *testing.T) {
		if endpoint := moto.Start(t); endpoint != answering.URL {
			t.Errorf("endpoint %s, want %s", endpoint, answering.URL)
		}
	})
	pid, err := os.ReadFile(child)
	if err != nil {
		t.Fatal(err)
	}
	// An orphan that nobody has reaped yet has no command line any more.
	if line, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline"); strings.HasPrefix(string(line), "sleep\x00") {
		t.Errorf("the child lives on: %q", line)
	}
}

func endsAtOnce(t *testing.T) {
	program := filepath.Join(t.TempDir(), "moto_server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperStart$", "-test.v")
	cmd.Env = append(os.Environ(), "NPCNIX_TEST_HELPER=1", "NPCNIX_MOTO_SERVER="+program)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "did not say where it listens") {
		t.Errorf("want a failure that says so, got %v:\n%s", err, out)
	}
}
