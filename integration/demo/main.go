// Command demo shows npcnix at work: a publish through S3, SNS and SQS reconfigures three hosts on this
// machine, with real nix builds, profiles and switches.
//
// Every figure that it prints is measured in this run. It ends by itself. However it ends, it leaves
// behind no process, no file and no garbage collector root, only paths in the nix store. It needs nix,
// but no network and no AWS account: the AWS is awsfake, in this process. "make demo" runs it.
//
//	go run ./integration/demo [NPCNIX]
//
// NPCNIX is the program to show; the default is bin/npcnix, or one that the demo builds. The exit code is
// 0 if everything went as announced, 130 if the demo was interrupted, and 1 otherwise.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix/nixtest"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run takes the arguments and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	began := time.Now()
	if _, err := exec.LookPath("nix"); err != nil {
		fmt.Fprintln(stderr, "demo: nix is missing. On Debian: sudo apt-get install nix-bin; elsewhere: https://nixos.org/download")
		return 1
	}
	// SIGPIPE: if the reader of the output leaves, the demo ends as by an interrupt.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()

	summary, err := perform(ctx, args, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted")
		return 130
	case err != nil:
		fmt.Fprintln(stderr, "demo:", err)
		if os.Geteuid() != 0 {
			fmt.Fprintln(stderr, "demo: if nix lacks a permission, run the demo as root, or as one of the trusted-users of nix.conf")
		}
		return 1
	}
	fmt.Fprintf(stdout, "\nDone in %.0f s: %s.\nIt leaves only paths in the nix store.\n", time.Since(began).Seconds(), summary)
	return 0
}

// perform starts the fleet, plays, and clears up in every case.
func perform(ctx context.Context, args []string, stdout, stderr io.Writer) (summary string, err error) {
	dir, err := os.MkdirTemp("", "npcnix-demo-*")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() {
		if left := clearUp(dir); left != nil {
			fmt.Fprintln(stderr, "demo:", left)
			err = errors.Join(err, errors.New("the demo could not clear up everything"))
		}
	}()
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // as nix will name it
		return "", err
	}
	if err := probeNix(ctx, dir); err != nil {
		return "", err
	}
	npcnix, err := findNpcnix(ctx, args, dir)
	if err != nil {
		return "", err
	}

	f, err := newFleet(ctx, dir, npcnix, stdout)
	if err != nil {
		return "", err
	}
	defer f.close()
	playing, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, h := range f.hosts {
		if err := h.start(playing, cancel); err != nil {
			return "", err
		}
	}
	summary, err = f.play(playing)
	if err != nil && ctx.Err() == nil {
		for _, h := range f.hosts {
			fmt.Fprintf(stderr, "\nThe end of %s's log:\n%s", h.name, h.logTail(12))
		}
		fmt.Fprintln(stderr)
	}
	return summary, err
}

// probeNix checks that nix can write to its store. The hosts would need a minute to find that out.
func probeNix(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "npcnix-demo")
	if err := os.WriteFile(path, []byte("npcnix\n"), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nix-store", "--add", path)
	cmd.Env = append(append(os.Environ(), nixtest.Env()...), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nix cannot be used here: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// findNpcnix returns the path of the npcnix to show.
func findNpcnix(ctx context.Context, args []string, dir string) (string, error) {
	if len(args) > 1 {
		return "", errors.New("usage: demo [NPCNIX]")
	}
	path := filepath.Join("bin", "npcnix")
	if len(args) == 1 {
		path = args[0]
	}
	if _, err := os.Stat(path); err == nil || len(args) == 1 {
		if err != nil {
			return "", fmt.Errorf("find npcnix: %w", err)
		}
		return filepath.Abs(path)
	}
	path = filepath.Join(dir, "npcnix")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/npcnix/npcnix/cmd/npcnix").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build npcnix: %w; run the demo in the project's folder\n%s", err, out)
	}
	return path, nil
}

// autoRoots is where nix records links outside of its own folders that keep store paths alive.
const autoRoots = "/nix/var/nix/gcroots/auto"

// clearUp removes dir, and what nix has recorded of the profiles in it.
func clearUp(dir string) error {
	var errs []error
	if err := os.RemoveAll(dir); err != nil {
		errs = append(errs, fmt.Errorf("clear up: %w", err))
	}
	links, err := os.ReadDir(autoRoots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("clear up: %w", err))
	}
	for _, link := range links {
		path := filepath.Join(autoRoots, link.Name())
		target, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(target, dir+"/") {
			continue // not ours
		}
		// If the nix daemon owns it, its next garbage collection removes it.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, fmt.Errorf("clear up: %w", err))
		}
	}
	return errors.Join(errs...)
}
