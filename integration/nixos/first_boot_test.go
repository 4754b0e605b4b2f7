package nixos

import (
	"os"
	"strings"
	"testing"
)

// install is user data that set up a host.
const install = `#!/bin/bash
exec /opt/npcnix install --remote ` + remote + ` --configuration ` + configuration + ` --host ` + configuration + ` --option substituters ''
`

// An image has no agent: the user data install the host, in the course of its first boot. (Not with the Rust
// switch-to-configuration of 2024: that waits for the end of a boot which waits for it.)
func TestUserDataInstallTheHostAtItsFirstBoot(t *testing.T) {
	for _, column := range []struct{ flavour, suite string }{{RustNow, "trixie"}, {Perl2022, "bookworm"}} {
		t.Run(column.flavour, func(t *testing.T) {
			t.Parallel()
			h, etag := NewBare(t, Options{Suite: column.suite, Flavour: column.flavour, Agent: agentBinary, Module: Module(t)}, install)
			h.installed(etag)
			h.Kill()
			h.Boot()
			h.stands("one")
			if got := h.Runs(); got != "one" {
				t.Errorf("%s runs", got)
			}
		})
	}
}

// The next boot runs the user data again, and so the host is installed in the end.
func TestPowerIsLostWhileUserDataInstallTheHost(t *testing.T) {
	points := map[string]func(h *Host) bool{
		"before the activation": func(h *Host) bool {
			state, _ := h.Run("systemctl", "is-active", "amazon-init") // the machine might not be up yet
			return strings.TrimSpace(state) == "activating"
		},
		"in the switch":             func(h *Host) bool { return h.Phase() == "switching" || h.Ended() && h.Phase() != "" },
		"when it has been switched": func(h *Host) bool { return h.Phase() == "committed" },
	}
	for name, reached := range points {
		if os.Getenv("NPCNIX_TEST_MATRIX") == "" && name != "in the switch" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, etag := NewBare(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t)}, install)
			h.Await("the point "+name, func() bool { return reached(h) })
			state, _ := h.Run("systemctl", "show", "--property=ActiveState", "--value", "amazon-init") // systemd may be restarting
			t.Logf("power is lost in the phase %q, with amazon-init %s", h.Phase(), strings.TrimSpace(state))
			h.Kill()
			h.Start()
			h.installed(etag)
		})
	}
}

// installed checks that a host has come to run and boot the version one, by itself.
func (h *Host) installed(etag string) {
	h.t.Helper()
	if r := h.Final(etag); r.Status != "applied" {
		h.t.Errorf("the first version is %s: %s", r.Status, r.Text())
	}
	h.stands("one")
	if got := h.Runs(); got != "one" {
		h.t.Errorf("%s runs", got)
	}
}
