// Command stage1 is the init of an initrd: what NixOS's stage 1 does, as far as a machine of one disk needs it. It
// loads the modules of the initrd, mounts the disk's second partition and on its /boot the first, the ESP, and starts
// the init that the boot loader's entry names.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	disk = "/dev/nvme0n1"
	root = "/sysroot"
)

func main() {
	err := start()
	fmt.Println("stage 1:", err)
	time.Sleep(time.Second) // the console is slow
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// start does not return unless it fails.
func start() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}} {
		if err := mount(m.kind, m.at, m.kind); err != nil {
			return err
		}
	}
	modules, err := filepath.Glob("/modules/*.ko") // in their order
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := load(path); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	init := ""
	for _, word := range strings.Fields(string(cmdline)) {
		if path, ok := strings.CutPrefix(word, "init="); ok {
			init = path
		}
	}
	for _, err = os.Stat(disk + "p2"); err != nil; _, err = os.Stat(disk + "p2") {
		time.Sleep(10 * time.Millisecond)
	}
	if err := mount(disk+"p2", root, "ext4"); err != nil {
		return err
	}
	if err := mount(disk+"p1", root+"/boot", "vfat"); err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run"} {
		if err := unix.Mount(dir, root+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return fmt.Errorf("start %q: %w", init, unix.Exec(init, []string{init}, []string{"TERM=linux"}))
}

func mount(what, at, kind string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(what, at, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

func load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), "", 0)
}
