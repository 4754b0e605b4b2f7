package activation

import (
	"strings"
	"testing"
)

func TestTelling(t *testing.T) {
	for _, c := range []struct {
		name, output, want string
	}{
		{"nothing", "", ""},
		{"what failed in the activation, not what came after it",
			"activating the configuration...\nActivation script snippet 'etc' failed (1)\nrestarting sysinit-reactivation.target\nFailed to restart sysinit-reactivation.target: no\nwarning: the following units failed: web.service",
			"Activation script snippet 'etc' failed (1)"},
		{"what could not be done, not which units failed for that", "restarting sysinit-reactivation.target\nFailed to start web.service\nwarning: the following units failed: web.service",
			"Failed to start web.service"},
		{"the first of such lines", "Failed to start setup.service\nFailed to start web.service", "Failed to start setup.service"},
		{"the boot loader's", "installing to /boot\nFailed to install bootloader", "Failed to install bootloader"},
		{"an error of the Rust program", "Error: Failed to open /nix/store\n\nCaused by:\n    EIO", "Error: Failed to open /nix/store"},
		{"a check", "Pre-switch check 'disk' failed\nPre-switch checks failed", "Pre-switch check 'disk' failed"},
		{"a dependency", "starting the following units: web.service\nA dependency job for web.service failed. See 'journalctl -xe' for details.", "A dependency job for web.service failed. See 'journalctl -xe' for details."},
		{"units, before what systemctl says of them", "warning: the following units failed: web.service\n\n× web.service\n     Loaded: loaded", "warning: the following units failed: web.service"},
		{"the last line that is no progress", "no space left\nreloading the following units: dbus.service\nrestarting sysinit-reactivation.target\nsetting up tmpfiles", "no space left"},
		{"progress, where there is nothing else", "activating the configuration...\nsetting up /etc...", "setting up /etc..."},
		{"what is no word of NixOS's", "a\nb", "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tail []string
			if c.output != "" {
				tail = strings.Split(c.output, "\n")
			}
			if got := telling(tail); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
