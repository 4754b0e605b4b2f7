package machine

import (
	"slices"
	"strings"
)

// Switch is one run of a switch-to-configuration, as [Switches] tells of it.
type Switch struct {
	Version, Action string
	Status          string // "" if it still runs or was killed
}

// Build builds a system in the machine, out of a flake of its own, and returns its toplevel, which
// a garbage collector root of that name protects.
//
// Without NixOS's parts the test is skipped; with NPCNIX_REQUIRE_ALL it fails.
func (m *Machine) Build(s System) string {
	m.t.Helper()
	needSwitch(m.t)
	text, err := flake("machine", map[string]System{"machine": s})
	if err != nil {
		m.t.Fatal(err)
	}
	dir := "/var/lib/machine/flakes/" + plain(s.Version)
	m.Write(dir+"/flake.nix", text)
	m.Must("nix", "build", "--out-link", "/nix/var/nix/gcroots/machine-"+plain(s.Version),
		"path:"+dir+"#nixosConfigurations.machine.config.system.build.toplevel")
	return strings.TrimSpace(m.Must("readlink", "-f", "/nix/var/nix/gcroots/machine-"+plain(s.Version)))
}

// Install makes a system the running one, the profile's newest generation and the boot loader's
// default, as nixos-rebuild does. The first one makes a NixOS of the machine: what Debian has in
// /etc/systemd/system goes. It returns the toplevel.
func (m *Machine) Install(s System) string {
	m.t.Helper()
	toplevel := m.Build(s)
	m.Must("nix-env", "--profile", Profile, "--set", toplevel)
	if m.Link(CurrentSystem) == "" { // as nixos-install does: it is no NixOS yet
		m.Must("rm", "-rf", "/etc/systemd/system", "/etc/systemd/user")
		m.Must(toplevel + "/activate")
		m.Must("systemctl", "daemon-reload")
	}
	m.Must(toplevel+"/bin/switch-to-configuration", "switch")
	return toplevel
}

// Version returns the version of the running system; "" where none has been activated.
func (m *Machine) Version() string {
	return strings.TrimSpace(m.Read(CurrentSystem + "/version"))
}

// lockTaken is how a switch-to-configuration ends whose lock another one has.
const lockTaken = "11"

// Switches returns the runs of any switch-to-configuration, in the order in which they began. One that did
// not get NixOS's lock is none.
func (m *Machine) Switches() []Switch {
	var switches []Switch
	running := map[string]int{} // the last switch of each process number
	for line := range strings.Lines(m.Read(Switches)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 4 && words[2] == "begin":
			running[words[3]] = len(switches)
			switches = append(switches, Switch{Version: words[0], Action: words[1]})
		case len(words) == 5 && words[2] == "end":
			if i, ok := running[words[3]]; ok {
				switches[i].Status = words[4]
			}
		}
	}
	return slices.DeleteFunc(switches, func(s Switch) bool { return s.Status == lockTaken })
}

// Unit returns a property of a unit, such as ActiveState or MainPID.
func (m *Machine) Unit(unit, property string) string {
	m.t.Helper()
	return strings.TrimSpace(m.Must("systemctl", "show", "--property="+property, "--value", unit))
}
