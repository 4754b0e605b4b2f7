package nixos

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/integration/machine"
)

// A folder that is laid out as nixpkgs is, of what the parts have.
func TestPartsAreCollectedFromACheckout(t *testing.T) {
	parts := machine.Parts(t)
	checkout, dest := t.TempDir(), filepath.Join(t.TempDir(), "parts")
	for to, from := range map[string]string{
		"nixos/lib/systemd-lib.nix":                                                             "systemd-lib.nix",
		"nixos/lib/systemd-unit-options.nix":                                                    "systemd-unit-options.nix",
		"nixos/modules/system/etc/setup-etc.pl":                                                 "setup-etc.pl",
		"nixos/modules/system/activation/switch-to-configuration.pl":                            "stc.pl",
		"nixos/modules/system/boot/loader/generic-extlinux-compatible/extlinux-conf-builder.sh": "extlinux-conf-builder.sh",
		"nixos/modules/system/boot/loader/systemd-boot/systemd-boot-builder.py":                 "systemd-boot-builder.py",
	} {
		text, err := os.ReadFile(filepath.Join(parts, from))
		if err == nil {
			err = os.MkdirAll(filepath.Join(checkout, filepath.Dir(to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(checkout, to), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(checkout, "lib"), os.DirFS(filepath.Join(parts, "lib"))); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(machine.Root(t), "integration", "nixos-parts.sh"), dest, checkout).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("NPCNIX_NIXOS_PARTS", dest)
	for _, part := range []string{"pre-switch-check.sh", "stc.pl", "systemd-boot-builder.py", "systemd-unit-options.nix"} {
		if _, err := os.Stat(filepath.Join(machine.Parts(t), part)); err != nil {
			t.Error(err)
		}
	}
	if out, err := exec.Command(filepath.Join(machine.Root(t), "integration", "nixos-parts.sh"), dest, t.TempDir()).CombinedOutput(); err == nil {
		t.Errorf("a folder that is no checkout is taken for one: %s", out)
	}
}
