package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	diskSize = 2 << 30 // most of it is a hole
	// How fstests have ext4 lose what was not synced (linux, fs/ext4/ext4.h): nothing is written to the disk
	// any more, and not even the file system's journal is flushed.
	extShutdown = 0x8004587D
	noLogFlush  = 2
)

// makeDisk makes an image that holds what furnish has made.
func (m *Machine) makeDisk() error {
	content := filepath.Join(m.disk, "content")
	for _, dir := range []string{content, filepath.Join(m.disk, "image")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Rename(filepath.Join(m.disk, dir), filepath.Join(content, dir)); err != nil {
			return err
		}
	}
	image := filepath.Join(m.disk, "disk.img")
	if out, err := exec.Command("mkfs.ext4", "-q", "-d", content, image, strconv.Itoa(diskSize>>10)).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return os.RemoveAll(content)
}

// Cut ends the machine by a loss of power: what was written and not synced is lost. It returns when nothing
// of it runs any more. The machine has a Disk.
func (m *Machine) Cut() {
	m.t.Helper()
	pid, err := os.ReadFile(filepath.Join(m.disk, "pid"))
	if err != nil {
		m.t.Fatalf("cut the power: %v", err)
	}
	runner, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		m.t.Fatalf("cut the power: %v", err)
	}
	disk, err := os.Open(filepath.Join("/proc", strconv.Itoa(runner), "root", m.disk, "image"))
	if err != nil {
		m.t.Fatalf("cut the power: %v", err)
	}
	err = unix.IoctlSetPointerInt(int(disk.Fd()), extShutdown, noLogFlush)
	// The kernel kills the whole machine with its runner, before anything can tell of the lost disk.
	killed := syscall.Kill(runner, syscall.SIGKILL)
	_ = disk.Close() // or it would keep the file system in use
	if err != nil || killed != nil {
		m.t.Fatalf("cut the power: %v, %v", err, killed)
	}
	_ = m.power.Close()
	<-m.off
}

// Image runs a command in the root of a machine that is off and has no Disk. What the machine has by Binds is copied
// there before.
func (m *Machine) Image(command ...string) error {
	const script = `root=$1
mount -t overlay -o "lowerdir=$root,upperdir=upper,workdir=work" machine root
cd root
while [ "$2" != -- ]; do
  rm -rf "./$3"; mkdir -p "$(dirname "./$3")"
  cp -rT "$2" "./$3"
  shift 2
done
shift 2
exec "$@"`
	args := []string{"--mount", "sh", "-euc", script, "image", m.root}
	for inside, path := range m.options.Binds {
		args = append(args, path, inside)
	}
	run := exec.Command("unshare", append(append(args, "--"), command...)...)
	run.Dir = m.disk
	if out, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("make an image of a machine: %w: %s", err, out)
	}
	return nil
}
