//go:build !linux

package moto

import "syscall"

// endWithTest does nothing: only Linux can end a process with its parent.
func endWithTest(*syscall.SysProcAttr) {}
