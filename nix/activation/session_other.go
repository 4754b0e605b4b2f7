//go:build !linux

package activation

import "syscall"

// switchSession gives a switch a session of its own.
func switchSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
