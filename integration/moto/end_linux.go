package moto

import "syscall"

// endWithTest has the kernel end the server when the test's process is gone.
func endWithTest(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
