package nix_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const fakeSource = "/nix/store/00000000000000000000000000000000-source"

// fakeNix stands in for a nix that does what the real one is hard to be made to do.
func fakeNix(mode string, args []string) int {
	if slices.Contains(args, "add-path") {
		if mode == "store is read-only" {
			fmt.Fprintln(os.Stderr, "error: cannot open lock file '/nix/var/nix/db/big-lock': Read-only file system")
			return 1
		}
		fmt.Println(fakeSource)
		return 0
	}
	if slices.Contains(args, "eval") && mode == "evaluates to no JSON" {
		fmt.Println("«lambda»")
		return 0
	}
	if slices.Contains(args, "eval") {
		fmt.Println(`["db","web"]`)
		return 0
	}
	switch mode {
	case "prints a hundred lines":
		for i := range 100 {
			fmt.Fprintf(os.Stderr, "\x1b[32mline %d\x1b[0m\n", i)
		}
		return 1
	case "disk full":
		fmt.Fprintln(os.Stderr, "error: writing to file: No space left on device")
		return 1
	case "a program in the build finds the disk full":
		fmt.Fprintln(os.Stderr, "web> dd: writing to 'x': No space left on device")
		fmt.Fprintln(os.Stderr, "error: builder for '/nix/store/x.drv' failed with exit code 1")
		return 1
	case "unknown configuration":
		fmt.Fprintln(os.Stderr, "error: flake 'path:x' does not provide attribute 'y' or 'z'")
		return 1
	case "cannot reach caches":
		for _, a := range args {
			if strings.Contains(a, "://") {
				fmt.Fprintf(os.Stderr, "error: unable to download '%s/nix-cache-info': HTTP error 401\n", a)
			}
		}
		return 1
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "deaf to SIGTERM, as is its child":
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("/bin/sleep", "1000")
		_ = child.Start()
		fmt.Fprintf(os.Stderr, "self %d\nchild %d\n", os.Getpid(), child.Process.Pid)
		_ = child.Wait()
		<-make(chan os.Signal)
	case "leaves a daemon that holds the pipe":
		daemon := exec.Command("/bin/sleep", "1000")
		daemon.Stderr = os.Stderr
		daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		_ = daemon.Start()
		fmt.Fprintf(os.Stderr, "daemon %d\n", daemon.Process.Pid)
		return fakeResult(args)
	case "sets the profile and hangs":
		profile, path := args[slices.Index(args, "--profile")+1], args[slices.Index(args, "--set")+1]
		if os.Remove(profile) != nil || os.Symlink(path, profile) != nil {
			return 66
		}
		fmt.Fprintln(os.Stderr, "profile set")
		<-make(chan os.Signal)
	case "prints its arguments":
		var b bytes.Buffer
		for _, a := range args {
			fmt.Fprintf(&b, "<%s> ", a)
		}
		fmt.Fprintln(os.Stderr, b.String())
		return fakeResult(args)
	}
	return 64
}

// fakeResult makes the link that nix build makes.
func fakeResult(args []string) int {
	link := args[slices.Index(args, "--out-link")+1]
	if os.Symlink("/nix/store/11111111111111111111111111111111-system", link) != nil {
		return 65
	}
	return 0
}
