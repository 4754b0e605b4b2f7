package integration

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
)

const bootScript = "../terraform/install/boot.sh"

// machine is what the boot script sees of a host: programs that note in a trace that they were
// run, and a data directory. Between two boots it stays as it is.
type machine struct {
	t       *testing.T
	dir     string
	env     []string
	set     string // assignments before the script
	script  string // default: boot.sh
	options string // of bash
}

// A pause takes no time, but the shell's clock goes on by it.
const fakeSleep = `sleep() { echo "sleep $1" >>"$TRACE"; SECONDS=$((SECONDS + $1)); }` + "\n"

func newMachine(t *testing.T) *machine {
	t.Helper()
	script, err := os.ReadFile(bootScript)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), script: string(script), options: "-u"}
	m.env = append(os.Environ(), "PATH="+m.path("bin")+":"+os.Getenv("PATH"), "HOME="+m.path("home"), "DIR="+m.dir,
		"TRACE="+m.path("trace"), "NPCNIX_DATA_DIR="+m.path("data"), "npcnix_swap_file="+m.path("swap"))
	m.set = "remote_url=s3://b/npcnix/remotes/dev.npcnix configuration=web npcnix_install_url=flake#install npcnix_swap_mb=2048 npcnix_min_memory_mb=0\n"
	for name, body := range map[string]string{
		// The file fail has the number of runs that are to fail; with the file hang one does not end.
		"nix": `echo nix >>"$TRACE"
for a; do printf '%s\n' "$a"; done >"$DIR/nix-args"
env >"$DIR/nix-env"
[ ! -e "$DIR/swap" ] || echo 'with swap' >>"$TRACE"
while [ -e "$DIR/hang" ]; do sleep 0.05; done
left=$(cat "$DIR/fail" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$DIR/fail"; echo 'error: no network' >&2; exit 7; fi
mkdir -p "$NPCNIX_DATA_DIR"; echo '{ "applied": { "etag": "1" } }' >"$NPCNIX_DATA_DIR/state.json"`,
		"fallocate":   `echo fallocate "$1" "$2" >>"$TRACE"; [ ! -e "$DIR/full" ] || exit 1; : >"$3"`,
		"mkswap":      `echo mkswap >>"$TRACE"`,
		"swapon":      `if [ "$1" = --show ]; then cat "$DIR/swaps" 2>/dev/null; else echo swapon $(stat -c %a "$1") >>"$TRACE"; fi`,
		"swapoff":     `echo swapoff >>"$TRACE"`,
		"systemd-cat": `[ -e "$DIR/journald" ] || exit 1; shift; exec "$@" >>"$DIR/journal" 2>&1`,
	} {
		m.write("bin/"+name, "#!/bin/sh\n"+body+"\n")
		m.must(os.Chmod(m.path("bin", name), 0o755))
	}
	return m
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	m.must(os.WriteFile(m.path(name), []byte(content), 0o644))
}

func (m *machine) read(name string) string {
	data, _ := os.ReadFile(m.path(name))
	return string(data)
}

// start starts the script in a process group of its own.
func (m *machine) start() (*exec.Cmd, *lockedBuffer) {
	m.t.Helper()
	m.write("user-data", "#!/usr/bin/env bash\n"+fakeSleep+m.set+m.script)
	m.must(os.RemoveAll(m.path("trace")))
	out := &lockedBuffer{}
	cmd := exec.Command("bash", m.options, m.path("user-data"))
	cmd.Env, cmd.Stdout, cmd.Stderr = m.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.must(cmd.Start())
	return cmd, out
}

// boot runs the script to its end; it returns the status and what was said.
func (m *machine) boot() (int, string) {
	m.t.Helper()
	cmd, out := m.start()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// boots fails the test unless the boot ends with a status and leaves a trace.
func (m *machine) boots(status int, trace ...string) (said string) {
	m.t.Helper()
	got, said := m.boot()
	if lines := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(m.read("trace"), " ", "_"), "\n", " ")); got != status || !slices.Equal(lines, trace) {
		m.t.Fatalf("status %d, trace %q; want %d, %q; it said:\n%s", got, lines, status, trace, said)
	}
	return said
}

func (m *machine) says(said string, lines ...string) {
	m.t.Helper()
	var got []string
	for line := range strings.Lines(said) {
		got = append(got, strings.TrimSuffix(line, "\n"))
	}
	if !slices.Equal(got, lines) {
		m.t.Fatalf("it said\n%s\nwant\n%s", said, strings.Join(lines, "\n"))
	}
}

func TestBootInstallsOnce(t *testing.T) {
	m := newMachine(t)
	m.says(m.boots(0, "nix"),
		"npcnix-install: installing web from s3://b/npcnix/remotes/dev.npcnix",
		"npcnix-install: npcnix is installed")
	want := []string{"--extra-experimental-features", "nix-command flakes", "run", "-L", "flake#install", "--",
		"--remote", "s3://b/npcnix/remotes/dev.npcnix", "--configuration", "web"}
	if got := strings.Split(strings.TrimSpace(m.read("nix-args")), "\n"); !slices.Equal(got, want) {
		t.Errorf("nix was called with %q, want %q", got, want)
	}
	for range 2 {
		m.says(m.boots(0), "npcnix-install: npcnix is installed already; nothing to do")
	}
}

func TestBootPassesAllThatIsSetAsItIs(t *testing.T) {
	m := newMachine(t)
	m.set = `remote_url='s3://b/it'\''s $HOME "x" *' remote_region=eu-central-1 queue_url='https://sqs/1?a=$(b)' configuration='two words' host='web1.prod'
npcnix_install_url='path:/a b#c' npcnix_substituters='https://one https://two' npcnix_public_keys='one-1:A two-1:B' npcnix_signers=$'release ssh-ed25519 AAAA\n* ssh-ed25519 BBBB $HOME' npcnix_min_memory_mb=0 IFS=/
`
	m.boots(0, "nix")
	want := []string{"--extra-experimental-features", "nix-command flakes",
		"--option", "extra-substituters", "https://one https://two", "--option", "extra-trusted-public-keys", "one-1:A two-1:B",
		"run", "-L", "path:/a b#c", "--",
		"--remote", `s3://b/it's $HOME "x" *`, "--configuration", "two words",
		"--extra-substituters", "https://one", "--extra-substituters", "https://two",
		"--extra-trusted-public-keys", "one-1:A", "--extra-trusted-public-keys", "two-1:B",
		"--remote-region", "eu-central-1",
		"--signer", "release ssh-ed25519 AAAA", "--signer", "* ssh-ed25519 BBBB $HOME",
		"--queue-url", "https://sqs/1?a=$(b)", "--host", "web1.prod"}
	if got := strings.Split(strings.TrimSpace(m.read("nix-args")), "\n"); !slices.Equal(got, want) {
		t.Errorf("nix was called with\n%q, want\n%q", got, want)
	}
}

func TestBootGoesByWhatWasApplied(t *testing.T) {
	target := agent.Target{Remote: "s3://b/dev.npcnix", Configuration: "web", ETag: "1"}
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	applied := agent.State{Schema: 1, Applied: &agent.Applied{Target: target}}
	failed := agent.State{Schema: 1, Failure: &agent.Failure{Target: target, Error: `said "applied": { }`}}
	begun := agent.State{Schema: 1, Intent: &agent.Intent{Target: target, Status: record.Activating}}
	rust := config.Default()
	rust.LastETag = `"abc"`
	for _, c := range []struct {
		name, file, content string
		installs            bool
	}{
		{"a version applied", "state.json", text(applied), false},
		{"a version applied, and the file damaged since", "state.json.damaged", text(applied)[:60], false},
		{"a version applied by the Rust npcnix", "config.json", text(rust), false},
		{"settings alone", "config.json", text(config.Default()), true},
		{"a failure that speaks of it", "state.json", text(failed), true},
		{"an activation cut short", "state.json", text(begun), true},
		{"an empty file", "state.json", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.write("data/"+c.file, c.content)
			if c.installs {
				m.boots(0, "nix")
			} else {
				m.boots(0)
			}
		})
	}
}

func TestBootOutlivesAFailingNetwork(t *testing.T) {
	m := newMachine(t)
	m.write("fail", "4")
	status, said := m.boot()
	trace := strings.Split(strings.TrimSpace(m.read("trace")), "\n")
	if status != 0 || len(trace) != 9 {
		t.Fatalf("status %d, trace %q; want five attempts and four pauses", status, trace)
	}
	if n := strings.Count(said, "ended with status 7; trying again in "); n != 4 {
		t.Errorf("said %d times that it tries again, want 4:\n%s", n, said)
	}
	for i, p := range pauses(t, trace) {
		if nominal := 5 << i; p < nominal/2 || p > nominal/2+nominal {
			t.Errorf("pause %d is %d s, want half to one and a half of %d", i, p, nominal)
		}
	}
}

func TestBootGivesUpWithoutANetwork(t *testing.T) {
	m := newMachine(t)
	m.set += "npcnix_min_memory_mb=99999999\n"
	m.write("fail", "1000")
	status, said := m.boot()
	trace := strings.Split(strings.TrimSpace(m.read("trace")), "\n")
	total := 0
	for _, p := range pauses(t, trace) {
		total += p
		if p > 450 {
			t.Errorf("a pause of %d s", p)
		}
	}
	if status != 1 || total < 1300 || total > 1800 {
		t.Errorf("status %d after pauses of %d s in all; want 1 after about half an hour", status, total)
	}
	if last := said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:]; !strings.Contains(last, "giving up. npcnix is not installed") {
		t.Errorf("its last words are %q", last)
	}
	if _, err := os.Stat(m.path("swap")); err == nil || trace[len(trace)-1] != "swapoff" {
		t.Errorf("the swap file stays; trace %q", trace)
	}
	m.write("fail", "0")
	m.boots(0, "fallocate_-l_2048M", "mkswap", "swapon_600", "nix", "with_swap", "swapoff")
}

func pauses(t *testing.T, trace []string) (secs []int) {
	t.Helper()
	for _, line := range trace {
		if s, ok := strings.CutPrefix(line, "sleep "); ok {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			secs = append(secs, n)
		}
	}
	return secs
}

func TestBootMakesSwapForTheTimeOfTheInstallation(t *testing.T) {
	for _, c := range []struct {
		name, set, file, content string
		trace                    []string
	}{
		{"little memory", "npcnix_swap_mb=1024 npcnix_min_memory_mb=99999999", "none", "", []string{"fallocate_-l_1024M", "mkswap", "swapon_600", "nix", "with_swap", "swapoff"}},
		{"enough memory", "npcnix_min_memory_mb=0", "none", "", []string{"nix"}},
		{"swap already", "npcnix_min_memory_mb=99999999", "swaps", "/dev/nvme1n1 partition 2G 0B -2", []string{"nix"}},
		{"no swap wanted", "npcnix_swap_mb=0 npcnix_min_memory_mb=99999999", "none", "", []string{"nix"}},
		{"no room", "npcnix_min_memory_mb=99999999", "full", "", []string{"fallocate_-l_2048M", "nix"}},
		{"one left over by a crash", "npcnix_min_memory_mb=0", "swap", "", []string{"swapoff", "nix"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.set += c.set + "\n"
			m.write(c.file, c.content)
			m.boots(0, c.trace...)
			if _, err := os.Stat(m.path("swap")); err == nil {
				t.Error("the swap file stays")
			}
		})
	}
}

func TestBootCutShortIsTakenUpByTheNext(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			m := newMachine(t)
			m.set += "npcnix_min_memory_mb=99999999\n"
			m.write("hang", "")
			cmd, _ := m.start()
			await(t, "nix runs with swap", func() bool { return strings.Contains(m.read("trace"), "with swap") })
			m.must(syscall.Kill(-cmd.Process.Pid, signal))
			if err := cmd.Wait(); err == nil {
				t.Fatal("ended well, although it was killed")
			}
			trace := []string{"fallocate_-l_2048M", "mkswap", "swapon_600", "nix", "with_swap", "swapoff"}
			if signal == syscall.SIGKILL {
				trace = append([]string{"swapoff"}, trace...) // the one left over
			} else {
				await(t, "the swap goes", func() bool { _, err := os.Stat(m.path("swap")); return err != nil })
			}
			m.must(os.Remove(m.path("hang")))
			m.boots(0, trace...)
		})
	}
}

func TestBootLeavesTheShellAsItWas(t *testing.T) {
	m := newMachine(t)
	m.options = "-eu"
	// Options, traps, folder and variables, less those that change by themselves.
	shell := `{ set +o; trap; pwd; (set -o posix; set) | grep -Ev '^(_|BASH.*|PIPESTATUS|SECONDS|EPOCH.*|S?RANDOM)='; } >"$DIR/`
	m.set = "trap 'echo the end' EXIT\n" + m.set + "pre_install_script='set -f; cd /; trap date EXIT; leaked=1'\n"
	m.script = shell + "before\"\n" + m.script + "\n" + shell + "after\"\n"
	m.says(m.boots(0, "nix"),
		"npcnix-install: installing web from s3://b/npcnix/remotes/dev.npcnix",
		"npcnix-install: npcnix is installed",
		"the end")
	if before, after := m.read("before"), m.read("after"); before != after || before == "" {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestBootSpeaksToTheJournalWhereThereIsOne(t *testing.T) {
	m := newMachine(t)
	m.write("journald", "")
	m.write("fail", "1")
	status, said := m.boot()
	if status != 0 || said != "" {
		t.Errorf("status %d, said %q beside the journal", status, said)
	}
	journal := m.read("journal")
	for _, line := range []string{"npcnix-install: installing web from", "error: no network", "npcnix-install: attempt 1 ended with status 7", "npcnix-install: npcnix is installed"} {
		if strings.Count(journal, line) != 1 {
			t.Errorf("the journal has %q %d times, want once:\n%s", line, strings.Count(journal, line), journal)
		}
	}
}

func TestBootNeedsRemoteAndConfiguration(t *testing.T) {
	for _, missing := range []string{"remote_url", "configuration", "npcnix_install_url"} {
		m := newMachine(t)
		m.set += "unset " + missing + "\n"
		status, said := m.boot()
		if status == 0 || !strings.Contains(said, missing+": must be set before the install script") || m.read("trace") != "" {
			t.Errorf("without %s: status %d, trace %q, said %q", missing, status, m.read("trace"), said)
		}
	}
}
