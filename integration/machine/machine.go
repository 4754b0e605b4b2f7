// Package machine boots Debian machines for tests. Their systemd is the real one: process 1 of a
// container of systemd-nspawn, with D-Bus, journal, cgroups and nix. A machine comes up in about a
// second. Kill ends it at once, like a loss of power, and it boots again with what its disk held. It
// leaves nothing behind when its test ends, even if the test's process is killed.
//
// A machine shares the network of this one, so it reaches a server of the test at 127.0.0.1;
// [Proxy] puts a network in between that the machine can break. Several machines run at once. They
// share what integration/machine-root.sh builds once, and each writes to a disk of its own.
//
// # Systems
//
// [Flake] writes flakes whose toplevels are made of real units. NixOS's own setup-etc puts them into /etc, as
// one link in the place of /etc/systemd/system, and NixOS's own switch-to-configuration, the one in Rust,
// switches; see [Parts]. So their order, their exit codes and what they print are NixOS's. What differs:
//
//   - The rest of the machine stays Debian. Its own units are those in /usr/lib/systemd/system. A unit whose
//     text has WantedBy is in that target's .wants; NixOS makes these of options.
//   - The boot loader is the link /boot/default. Systems that are not the default cannot be booted. Of
//     NixOS's, systemd-boot can only make a generation of the profile the default: this takes any toplevel.
//   - Around the switch, scripts of a system can break it; see [System]. What is done is appended to [Switches].
//
// At boot, before systemd runs, a stage 2 activates /boot/default, and points /run/booted-system
// at it, as NixOS's does. Package nixos has machines with NixOS's library, boot loaders and stage 2.
package machine

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	//go:embed run.sh
	runScript string
	//go:embed stage-2.sh
	stage2Script string
)

// Options describes a machine. The zero Options is a Debian trixie with nothing added.
type Options struct {
	Suite string            // trixie, with nix 2.26 and systemd 257; or bookworm, with nix 2.8 and systemd 252
	Binds map[string]string // files and folders of this machine, by their place in the other, read-only
	// Shares are folders that the machine may also write to: what is in them outlives a loss of its power.
	Shares map[string]string
	Env    map[string]string // the environment of all units, and of Run
	Files  map[string]string // contents by absolute path, there from the first boot; executable when they begin with "#!"
	Disk   bool              // it has a disk of its own, as Cut needs: an ext4 file system in a file
}

// Machine is a machine that has been booted. Several goroutines can call its methods, but only one at
// a time those that boot and kill.
type Machine struct {
	t       testing.TB
	options Options
	root    string // shared with others
	disk    string // the machine's own
	name    string // of its cgroups in this boot
	env     []string
	boots   int
	power   io.Closer     // closed, it kills the machine
	off     chan struct{} // closed when nothing of the machine runs; nil before the first boot

	mu    sync.Mutex
	known process // the process 1 that was found last
}

// Patience is how long anything of a machine can take while this machine is busy.
const Patience = 5 * time.Minute

// Boot makes a machine and boots it; it returns when systemd is up. The machine is killed at the
// end of the test, which then logs the journal if it failed.
//
// If machines cannot be booted here, the test is skipped; with NPCNIX_REQUIRE_ALL it fails.
func Boot(t testing.TB, o Options) *Machine {
	t.Helper()
	if o.Suite == "" {
		o.Suite = "trixie"
	}
	root, err := findRoot(o.Suite)
	if err != nil {
		Lacks(t, err)
	}
	m := &Machine{t: t, options: o, root: root, disk: t.TempDir()}
	for _, name := range slices.Sorted(maps.Keys(o.Env)) {
		m.env = append(m.env, name+"="+o.Env[name])
	}
	if err := m.furnish(); err != nil {
		t.Fatalf("make a machine: %v", err)
	}
	if o.Disk {
		if err := m.makeDisk(); err != nil {
			t.Fatalf("make the disk of a machine: %v", err)
		}
	}
	t.Cleanup(m.end)
	m.Boot()
	return m
}

// Use has another test told of failures, such as a part of the one that booted the machine.
func (m *Machine) Use(t testing.TB) { m.t = t }

// findRoot returns the file system that machines of a suite share.
func findRoot(suite string) (string, error) {
	if os.Geteuid() != 0 {
		return "", errors.New("machines cannot be booted: that needs root")
	}
	for _, program := range []string{"systemd-nspawn", "nsenter", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("machines cannot be booted: %w: run integration/deps.sh machine", err)
		}
	}
	dir, err := findModule()
	if err != nil {
		return "", fmt.Errorf("machines cannot be booted: %w", err)
	}
	root := filepath.Join(dir, ".cache", "machine", suite)
	if _, err := os.Stat(root + ".recipe"); err != nil { // written when the root is whole
		return "", fmt.Errorf("machines cannot be booted: no root of %s: run integration/deps.sh machine", suite)
	}
	return root, nil
}

// furnish fills the machine's disk.
func (m *Machine) furnish() error {
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(m.disk, dir), 0o755); err != nil {
			return err
		}
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	files := map[string]string{
		"/etc/machine-id":        hex.EncodeToString(id) + "\n", // without, it would be a first boot
		"/usr/lib/npcnix/stage2": stage2Script,
		// The journal survives a boot, as NixOS's does.
		"/etc/systemd/journald.conf.d/machine.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n",
	}
	if len(m.env) > 0 {
		quoted := make([]string, 0, len(m.env))
		for _, variable := range m.env {
			quoted = append(quoted, strconv.Quote(strings.ReplaceAll(variable, "%", "%%")))
		}
		files["/etc/systemd/system.conf.d/machine.conf"] = "[Manager]\nDefaultEnvironment=" + strings.Join(quoted, " ") + "\n"
	}
	maps.Copy(files, m.options.Files)
	for path, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		inside := filepath.Join(m.disk, "upper", path)
		if err := os.MkdirAll(filepath.Dir(inside), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(inside, []byte(content), mode); err != nil {
			return err
		}
	}
	return nil
}

// Boot boots the machine again after Kill, with the disk it had. It returns when systemd is up.
func (m *Machine) Boot() {
	m.t.Helper()
	m.Start()
	m.WaitUp("")
}

// Start boots the machine, and does not wait for systemd.
func (m *Machine) Start() {
	m.t.Helper()
	if m.isOn() {
		m.t.Fatal("the machine is on already")
	}
	m.boots++
	m.name = fmt.Sprintf("npcnix-%d-%s-%d", os.Getpid(), strings.ToLower(rand.Text()[:8]), m.boots)
	args := []string{"-c", runScript, "run.sh", m.name, m.root, m.disk,
		"--machine=" + m.name, "--hostname=machine", "--kill-signal=SIGRTMIN+3",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe"}
	if parts, err := findParts("setup-etc.pl"); err == nil { // without, Build says so
		args = append(args, "--bind-ro="+parts+":"+partsInside)
	}
	for _, inside := range slices.Sorted(maps.Keys(m.options.Binds)) {
		args = append(args, "--bind-ro="+m.options.Binds[inside]+":"+inside)
	}
	for _, inside := range slices.Sorted(maps.Keys(m.options.Shares)) {
		args = append(args, "--bind="+m.options.Shares[inside]+":"+inside)
	}
	_ = os.Remove(filepath.Join(m.disk, "pid"))
	runner := exec.Command("/bin/sh", append(args, "/usr/lib/npcnix/stage2")...)
	runner.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal does not interrupt its cleaning up
	power, err := runner.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	log, err := os.OpenFile(m.consoleLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	runner.Stdout, runner.Stderr = log, log
	if err := runner.Start(); err != nil {
		m.t.Fatalf("boot a machine: %v", err)
	}
	off := make(chan struct{})
	m.power, m.off = power, off
	go func() {
		_ = runner.Wait() // killed or switched off: its status says nothing
		close(off)
	}()
}

// isOn tells whether anything of the machine runs.
func (m *Machine) isOn() bool {
	if m.off == nil {
		return false
	}
	select {
	case <-m.off:
		return false
	default:
		return true
	}
}

func (m *Machine) consoleLog() string { return filepath.Join(m.disk, "log") }

// WaitUp waits until systemd has come up in another boot than before, which is the [Machine.BootID]
// of the boot that is to end, or "" for any boot.
func (m *Machine) WaitUp(before string) {
	m.t.Helper()
	m.Await("the machine is up", func() bool {
		if !m.isOn() {
			console, _ := os.ReadFile(m.consoleLog())
			m.t.Fatalf("the machine is off before it is up:\n%s", console)
		}
		if id := m.BootID(); id == "" || id == before {
			return false
		}
		state, _ := m.Run("systemctl", "is-system-running", "--wait")
		state = strings.TrimSpace(state)
		return state == "running" || state == "degraded"
	})
}

// Kill ends the machine like a loss of power, and returns when nothing of it runs any more. Unlike
// with power, what was written and not synced is not lost: see Cut.
func (m *Machine) Kill() {
	m.t.Helper()
	if !m.isOn() {
		m.t.Fatal("the machine is off already")
	}
	_ = m.power.Close()
	<-m.off
}

// Reboot reboots the machine in an orderly way and returns when it is up again.
func (m *Machine) Reboot() {
	m.t.Helper()
	before := m.BootID()
	m.Must("systemctl", "reboot")
	m.WaitUp(before)
}

// end is the machine's last moment.
func (m *Machine) end() {
	if m.off == nil {
		return
	}
	if m.t.Failed() {
		m.t.Logf("journal of the machine:\n%s", m.Journal())
	}
	_ = m.power.Close() // of a machine that has switched itself off, too
	<-m.off
}

// Run runs a command in the machine, as root, outside of any unit, and returns what it printed to
// its standard output and error. It ends with the machine at the latest. A command that runs while
// the machine shuts down delays that by ten seconds: systemd waits, and does not see it end. So
// during a shutdown use Read, Link and BootID.
func (m *Machine) Run(command ...string) (string, error) { return m.feed(nil, command...) }

func (m *Machine) feed(input io.Reader, command ...string) (string, error) {
	leader, err := m.leader()
	if err != nil {
		return "", fmt.Errorf("run %s: %w", command[0], err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	// The shell stays outside of the machine's process namespace, and its children are inside.
	// nsenter could do this too, but stops for ever when systemd stops all processes at the end.
	args := append([]string{"--target", strconv.Itoa(leader), "--all", "--no-fork", "--", "/bin/sh", "-c", `"$@"; exit $?`, "run", "/usr/bin/env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}, m.env...)
	run := exec.CommandContext(ctx, "nsenter", append(args, command...)...)
	run.Stdin = input
	run.WaitDelay = time.Second // what it leaves running may hold its output
	out, err := run.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w", command[0], err)
	}
	return string(out), err
}

// Must is Run of a command that must succeed.
func (m *Machine) Must(command ...string) string {
	m.t.Helper()
	out, err := m.Run(command...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return out
}

// Write writes a file of the machine, atomically; it is executable when it begins with "#!".
func (m *Machine) Write(path, content string) {
	m.t.Helper()
	mode := "644"
	if strings.HasPrefix(content, "#!") {
		mode = "755"
	}
	script := `mkdir -p "$(dirname "$1")" && cat >"$1.new" && chmod "$2" "$1.new" && mv "$1.new" "$1"`
	if out, err := m.feed(strings.NewReader(content), "/bin/sh", "-c", script, "write", path, mode); err != nil {
		m.t.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

// Await waits until something holds. It fails the test if that takes longer than [Patience].
func (m *Machine) Await(what string, holds func() bool) {
	m.t.Helper()
	await(m.t, what, holds)
}

func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	giveUp := time.NewTimer(Patience)
	defer giveUp.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-giveUp.C:
			t.Fatalf("does not come about: %s", what)
		}
	}
}

// Journal returns the last 500 lines of the journal, of all boots, with the messages of the
// machine's start where there are any.
func (m *Machine) Journal() string {
	console, _ := os.ReadFile(m.consoleLog())
	journal, err := m.Run("journalctl", "--no-pager", "--output=short-precise", "--lines=500")
	if err != nil {
		journal += err.Error()
	}
	return string(console) + journal
}
