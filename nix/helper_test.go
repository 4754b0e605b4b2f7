package nix_test

import (
	"bytes"
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

// TestMain is nix, where the test binary is run by that name, a worker where it is run as one, and an
// agent where it is asked to be.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case name == "nix", name == "nix-env":
		os.Exit(fakeNix(os.Getenv("NPCNIX_FAKE_NIX"), os.Args[1:]))
	case len(os.Args) > 1 && os.Args[1] == "activation":
		os.Exit(worker(os.Args[2:]))
	case os.Getenv("NPCNIX_FAKE_AGENT") != "":
		os.Exit(fakeAgent(os.Getenv("NPCNIX_FAKE_AGENT"), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// host is a nix.Host with all that it touches in a temporary folder, and its log.
type host struct {
	*nix.Host
	opts nix.Options
	root string // what the systems' scripts take for /
	log  *record
}

func newHost(t *testing.T, change ...func(*nix.Options)) *host {
	t.Helper()
	root := t.TempDir()
	log := &record{changed: make(chan struct{})}
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

func (h *host) activated(t *testing.T, s nix.System) {
	t.Helper()
	if a, err := h.Activate(t.Context(), s, nix.Order{}); err != nil || a.Stage != nix.StageConfirmed {
		t.Fatalf("Activate: %v, %v\n%s", a.Stage, err, h.workerLog())
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

// flake writes a flake of these systems, that no other test has, and returns its folder.
func flake(t *testing.T, systems map[string]nixtest.System) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "flake")
	if err := nixtest.Flake(dir, nixtest.Salt(), systems); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eachNix runs a test with the nix that is installed, and with the newer one that
// integration/nix-next.sh puts beside it.
func eachNix(t *testing.T, test func(*testing.T)) {
	next := os.Getenv("NPCNIX_NIX_NEXT")
	if next == "" {
		next = filepath.Join("..", ".cache", "nix-next")
	}
	next, err := filepath.Abs(filepath.Join(next, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("installed nix", func(t *testing.T) {
		installedNix(t)
		test(t)
	})
	t.Run("newer nix", func(t *testing.T) {
		if _, err := os.Stat(filepath.Join(next, "nix")); err != nil {
			skip(t, "no newer nix: run integration/nix-next.sh")
		}
		nixEnvironment(t)
		t.Setenv("PATH", next+":"+os.Getenv("PATH"))
		test(t)
	})
}

func nixEnvironment(t *testing.T) {
	for _, e := range nixtest.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// record keeps what is written to it, and tells who waits for a text.
type record struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// await returns what follows a text in the log, up to the end of the line, as soon as it is there.
func (r *record) await(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		log, changed := r.text.String(), r.changed
		r.mu.Unlock()
		if _, after, found := strings.Cut(log, text); found {
			if rest, _, complete := strings.Cut(after, "\n"); complete {
				return strings.Trim(rest, "\" ")
			}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q did not come in the log:\n%s", text, log)
		}
	}
}

// process is somebody else's process, whose end can be waited for.
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
	for _, tool := range []string{"nix", "nix-env"} {
		if err := os.Symlink(self, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	t.Setenv("NPCNIX_FAKE_NIX", mode)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each run of it takes a second
}

// fakeAgent builds, activates or resumes, as an agent does that is killed from outside. With NPCNIX_PROVE it
// waits for that file to appear before it confirms.
func fakeAgent(what string, args []string) int {
	h, err := nix.New(options(os.Getenv(nixtest.RootVariable), os.Stderr))
	confirm, _ := time.ParseDuration(os.Getenv("NPCNIX_CONFIRM"))
	order := nix.Order{ConfirmTimeout: confirm, Verify: func(ctx context.Context, _ nix.Activation) error {
		fmt.Fprintln(os.Stderr, "proving itself, pid", os.Getpid())
		return appears(ctx, os.Getenv("NPCNIX_PROVE"))
	}}
	switch {
	case err != nil:
	case what == "build":
		_, err = h.Build(context.Background(), args[0], args[1])
	case what == "resume":
		_, _, err = h.Resume(context.Background(), order)
	default:
		_, err = h.Activate(context.Background(), nix.System{Path: args[0]}, order)
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

// worker does what `npcnix activation` does: run --data-dir DIR, or expire ID PATIENCE --data-dir DIR.
func worker(args []string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	dir := args[len(args)-1]
	var err error
	if args[0] == "run" {
		err = nix.Work(context.Background(), dir, log)
	} else {
		patience, _ := time.ParseDuration(args[2])
		err = nix.Expire(context.Background(), dir, args[1], patience, log)
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
