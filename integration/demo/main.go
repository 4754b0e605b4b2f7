// Command demo shows npcnix at work before your eyes: three hosts on this machine, reconfigured by a
// publish through S3, SNS and SQS, with real nix builds, profiles and switches.
//
// It promises that every figure it prints was measured in this very run, that it ends by itself, and
// that it leaves nothing behind, however it ends, but paths in the nix store: no process, no file, no
// garbage collector root. It needs nix, no network and no AWS account; the AWS is awsfake, in this
// process. "make demo" runs it.
//
//	go run ./integration/demo [NPCNIX]
//
// NPCNIX is the npcnix to show; without it bin/npcnix is, or else one that the demo builds. The exit code
// is 0 when all went as told, 130 when the demo was interrupted, and 1 otherwise.
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

// run is the demo from its arguments to its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	began := time.Now()
	if _, err := exec.LookPath("nix"); err != nil {
		fmt.Fprintln(stderr, "demo: nix is missing. On Debian: sudo apt-get install nix-bin; elsewhere: https://nixos.org/download")
		return 1
	}
	// SIGPIPE, so that a reader of the output who leaves ends the demo as an interrupt does.
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
			fmt.Fprintln(stderr, "demo: if nix was refused something, run the demo as root, or as one of nix.conf's trusted-users")
		}
		return 1
	}
	fmt.Fprintf(stdout, "\nDone in %.0f s: %s.\nNothing is left of it but paths in the nix store.\n", time.Since(began).Seconds(), summary)
	return 0
}

// perform sets the stage, plays, and clears the stage whatever happens.
func perform(ctx context.Context, args []string, stdout, stderr io.Writer) (summary string, err error) {
	dir, err := os.MkdirTemp("", "npcnix-demo-*")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() {
		if left := clearUp(dir); left != nil {
			fmt.Fprintln(stderr, "demo:", left)
			err = errors.Join(err, errors.New("not all could be cleared up"))
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

// probeNix makes sure that nix can put something into its store, and so says at once what else the
// hosts would be a minute in finding out.
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

// autoRoots is where nix notes the links outside of its own folders that keep store paths alive.
const autoRoots = "/nix/var/nix/gcroots/auto"

// clearUp removes dir, and with it what nix has noted of the profiles in it.
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
		// Where they are the nix daemon's, its next garbage collection removes them.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			errs = append(errs, fmt.Errorf("clear up: %w", err))
		}
	}
	return errors.Join(errs...)
}
