package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Read returns a file of the machine; "" if there is none or the machine is off.
func (m *Machine) Read(path string) string {
	file, err := m.open(path, unix.O_RDONLY)
	if err != nil {
		return ""
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	return string(content)
}

// Exists tells whether the machine has a file, after links.
func (m *Machine) Exists(path string) bool {
	file, err := m.open(path, unix.O_PATH)
	if err != nil {
		return false
	}
	_ = file.Close()
	return true
}

// Link returns what a link finally points to, "" where there is nothing: of [CurrentSystem],
// [BootedSystem], [BootDefault] or [Profile] the toplevel.
func (m *Machine) Link(path string) string {
	file, err := m.open(path, unix.O_PATH)
	if err != nil {
		return ""
	}
	defer file.Close()
	target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return ""
	}
	return target
}

// BootID returns what differs from boot to boot; "" while the machine is off.
func (m *Machine) BootID() string {
	const path = "/proc/sys/kernel/random/boot_id"
	id := strings.TrimSpace(m.Read(path))
	if outside, _ := os.ReadFile(path); id == strings.TrimSpace(string(outside)) {
		return "" // nspawn has not set it yet
	}
	return id
}

// open opens a file of the machine from outside; it follows links as the machine would.
func (m *Machine) open(path string, flags uint64) (*os.File, error) {
	leader, err := m.leader()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", leader), unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	file, err := unix.Openat2(int(root.Fd()), path, how)
	for errors.Is(err, unix.EAGAIN) { // something was renamed or mounted while a ".." was followed (openat2(2))
		file, err = unix.Openat2(int(root.Fd()), path, how)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(file), path), nil
}
