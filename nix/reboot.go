package nix

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/npcnix/npcnix/nix/systemd"
)

// booted is the link to the system that the machine was booted into.
func (h *Host) booted() string {
	return filepath.Join(filepath.Dir(h.opts.CurrentSystem), "booted-system")
}

// RebootDue says why the machine needs a restart before all of the running system is in use: its kernel,
// initial RAM disk or kernel modules are not those that were booted (as NixOS's system.autoUpgrade
// tells). "" if it needs none, or if that cannot be told.
func (h *Host) RebootDue(context.Context) (string, error) {
	if part := differs(h.booted(), h.opts.CurrentSystem, "kernel", "initrd", "kernel-modules"); part != "" {
		return part + " is not the one that was booted", nil
	}
	return "", nil
}

// BootsOther reports whether a boot loader loads other files for one system than for another.
func (h *Host) BootsOther(a, b System) bool { return differs(a.Path, b.Path, "kernel", "initrd") != "" }

// differs returns the first of some parts that two systems have, and which is not the same.
func differs(a, b string, parts ...string) string {
	for _, part := range parts {
		one, err := filepath.EvalSymlinks(filepath.Join(a, part))
		if err != nil {
			continue
		}
		other, err := filepath.EvalSymlinks(filepath.Join(b, part))
		if err == nil && one != other {
			return part
		}
	}
	return ""
}

// Reboot restarts the machine, in an orderly way.
func (h *Host) Reboot(ctx context.Context) error {
	if !systemd.Running() {
		return fmt.Errorf("%w: restart the machine: systemd does not run it", ErrMachine)
	}
	return Blame(ctx, systemd.Systemctl(ctx, "reboot"))
}

// BootID tells one boot of the machine from another: by the kernel's (random(4)), and by when process
// 1 was started (proc_pid_stat(5)), as a container's kernel is not booted with it. It is the same for as long as this
// process lives.
func BootID() string { return bootID() }

var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // as of a machine that is never restarted
	}
	stat, _ := os.ReadFile("/proc/1/stat")
	begun := ""
	if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(fields) > 19 {
		begun = "-" + fields[19]
	}
	return strings.TrimSpace(string(id)) + begun
})
