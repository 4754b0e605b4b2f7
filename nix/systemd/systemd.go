// Package systemd asks the machine's service manager for units, and has it start some. It runs systemctl
// and systemd-run, which must be on PATH where [Running] is true.
//
// Errors name the command that failed and carry what it said.
package systemd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Running reports whether units can be started: systemd runs the machine (sd_booted(3)), and this
// process is allowed to ask it to.
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir() && os.Geteuid() == 0
}

// Systemctl runs systemctl.
func Systemctl(ctx context.Context, args ...string) error {
	_, err := systemctl(ctx, args...)
	return err
}

// Active reports whether at least one of the units is active.
func Active(ctx context.Context, units ...string) bool {
	return Systemctl(ctx, append([]string{"is-active", "--quiet"}, units...)...) == nil
}

// AnyActive reports whether at least one of the units that match the patterns is active, or about to be; an error means
// that it cannot be told. It does not have units loaded, as to ask for one by its name does.
func AnyActive(ctx context.Context, patterns ...string) (bool, error) {
	out, err := systemctl(ctx, append([]string{"list-units", "--plain", "--no-legend", "--state=active,activating", "--"}, patterns...)...)
	return strings.TrimSpace(out) != "", err
}

// Stopping reports whether the machine is being shut down, in an orderly way.
func Stopping(ctx context.Context) bool {
	if !Running() {
		return false
	}
	state, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // its status is one for each state
	return strings.TrimSpace(string(state)) == "stopping"
}

// BootLog returns what the journal has of the present boot under a name (SYSLOG_IDENTIFIER), or of a unit. It has the
// messages of the initrd too, which can be under another machine's ID. Without systemd there are none.
func BootLog(ctx context.Context, name, unit string) (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || !Running() {
		return "", nil
	}
	boot := "_BOOT_ID=" + strings.ReplaceAll(strings.TrimSpace(string(id)), "-", "")
	return output(ctx, "journalctl", "--no-pager", "--quiet", "--merge", "--output=cat",
		boot, "SYSLOG_IDENTIFIER="+name, "+", boot, "_SYSTEMD_UNIT="+unit)
}

// systemctl returns what systemctl printed.
func systemctl(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "systemctl", append([]string{"--no-pager", "--no-ask-password"}, args...)...)
}

// output returns what a program printed.
func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return out.String(), nil
}
