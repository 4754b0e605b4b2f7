package machine

import (
	"cmp"
	"errors"
	"maps"
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
	each(t, Options{Files: map[string]string{"/usr/lib/systemd/system/debian.service": daemon("debian")}}, func(t *testing.T, m *Machine) {
		m.Must("systemctl", "start", "debian")
		one := m.Install(System{Version: "one", Kernel: "6.1", Units: map[string]string{
			"same.service": daemon("same"), "changed.service": daemon("1"), "gone.service": daemon("gone"),
			"kept.service": daemon("1", "X-RestartIfChanged=false"), "stays.service": daemon("stays", "[Unit]", "X-StopOnRemoval=false"),
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
		if to := m.Link("/etc/systemd/system"); to != one+"/units" || !m.Exists("/etc/NIXOS") {
			t.Errorf("units are in %s; /etc/NIXOS: %v", to, m.Exists("/etc/NIXOS"))
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

// oneshot is the text of a unit that runs a command once.
func oneshot(command string, more ...string) string {
	return strings.Join(more, "\n") + "\n[Service]\nType=oneshot\nExecStart=" + command + "\n[Install]\nWantedBy=multi-user.target\n"
}

// anyErrno is the status of a switch that ends with what errno happens to be.
const anyErrno = -1

// outcome is what a switch is to do.
type outcome struct {
	system  System
	action  string
	noCheck string // NIXOS_NO_CHECK
	status  int
	prints  []string // in this order
	runs    string   // the version that runs afterwards
	boots   string   // the version that is the boot default
	web     string   // the state of web.service, "" for active
}

func switchStatus(t *testing.T) {
	t.Parallel()
	web := func(more ...string) map[string]string { return map[string]string{"web.service": daemon("2", more...)} }
	with := func(units map[string]string, name, text string) map[string]string {
		units[name] = text
		return units
	}
	other := System{Version: "inhibited", Inhibitors: map[string]string{"dbus": "broker", "new": "1"}}
	for machine, outcomes := range map[string][]outcome{
		"checks, boot loader, scripts": {
			{other, "switch", "", 1, []string{"dbus : dbus -> broker", "Pre-switch check 'switchInhibitors' failed", "Pre-switch checks failed"}, "base", "base", ""},
			{other, "check", "", 1, []string{"Pre-switch checks failed"}, "base", "base", ""},
			{other, "boot", "", 0, nil, "base", "inhibited", ""},
			{other, "test", "1", 0, []string{"activating the configuration..."}, "inhibited", "base", ""},
			{System{Version: "bootloader", Bootloader: "exit 7"}, "switch", "", anyErrno, []string{"Failed to install bootloader"}, "base", "base", ""},
			{System{Version: "early", Before: "exit 3"}, "switch", "", 3, nil, "base", "base", ""},
			{System{Version: "late", After: "exit 3"}, "switch", "", 3, nil, "late", "late", ""},
			{System{Version: "init", Init: "systemd 3"}, "switch", "", 100, []string{"incompatible"}, "base", "init", ""},
			{System{Version: "systemd", SystemConf: "[Manager]\nLogLevel=info\n"}, "test", "", 0, []string{"restarting systemd..."}, "systemd", "base", ""},
			{System{Version: "usage"}, "build", "", 1, []string{"Usage"}, "base", "base", ""},
		},
		"units": {
			{System{Version: "changed", Units: web()}, "test", "", 0, []string{
				"stopping the following units: web.service", "activating the configuration...", "setting up /etc...",
				"restarting sysinit-reactivation.target", "starting the following units: web.service"}, "changed", "base", ""},
			{System{Version: "removed", Units: map[string]string{"web.service": ""}}, "test", "", 0, []string{"stopping the following units: web.service"}, "removed", "base", "inactive"},
			{System{Version: "masked", Units: map[string]string{"web.service": Masked}}, "test", "", 0, []string{"stopping the following units: web.service"}, "masked", "base", "inactive"},
			{System{Version: "failing", Units: map[string]string{"failing.service": oneshot("false")}}, "switch", "", 4,
				[]string{"warning: the following units failed: failing.service\n"}, "failing", "failing", ""},
			{System{Version: "crashing", Units: map[string]string{"crashing.service": daemon("crashes", "ExecStart=", "ExecStart=false", "Restart=always", "RestartSec=1000")}}, "test", "", 4,
				[]string{"units failed: crashing.service\n"}, "crashing", "base", ""},
			{System{Version: "web-fails", Units: web("ExecStartPre=false")}, "test", "", 4,
				[]string{"starting the following units: web.service", "Failed to start web.service", "units failed: web.service"}, "web-fails", "base", "failed"},
			{System{Version: "dependency", Units: with(web("[Unit]", "Requires=setup.service", "After=setup.service"), "setup.service", oneshot("false"))}, "test", "", 4,
				[]string{"Failed to start web.service", "units failed: setup.service"}, "dependency", "base", "inactive"},
			{System{Version: "no-dependency", Units: web("[Unit]", "Requires=nosuch.service", "After=nosuch.service")}, "test", "", 4,
				[]string{"Failed to start web.service"}, "no-dependency", "base", "inactive"},
			{System{Version: "snippet", Activation: "exit 9"}, "test", "", 2,
				[]string{"Activation script snippet 'test' failed (9)", "Failed to run activate script"}, "snippet", "base", ""},
			{System{Version: "snippet-and-unit", Activation: "exit 9", Units: map[string]string{"failing.service": oneshot("false")}}, "test", "", 4,
				[]string{"Activation script snippet 'test' failed (9)", "Failed to run activate script", "units failed: failing.service"}, "snippet-and-unit", "base", ""},
		},
	} {
		t.Run(machine, func(t *testing.T) {
			t.Parallel()
			m := Boot(t, Options{})
			base := m.Install(System{Version: "base", Units: map[string]string{"web.service": daemon("1")}, Inhibitors: map[string]string{"dbus": "dbus", "gone": "1"}})
			for _, o := range outcomes {
				o.check(t, m)
				m.Must("env", "NIXOS_NO_CHECK=1", base+"/bin/switch-to-configuration", "switch")
			}
		})
	}
}

// check switches to the system, and looks at what comes of it.
func (o outcome) check(t *testing.T, m *Machine) {
	t.Helper()
	units := map[string]string{"web.service": daemon("1")}
	maps.Copy(units, o.system.Units)
	maps.DeleteFunc(units, func(_, text string) bool { return text == "" })
	o.system.Units = units
	out, err := m.Run("env", "NIXOS_NO_CHECK="+o.noCheck, m.Build(o.system)+"/bin/switch-to-configuration", o.action)
	boots := strings.TrimSpace(m.Read(BootDefault + "/version"))
	if got := status(t, err); (got != o.status && !(o.status == anyErrno && got != 0)) || m.Version() != o.runs || boots != o.boots {
		t.Errorf("%s %s: status %d, runs %s, boots %s; want %d, %s, %s\n%s", o.action, o.system.Version, got, m.Version(), boots, o.status, o.runs, o.boots, out)
	}
	rest := out
	for _, text := range o.prints {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Errorf("%s %s does not print %q in its place:\n%s", o.action, o.system.Version, text, out)
		}
		rest = after
	}
	if state := m.Unit("web.service", "ActiveState"); state != cmp.Or(o.web, "active") {
		t.Errorf("%s %s: web.service is %s\n%s", o.action, o.system.Version, state, out)
	}
}

func switchLock(t *testing.T) {
	t.Parallel()
	each(t, Options{}, func(t *testing.T, m *Machine) {
		m.Install(System{Version: "one", Units: map[string]string{"a.service": daemon("1")}})
		two := m.Build(System{Version: "two", Activation: "[ -e /run/go-on ] || { touch /run/waits; exec sleep 1000; }",
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
