package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

// examineHost runs the links of a host that follows a file, with what its agent last wrote.
func examineHost(t *testing.T, h *Host, queue, health string) map[string]Finding {
	t.Helper()
	if health != "" {
		if err := os.WriteFile(filepath.Join(string(h.Dir), "agent.json"), []byte(health), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]Finding{}
	for _, link := range h.links(t.Context(), Options{QueueURL: queue}) {
		f := link(t.Context())
		found[f.Link] = f
	}
	return found
}

func newHost(t *testing.T) *Host {
	t.Helper()
	h := &Host{Dir: config.Dir(t.TempDir()), CurrentSystem: filepath.Join(t.TempDir(), "current-system"), Store: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(h.CurrentSystem, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.CurrentSystem, "bin", "switch-to-configuration"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func wantFinding(t *testing.T, f Finding, v Verdict, found, fix string) {
	t.Helper()
	if f.Verdict != v || !strings.Contains(f.Found, found) || !strings.Contains(f.Fix, fix) {
		t.Errorf("%+v; want it %s, with %q and the fix %q", f, v, found, fix)
	}
}

func TestHost(t *testing.T) {
	t.Run("the agent tells what the host is permitted to do", testAgent)
	t.Run("a system that cannot be switched is wrong", testSystem)
	t.Run("a disk without space is wrong", testDisk)
	t.Run("nix must be installed, new enough, and have flakes", testNix)
}

func testAgent(t *testing.T) {
	h := newHost(t)
	wantFinding(t, examineHost(t, h, "", "")["agent"], Wrong, "no configuration is set", "npcnix config set configuration")
	h.Config.Configuration = "web1"
	found := examineHost(t, h, "https://queue", "")
	wantFinding(t, found["agent"], Wrong, "is not running", "systemctl start npcnix")
	wantFinding(t, found["can receive"], Unknown, "only a running agent can tell", "start the agent")
	wantFinding(t, found["can record"], Unknown, "only a running agent can tell", "start the agent")

	unlock, err := h.Dir.LockFollow()
	if err != nil {
		t.Fatal(err)
	}
	found = examineHost(t, h, "https://queue", `{"schema": 1, "pid": 7, "parts": {"record": {"works": true}}}`)
	wantFinding(t, found["agent"], OK, "process 7", "")
	wantFinding(t, found["can receive"], Unknown, "has not tried it yet", "")
	wantFinding(t, found["can record"], OK, "writes its acknowledgement record", "")

	found = examineHost(t, h, "https://queue", `{"schema": 1, "pid": 7, "parts": {
		"queue": {"works": false, "since": "2026-01-01T00:00:00Z", "error": "AccessDenied"}, "record": {"works": false, "error": "forbidden"}}}`)
	wantFinding(t, found["can receive"], Wrong, "not since 2026-01-01T00:00:00Z: AccessDenied", "sqs:ReceiveMessage, sqs:DeleteMessage")
	wantFinding(t, found["can record"], Wrong, "forbidden", "s3:PutObject on its own record")

	found = examineHost(t, h, "https://queue", `{"schema": 1, "pid": 7, "parts": {
		"queue": {"works": false, "error": "AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist"}}}`)
	wantFinding(t, found["can receive"], Wrong, "does not exist", "create it, for instance with Terraform's host_queue")

	// The doctor's own credentials can be others than those of the agent.
	found = examineHost(t, h, "", `{"schema": 1, "pid": 7, "parts": {"store": {"works": false, "error": "InvalidAccessKeyId"}}}`)
	wantFinding(t, found["can read"], Wrong, "InvalidAccessKeyId", "follows a change of their file by itself")

	h.Config.Paused = (*config.Pause)(nil).Extend(time.Time{}, time.Now())
	found = examineHost(t, h, "", `{"schema": 1, "pid": 7}`)
	wantFinding(t, found["agent"], OK, "is paused (indefinitely)", "")
	if f, there := found["can receive"]; there {
		t.Errorf("a host that polls: %+v", f)
	}
	found = examineHost(t, h, "", `{"schema": 1, "pid": 7, "hindered": "the disk is full"}`) // old form
	wantFinding(t, found["agent"], Wrong, "the disk is full", "goes on by itself")
	found = examineHost(t, h, "", `{"schema":`)
	wantFinding(t, found["agent"], Unknown, "it is running, but", "")
	wantFinding(t, found["can record"], Unknown, "", "")

	unlock()
	found = examineHost(t, h, "", `{"schema": 1, "pid": 7, "parts": {"record": {"works": true}}}`)
	wantFinding(t, found["agent"], Wrong, "is not running", "")
	wantFinding(t, found["can record"], Unknown, "none is running", "")
}

func testSystem(t *testing.T) {
	h := newHost(t)
	wantFinding(t, h.system(t.Context()), OK, h.CurrentSystem, "")
	if err := os.RemoveAll(filepath.Join(h.CurrentSystem, "bin")); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, h.system(t.Context()), Wrong, "no bin/switch-to-configuration", "NixOS")
	h.CurrentSystem += "-not"
	wantFinding(t, h.system(t.Context()), Wrong, "this is not NixOS", "NixOS")
}

func testDisk(t *testing.T) {
	dir := t.TempDir()
	wantFinding(t, space("disk", dir, 1, "free some space"), OK, "free", "")
	wantFinding(t, space("disk", dir, 1<<62, "free some space"), Wrong, "less than 4294967296.0 GiB", "free some space")
	wantFinding(t, space("disk", filepath.Join(dir, "none"), 1, ""), Wrong, "there is no "+dir, "")
}

func testNix(t *testing.T) {
	if _, err := exec.LookPath("nix"); err == nil {
		wantFinding(t, nixWorks(t.Context()), OK, "nix", "")
	} else if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatal(err)
	} else {
		t.Logf("the real nix is not asked: %v", err)
	}
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	wantFinding(t, nixWorks(t.Context()), Wrong, "nix is not on PATH", "install nix")
	for _, row := range []struct {
		script, found string
		want          Verdict
	}{
		{`[ "$1" = --version ] && echo "nix (Nix) 2.7.0" || echo yes`, "nix (Nix) 2.7.0 is too old", Wrong},
		{`[ "$1" = --version ] && echo "nix (Nix) 2.8.0" || echo yes`, "2.8.0, with flakes", OK},
		{`[ "$1" = --version ] && echo "nix (Lix, like Nix) 2.91.1" || echo yes`, "2.91.1, with flakes", OK},
		{`[ "$1" = --version ] && echo "nix (Determinate Nix 3.5.2) 2.28.3pre" || echo yes`, "2.28.3pre, with flakes", OK},
		{`[ "$1" = --version ] && echo "nix (Nix) 2.20.1" || echo no`, "has no flakes", Wrong},
		{`[ "$1" = --version ] && echo "nix (Nix) 2.20.1" || { echo error: cannot connect to socket >&2; exit 1; }`, "cannot connect to socket", Wrong},
		{`echo something`, "cannot be read: something", Unknown},
		{`echo broken >&2; exit 1`, "nix does not start: broken", Wrong},
	} {
		if err := os.WriteFile(filepath.Join(bin, "nix"), []byte("#!/bin/sh\n"+row.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		wantFinding(t, nixWorks(t.Context()), row.want, row.found, "")
	}
}
