package nix_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"

	"golang.org/x/sys/unix"
)

// TestMain is nix, where the test binary is run by that name, and an agent where it is asked to be.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case name == "nix", name == "nix-env", name == "nix-store":
		os.Exit(fakeNix(os.Getenv("NPCNIX_FAKE_NIX"), os.Args[1:]))
	case os.Getenv("NPCNIX_FAKE_AGENT") != "":
		os.Exit(fakeAgent(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// host is a nix.Host with all that it touches in a temporary folder, and its log.
type host struct {
	*nix.Host
	opts nix.Options
	root string // what the systems' scripts take for /
	log  *nixtest.Log
}

func newHost(t *testing.T, change ...func(*nix.Options)) *host {
	t.Helper()
	root := t.TempDir()
	log := nixtest.NewLog()
	opts := options(root, log)
	for _, c := range change {
		c(&opts)
	}
	h, err := nix.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(nixtest.RootVariable, root)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each worker takes a second to end
	return &host{Host: h, opts: opts, root: root, log: log}
}

func options(root string, log interface{ Write([]byte) (int, error) }) nix.Options {
	return nix.Options{
		Profile:       filepath.Join(root, "profiles", "system"),
		CurrentSystem: filepath.Join(root, nixtest.CurrentSystem),
		Dir:           filepath.Join(root, "data"),
		BootDirs:      []string{filepath.Join(root, "boot")},
		Log:           slog.New(slog.NewTextHandler(log, nil)),
	}
}

func (h *host) built(t *testing.T, dir, configuration string) nix.System {
	t.Helper()
	s, err := h.Build(t.Context(), dir, configuration)
	if err != nil {
		t.Fatalf("Build: %v\n%s", err, h.log)
	}
	return s
}

// switched puts s into the profile and switches to it, as an operator does.
func (h *host) switched(t *testing.T, s nix.System) {
	t.Helper()
	if err := h.SetProfile(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(s.Switcher(), "test").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// wantProfile checks where the profile points, as read by Profiled.
func (h *host) wantProfile(t *testing.T, s nix.System, generation int) {
	t.Helper()
	got, n, err := h.Profiled()
	if err != nil || got != s || n != generation {
		t.Errorf("Profiled() = %v, %d, %v; want %v, %d", got, n, err, s, generation)
	}
}

func (h *host) wantMarker(t *testing.T, version string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(h.root, nixtest.Marker))
	if err != nil || strings.TrimSpace(string(got)) != version {
		t.Errorf("marker = %q, %v; want %q", got, err, version)
	}
}

// process is a process of another program, whose end can be waited for.
type process struct{ fd int }

func open(t *testing.T, pid string) process {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		t.Fatalf("open process %d: %v", n, err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(fd)
	})
	return process{fd}
}

// ended tells whether the process ends within a while.
func (p process) ended(within time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline)).Milliseconds()))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// fakeOnPath makes the fake the only nix there is, in the mode that is named. fakeNix has them.
func fakeOnPath(t *testing.T, mode string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, tool := range []string{"nix", "nix-env", "nix-store"} {
		if err := os.Symlink(self, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	t.Setenv("NPCNIX_FAKE_NIX", mode)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each run of it takes a second
}

// fakeAgent builds, as an agent does that is killed from outside.
func fakeAgent(args []string) int {
	h, err := nix.New(options(os.Getenv(nixtest.RootVariable), os.Stderr))
	if err == nil {
		_, err = h.Build(context.Background(), args[0], args[1])
	}
	fmt.Fprintln(os.Stderr, err)
	return 0
}

// startAgent starts a fakeAgent for h and returns what kills it, as kill -9 does.
func startAgent(t *testing.T, h *host, args ...string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, args...)
	agent.Env = append(os.Environ(), "NPCNIX_FAKE_AGENT=1")
	agent.Stderr = h.log
	agent.WaitDelay = time.Second
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	t.Cleanup(kill)
	return kill
}

// roots lists the links in the folder of roots.
func roots(t *testing.T, h *host) []string {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(h.opts.Dir, "roots", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return links
}
