//go:build !linux

package nix

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent puts nix into a process group of its own, to be ended as a whole. Without Linux
// the kernel cannot be asked to end it with the agent.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// syncFileSystem writes all file systems to disk.
func syncFileSystem(*os.File) error {
	unix.Sync()
	return nil
}
