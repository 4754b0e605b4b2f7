//go:build !linux

package nix

import "syscall"

// dieWithParent puts nix into a process group of its own, to be ended as a whole. Without Linux
// the kernel cannot be asked to end it with the agent.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
