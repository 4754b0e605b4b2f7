package nixos

import (
	"os"
	"strings"
	"testing"
)

// TestFirmwareBootsWhatTheAgentPublished has OVMF start systemd-boot, and that a real kernel, of a host whose agent takes
// a version to which it cannot switch, and restarts the machine for it. Minutes where there is no KVM: `make matrix` runs it.
func TestFirmwareBootsWhatTheAgentPublished(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_FIRMWARE") == "" {
		t.Skip("NPCNIX_TEST_FIRMWARE is not set: make matrix")
	}
	v := newVirtual(t, `
		services.npcnix = { reboot = "when-needed"; rebootWindow = "03:00-03:01"; };
		system.switch.inhibitors.dbus = lib.mkDefault "dbus";
	`, `system.switch.inhibitors.dbus = "broker";`)
	v.start("")
	zero := v.await("booted zero")
	if !strings.Contains(zero, "entry nixos-generation-1.conf") {
		t.Errorf("systemd-boot has not started the first generation: %s", zero)
	}
	v.await("published one")
	v.await("reboot_pending")
	one := v.await("booted one")
	if !strings.Contains(one, "entry nixos-generation-2.conf") {
		t.Errorf("systemd-boot has not started the second generation: %s", one)
	}
	v.await("applied")
	t.Logf("before: %s; after: %s", zero, one)
}
