//go:build !linux

package nix

import "syscall"

// dieWithParent cannot keep the second half of its promise here. NixOS is Linux; the rest of
// the program, which publishes, runs elsewhere too.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
