package machine

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// daemon is the text of a unit that runs for ever, and of which text says which edition it is.
func daemon(text string, more ...string) string {
	return "[Unit]\nDescription=" + text + "\n[Service]\nEnvironment=TEXT=" + text + "\nExecStart=sleep 1000000\n" +
		strings.Join(more, "\n") + "\n[Install]\nWantedBy=multi-user.target\n"
}

func status(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	t.Run("stops, restarts and starts units", switchUnits)
	t.Run("ends with the status of NixOS", switchStatus)
	t.Run("holds the lock, and another goes on where it was killed", switchLock)
}

func switchUnits(t *testing.T) {
	t.Parallel()
	each(t, Options{Files: map[string]string{"/etc/systemd/system/debian.service": daemon("debian")}}, func(t *testing.T, m *Machine) {
		m.Must("systemctl", "start", "debian")
		one := m.Install(System{Version: "one", Kernel: "6.1", Units: map[string]string{
			"same.service": daemon("same"), "changed.service": daemon("1"), "gone.service": daemon("gone"),
			"kept.service": daemon("1", "X-RestartIfChanged=false"), "stays.service": daemon("stays", "X-StopOnRemoval=false"),
			"again.service": daemon("1", "X-StopIfChanged=false"),
		}})
		if m.Version() != "one" || m.Link(CurrentSystem) != one || m.Link(BootDefault) != one || m.Link(Profile) != one {
			t.Errorf("one is not installed: running %s", m.Link(CurrentSystem))
		}
		units := []string{"same", "changed", "kept", "stays", "again", "debian"}
		pids := map[string]string{}
		for _, unit := range append(units, "gone") {
			pids[unit] = m.Unit(unit, "MainPID")
			if pids[unit] == "0" {
				t.Errorf("%s does not run", unit)
			}
		}
		if path := m.Unit("same", "FragmentPath"); path != "/etc/systemd/system/same.service" {
			t.Errorf("a unit is at %s", path)
		}

		two := m.Build(System{Version: "two", Kernel: "6.2", Units: map[string]string{
			"same.service": daemon("same"), "changed.service": daemon("2"), "kept.service": daemon("2", "X-RestartIfChanged=false"),
			"again.service": daemon("2", "X-StopIfChanged=false"), "new.service": daemon("new"),
		}})
		if out := m.Must(two+"/bin/switch-to-configuration", "dry-activate"); !strings.Contains(out, "would stop the following units: changed.service, gone.service\n") || m.Version() != "one" {
			t.Errorf("dry-activate prints %q, and %s runs", out, m.Version())
		}
		m.Must(two+"/bin/switch-to-configuration", "test")
		if m.Version() != "two" || m.Link(BootDefault) != one {
			t.Errorf("test: runs %s, boots %s", m.Version(), m.Link(BootDefault))
		}
		restarted := map[string]bool{"changed": true, "again": true}
		for _, unit := range units {
			if pid := m.Unit(unit, "MainPID"); pid == "0" || (pid != pids[unit]) != restarted[unit] {
				t.Errorf("%s had process %s and has %s", unit, pids[unit], pid)
			}
		}
		if m.Unit("gone", "ActiveState") != "inactive" || m.Unit("gone", "LoadState") != "not-found" || m.Unit("new", "ActiveState") != "active" {
			t.Error("gone is not gone, or new not there")
		}
		if m.Link(one+"/kernel") == m.Link(two+"/kernel") || m.Link(one+"/initrd") != m.Link(two+"/initrd") {
			t.Error("kernel and initrd do not show what changed")
		}

		m.Kill()
		m.Boot()
		if m.Version() != "one" || m.Link(BootedSystem) != one || m.Unit("gone", "ActiveState") != "active" || m.Unit("new", "LoadState") != "not-found" {
			t.Error("test has changed what boots")
		}
		m.Must(two+"/bin/switch-to-configuration", "boot")
		if m.Version() != "one" || m.Link(BootDefault) != two {
			t.Error("boot has not set the default alone")
		}
		m.Reboot()
		if m.Version() != "two" || m.Link(BootedSystem) != two || m.Unit("new", "ActiveState") != "active" {
			t.Error("the default does not boot")
		}
		want := []Switch{{"one", "switch", "0"}, {"two", "test", "0"}, {"two", "boot", "0"}}
		if got := m.Switches(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("switches: %v", got)
		}
	})
}

func switchStatus(t *testing.T) {
	t.Parallel()
	failing := "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n"
	crashing := "[Service]\nExecStart=false\nRestart=always\nRestartSec=1000\n[Install]\nWantedBy=multi-user.target\n"
	m := Boot(t, Options{})
	base := m.Install(System{Version: "base", Inhibitors: map[string]string{"dbus": "dbus", "gone": "1"}})
	for _, test := range []struct {
		system  System
		action  string
		noCheck string // NIXOS_NO_CHECK
		status  int
		prints  string
		runs    string // the version that runs afterwards
		boots   string // the version that is the boot default
	}{
		{System{Version: "inhibited", Inhibitors: map[string]string{"dbus": "broker", "new": "1"}}, "switch", "", 1, "dbus : dbus -> broker\n", "base", "base"},
		{System{Version: "inhibited", Inhibitors: map[string]string{"dbus": "broker", "new": "1"}}, "check", "", 1, "Pre-switch checks failed\n", "base", "base"},
		{System{Version: "inhibited", Inhibitors: map[string]string{"dbus": "broker", "new": "1"}}, "boot", "", 0, "", "base", "inhibited"},
		{System{Version: "inhibited", Inhibitors: map[string]string{"dbus": "broker", "new": "1"}}, "test", "1", 0, "activating", "inhibited", "base"},
		{System{Version: "bootloader", Bootloader: "exit 7"}, "switch", "", 1, "Failed to install bootloader", "base", "base"},
		{System{Version: "early", Before: "exit 3"}, "switch", "", 3, "", "base", "early"},
		{System{Version: "late", After: "exit 3"}, "switch", "", 3, "", "late", "late"},
		{System{Version: "init", Init: "systemd 3"}, "switch", "", 100, "incompatible", "base", "init"},
		{System{Version: "failing", Units: map[string]string{"failing.service": failing}}, "switch", "", 4, "units failed: failing.service\n", "failing", "failing"},
		{System{Version: "crashing", Units: map[string]string{"crashing.service": crashing}}, "test", "", 4, "units failed: crashing.service\n", "crashing", "base"},
		{System{Version: "usage"}, "build", "", 1, "Usage", "base", "base"},
	} {
		toplevel := m.Build(test.system)
		out, err := m.Run("env", "NIXOS_NO_CHECK="+test.noCheck, toplevel+"/bin/switch-to-configuration", test.action)
		boots := strings.TrimSpace(m.Read(BootDefault + "/version"))
		if got := status(t, err); got != test.status || !strings.Contains(out, test.prints) || m.Version() != test.runs || boots != test.boots {
			t.Errorf("%s %s: status %d, runs %s, boots %s; want %+v\n%s", test.action, test.system.Version, got, m.Version(), boots, test, out)
		}
		m.Must("env", "NIXOS_NO_CHECK=1", base+"/bin/switch-to-configuration", "switch")
	}
}

func switchLock(t *testing.T) {
	t.Parallel()
	each(t, Options{}, func(t *testing.T, m *Machine) {
		m.Install(System{Version: "one", Units: map[string]string{"a.service": daemon("1")}})
		two := m.Build(System{Version: "two", Before: "[ -e /run/go-on ] || { touch /run/waits; exec sleep 1000; }",
			Units: map[string]string{"a.service": daemon("2")}})
		m.Must("systemd-run", "--unit=activate", two+"/bin/switch-to-configuration", "test")
		m.Await("the switch waits", func() bool { return m.Exists("/run/waits") })
		out, err := m.Run(two+"/bin/switch-to-configuration", "boot")
		if status(t, err) != 11 || out != "Could not acquire lock\n" {
			t.Errorf("the lock does not hold: %v: %s", err, out)
		}
		m.Must("systemctl", "kill", "--signal=KILL", "activate")
		m.Await("the switch is dead", func() bool { return m.Unit("activate", "ActiveState") == "failed" })
		m.Must("systemctl", "stop", "a")
		m.Must("touch", "/run/go-on")
		m.Must(two+"/bin/switch-to-configuration", "test")
		if m.Version() != "two" || m.Unit("a", "ActiveState") != "active" || m.Unit("activate", "LoadState") != "not-found" {
			t.Error("the second switch does not end what the first began")
		}
		if got := m.Switches(); len(got) != 3 || got[1].Status != "" || got[2].Status != "0" {
			t.Errorf("switches: %v", got)
		}
	})
}
