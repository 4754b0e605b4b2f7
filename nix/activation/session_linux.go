package activation

import "syscall"

// switchSession gives a switch a session of its own. The kernel ends it if its worker is killed: what is
// half done is then rolled back, and must not go on meanwhile.
func switchSession() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
