package machine

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// each runs a test on a machine of each suite.
func each(t *testing.T, o Options, test func(t *testing.T, m *Machine)) {
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			o := o // one for each suite
			o.Suite = suite
			test(t, Boot(t, o))
		})
	}
}

func TestMachine(t *testing.T) {
	t.Parallel()
	t.Run("runs a real systemd", realSystemd)
	t.Run("keeps its disk and loses its processes", keepsDisk)
	t.Run("does not outlive the process of its test", nothingLeft)
	t.Run("can be killed at any instant of its boot", killedInBoot)
	t.Run("is off when it has switched itself off", switchedOff)
}

func realSystemd(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the host") }))
	t.Cleanup(server.Close)
	bound := filepath.Join(t.TempDir(), "bound")
	if err := os.WriteFile(bound, []byte("bound\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, Options{
		Binds: map[string]string{"/srv/bound": bound},
		Env:   map[string]string{"GREETING": `100% "good" day`},
		Files: map[string]string{"/srv/file": "file\n", "/srv/script": "#!/bin/sh\necho script\n"},
	}, func(t *testing.T, m *Machine) {
		if state := m.Must("systemctl", "is-system-running"); state != "running\n" {
			t.Errorf("systemd is %s%s", state, m.Must("systemctl", "--failed", "--no-pager"))
		}
		if version := m.Must("nix", "--version"); !strings.Contains(version, map[string]string{"trixie": "2.26.", "bookworm": "2.8."}[m.options.Suite]) {
			t.Errorf("nix of %s is %s", m.options.Suite, version)
		}
		if out := m.Must("cat", "/srv/bound", "/srv/file") + m.Must("/srv/script"); out != "bound\nfile\nscript\n" {
			t.Errorf("files: %q", out)
		}
		if out := m.Must("busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
			"org.freedesktop.systemd1.Manager", "SystemState"); out != "s \"running\"\n" {
			t.Errorf("D-Bus: %q", out)
		}

		if out := m.Must("systemd-run", "--wait", "--pipe", "--quiet", "--unit=transient", "sh", "-c",
			`echo "$GREETING"; cat /proc/self/cgroup`); !strings.HasPrefix(out, `100% "good" day`+"\n") || !strings.Contains(out, "/system.slice/transient.service") {
			t.Errorf("a transient service prints %q", out)
		}
		if out, err := m.Run("systemd-run", "--wait", "--quiet", "sh", "-c", "exit 3"); err == nil {
			t.Errorf("a transient service that fails does not: %q", out)
		}
		m.Must("systemd-run", "--unit=later", "--on-active=100ms", "--timer-property=AccuracySec=1ms", "touch", "/run/timer-fired")
		m.Await("the transient timer", func() bool { return m.Exists("/run/timer-fired") })
		// A unit of Type=notify has started when it says so, and not before.
		m.Must("systemd-run", "--unit=notifying", "--property=Type=notify", "--property=NotifyAccess=all",
			"sh", "-c", "touch /run/began; systemd-notify --ready --status=good; exec sleep 1000")
		if out := m.Must("systemctl", "show", "--property=StatusText", "notifying"); out != "StatusText=good\n" {
			t.Errorf("a unit that notifies has %q", out)
		}
		m.Must("systemd-run", "--wait", "--quiet", "logger", "said in the machine")
		m.Await("the journal", func() bool { return strings.Contains(m.Journal(), "said in the machine") })

		if out := m.Must("perl", "-MIO::Socket::INET", "-e",
			`my $s = IO::Socket::INET->new(PeerAddr => shift) or die "$!"; print $s "GET / HTTP/1.0\r\n\r\n"; print <$s>`,
			strings.TrimPrefix(server.URL, "http://")); !strings.HasSuffix(out, "the host") {
			t.Errorf("the host's server answers %q", out)
		}
	})
}

func keepsDisk(t *testing.T) {
	t.Parallel()
	each(t, Options{}, func(t *testing.T, m *Machine) {
		lives := func() bool { _, err := m.Run("systemctl", "is-active", "lives"); return err == nil }
		start := func() { m.Must("systemd-run", "--unit=lives", "sleep", "1000") }
		m.Write("/var/lib/kept", "kept")
		m.Write("/nix/kept", "kept")
		m.Write("/run/lost", "lost")
		kept := func() {
			t.Helper()
			if m.Read("/var/lib/kept") != "kept" || m.Read("/nix/kept") != "kept" || m.Read("/run/lost") != "" {
				t.Error("the machine does not have what it should")
			}
			if lives() {
				t.Error("a process outlives its machine")
			}
		}
		start()
		id := m.BootID()
		outer, err := m.leader()
		if err != nil || !lives() {
			t.Fatal(err)
		}
		m.Kill()
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", outer)); err == nil {
			t.Error("process 1 outlives its machine")
		}
		if _, err := m.Run("true"); err == nil {
			t.Error("a machine that is off runs commands")
		}
		m.Boot()
		if m.BootID() == id {
			t.Error("a boot is not another one")
		}
		kept()
		start()
		m.Reboot()
		kept()
		if boots := strings.Count(m.Must("journalctl", "--no-pager", "--list-boots", "--quiet"), "\n"); boots < 3 {
			t.Errorf("the journal knows of %d boots", boots)
		}
	})
}

// Killed like a test binary is on a timeout, it cannot clean up: what runs the machine does.
func nothingLeft(t *testing.T) {
	if disk := os.Getenv("MACHINE_TEST_DIES"); disk != "" {
		m := Boot(t, Options{})
		leader, err := m.leader()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%d %s\n", leader, m.disk)
		_, _ = io.ReadAll(os.Stdin) // until killed
		return
	}
	t.Parallel()
	if _, err := findRoot("trixie"); err != nil && os.Getenv("NPCNIX_REQUIRE_ALL") == "" {
		t.Skip(err)
	}
	child := helper(t)
	var leader int
	var disk string
	if _, err := fmt.Fscan(child.out, &leader, &disk); err != nil {
		t.Fatal(err)
	}
	_ = child.cmd.Process.Kill()
	_ = child.cmd.Wait()
	pid := child.cmd.Process.Pid
	for _, left := range []string{
		fmt.Sprintf("/proc/%d", leader), disk,
		fmt.Sprintf("/sys/fs/cgroup/npcnix-%d-*", pid), fmt.Sprintf("/sys/fs/cgroup/*/npcnix-%d-*", pid),
	} {
		await(t, left+" is gone", func() bool { found, _ := filepath.Glob(left); return len(found) == 0 })
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), disk) {
		t.Errorf("a mount is left (%v)", err)
	}
}

func killedInBoot(t *testing.T) {
	t.Parallel()
	m := Boot(t, Options{})
	toplevel := m.Install(System{Version: "one", Units: map[string]string{"a.service": daemon("a")}})
	for i := range 10 {
		m.Kill()
		m.Start()
		switch i % 3 {
		case 1:
			m.Await("the boot has an identity", func() bool { return m.BootID() != "" })
		case 2:
			m.Await("the system is activated", func() bool { return m.Version() == "one" })
		}
	}
	m.Kill()
	m.Boot()
	if m.Link(CurrentSystem) != toplevel || m.Unit("a", "ActiveState") != "active" {
		t.Error("the machine does not come up as it was")
	}
}

func switchedOff(t *testing.T) {
	t.Parallel()
	m := Boot(t, Options{})
	m.Must("systemctl", "poweroff")
	m.Await("the machine is off", func() bool { return !m.isOn() })
	if m.Exists("/etc") || m.BootID() != "" {
		t.Error("something of the machine is on")
	}
	m.Boot()
}
