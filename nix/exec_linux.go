package nix

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent puts nix into a process group of its own, to be ended as a whole, and has the
// kernel end it should the agent be killed: a build that nobody waits for is not worth its
// cost, and the agent's successor will start it again.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// syncFileSystem writes the file system that has the file to disk.
func syncFileSystem(f *os.File) error { return unix.Syncfs(int(f.Fd())) }
