package activation_test

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

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// TestMain is a worker or a timer where the test binary is run as one, and an agent where it is asked to be.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "activation":
		os.Exit(worker(os.Args[2:]))
	case os.Getenv("NPCNIX_FAKE_AGENT") != "":
		os.Exit(fakeAgent(os.Getenv("NPCNIX_FAKE_AGENT"), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// host is a Coordinator with all that it touches in a temporary folder, and its log.
type host struct {
	*activation.Coordinator
	opts nix.Options
	root string // what the systems' scripts take for /
	log  *nixtest.Log
}

func newHost(t *testing.T) *host {
	t.Helper()
	root := t.TempDir()
	log := nixtest.NewLog()
	opts := options(root, log)
	t.Setenv(nixtest.RootVariable, root)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each worker takes a second to end
	c, err := coordinator(opts)
	if err != nil {
		t.Fatal(err)
	}
	return &host{Coordinator: c, opts: opts, root: root, log: log}
}

func coordinator(o nix.Options) (*activation.Coordinator, error) {
	h, err := nix.New(o)
	if err != nil {
		return nil, err
	}
	return activation.New(h)
}

func options(root string, log interface{ Write([]byte) (int, error) }) nix.Options {
	return nix.Options{
		Profile:       filepath.Join(root, "profiles", "system"),
		CurrentSystem: filepath.Join(root, nixtest.CurrentSystem),
		Dir:           filepath.Join(root, "data"),
		Log:           slog.New(slog.NewTextHandler(log, nil)),
	}
}

// systems are what a flake describes, by their names.
type systems map[string]nixtest.System

// known are the systems that this process has built, by what they were built of.
var known = struct {
	sync.Mutex
	salt  string
	built map[string]nix.System
}{salt: nixtest.Salt(), built: map[string]nix.System{}}

// built returns one of the systems. It builds each only once, as most of a test's time goes into that.
func (h *host) built(t *testing.T, all systems, name string) nix.System {
	t.Helper()
	known.Lock()
	defer known.Unlock()
	key := fmt.Sprintf("%s %+v %s", name, all[name], os.Getenv("PATH"))
	if s, found := known.built[key]; found {
		return s
	}
	dir := filepath.Join(t.TempDir(), "flake")
	if err := nixtest.Flake(dir, known.salt, map[string]nixtest.System{name: all[name]}); err != nil {
		t.Fatal(err)
	}
	known.built[key] = h.build(t, dir, name)
	return known.built[key]
}

func (h *host) build(t *testing.T, dir, configuration string) nix.System {
	t.Helper()
	s, err := h.Build(t.Context(), dir, configuration)
	if err != nil {
		t.Fatalf("Build: %v\n%s", err, h.log)
	}
	return s
}

func (h *host) activated(t *testing.T, s nix.System) {
	t.Helper()
	if a, err := h.Activate(t.Context(), s, activation.Request{}); err != nil || a.Phase != activation.Committed {
		t.Fatalf("Activate: %v, %v\n%s", a.Phase, err, h.workerLog())
	}
}

// workerLog is what the processes of the last activation have logged.
func (h *host) workerLog() string {
	log, _ := os.ReadFile(filepath.Join(h.opts.Dir, "activation.log"))
	return string(log)
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

// switches returns the fields of what each run of a switch-to-configuration has noted.
func (h *host) switches(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.root, nixtest.Switches))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var runs [][]string
	for line := range strings.Lines(string(data)) {
		runs = append(runs, strings.Fields(line))
	}
	return runs
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

// fakeAgent activates or resumes, as an agent does that is killed from outside. With NPCNIX_VERIFIED it
// waits for that file to appear before it takes the system for verified.
func fakeAgent(what string, args []string) int {
	h, err := coordinator(options(os.Getenv(nixtest.RootVariable), os.Stderr))
	timeout, _ := time.ParseDuration(os.Getenv("NPCNIX_VERIFY_TIMEOUT"))
	request := activation.Request{VerifyTimeout: timeout, Verify: func(ctx context.Context, _ activation.Journal) (string, error) {
		fmt.Fprintln(os.Stderr, "verifying, pid", os.Getpid())
		return "", appears(ctx, os.Getenv("NPCNIX_VERIFIED"))
	}}
	switch {
	case err != nil:
	case what == "resume":
		_, _, err = h.Resume(context.Background(), request)
	default:
		_, err = h.Activate(context.Background(), nix.System{Path: args[0]}, request)
	}
	fmt.Fprintln(os.Stderr, err)
	return 0
}

// appears waits for a file; "" is there already.
func appears(ctx context.Context, file string) error {
	for file != "" {
		if _, err := os.Stat(file); err == nil {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// worker does what `npcnix activation` does: run --data-dir DIR, or timer ID PATIENCE --data-dir DIR.
func worker(args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	dir := args[len(args)-1]
	var err error
	if args[0] == "run" {
		err = activation.Work(context.Background(), dir, log)
	} else {
		patience, _ := time.ParseDuration(args[2])
		err = activation.RunTimer(context.Background(), dir, args[1], patience, log)
	}
	if err != nil {
		log.Error("worker", "error", err)
		return 1
	}
	return 0
}

// startAgent starts a fakeAgent for h and returns what kills it, as kill -9 does.
func startAgent(t *testing.T, h *host, what string, args ...string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, args...)
	agent.Env = append(os.Environ(), "NPCNIX_FAKE_AGENT="+what)
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
