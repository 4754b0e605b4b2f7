package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A change of the remote makes a new agent, of which the service manager is told nothing: to it
// STOPPING=1 would mean that the service ends.
func TestServiceManager(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "200000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	npcnix := func(ctx context.Context, args ...string) int {
		return run(ctx, append([]string{"--data-dir", filepath.Join(dir, "data")}, args...), io.Discard, os.Stderr)
	}
	for _, set := range [][]string{{"remote", "file://" + dir + "/absent"}, {"configuration", "web1"}} {
		if code := npcnix(ctx, "config", "set", set[0], set[1]); code != 0 {
			t.Fatalf("config set: exit code %d", code)
		}
	}
	ended := make(chan int, 1)
	go func() {
		ended <- npcnix(ctx, "follow", "--log-level", "error", "--current-system", filepath.Join(dir, "system"))
	}()
	var told []string
	buffer := make([]byte, 4096)
	// hear reads until the service manager was told something.
	hear := func(what string, times int) {
		t.Helper()
		for ; times > 0; times-- {
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					t.Fatal(err)
				}
				told = append(told, string(buffer[:n]))
				if strings.HasPrefix(told[len(told)-1], what) {
					break
				}
			}
		}
	}
	hear("READY=1", 1)
	hear("STATUS=", 1)
	if code := npcnix(ctx, "config", "set", "remote", "file://"+dir+"/other"); code != 0 {
		t.Fatalf("config set: exit code %d", code)
	}
	hear("STATUS=", 1)
	hear("WATCHDOG=1", 5)
	cancel()
	hear("STOPPING=1", 1)
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	once := func(state string) int {
		return len(slices.DeleteFunc(slices.Clone(told), func(s string) bool { return s != state }))
	}
	if once("READY=1") != 1 || once("STOPPING=1") != 1 {
		t.Errorf("told: %q", told)
	}
}
