package activation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// Units, under systemd: the worker's, and the rollback timer's, a service and its timer. Hosts with a
// data directory of their own, as in tests, get names of their own.
const (
	workerUnit   = "npcnix-activate"
	timerUnit    = "npcnix-rollback"
	agentService = "npcnix.service"
	defaultDir   = "/var/lib/npcnix"
)

func unitName(dir, base string) string {
	if dir == defaultDir {
		return base
	}
	sum := sha256.Sum256([]byte(dir))
	return base + "-" + hex.EncodeToString(sum[:4])
}

// detach starts a process that outlives this one. What it logs goes to activation.log in dir.
func detach(dir string, args []string, mode int) error {
	log, err := os.OpenFile(filepath.Join(dir, "activation.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND|mode, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: start %s: %w", nix.ErrMachine, args[0], err)
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie; how it ended is on disk
	return nil
}

// units returns the names of the units that run, and of those that have failed. Without systemd there
// are none.
func units(ctx context.Context) (ran, failed []string, err error) {
	all, err := systemd.Units(ctx)
	for _, u := range all {
		switch {
		case u.Failing():
			failed = append(failed, u.Name)
		case u.Runs():
			ran = append(ran, u.Name)
		}
	}
	return ran, failed, err
}

// Failing are units that are failing.
type Failing struct {
	Failed     []string // that ran before
	Restarting []string // that ran before: they end and are started again
	New        []string // that did not run before
	// Restarts tells of all that ran before how often they were started again since they were last
	// started on purpose: between two looks they may have ended and run again.
	Restarts map[string]string
}

// NewlyFailing returns the units that are failing and were not before the activation j. It omits those
// that match one of the patterns of exempt (path.Match), and npcnix's own. Without systemd there are
// none.
func (c *Coordinator) NewlyFailing(ctx context.Context, j Journal, exempt []string) (Failing, error) {
	var f Failing
	all, err := systemd.Units(ctx)
	if err != nil {
		return f, nix.Blame(ctx, err)
	}
	exempt = append([]string{workerUnit + "*", timerUnit + "*", j.AgentUnit}, exempt...)
	if f.Restarts, err = systemd.Restarts(ctx); err != nil {
		return f, nix.Blame(ctx, err)
	}
	maps.DeleteFunc(f.Restarts, func(name, _ string) bool { return !slices.Contains(j.Ran, name) || systemd.Match(exempt, name) })
	for _, u := range all {
		switch {
		case !u.Failing() || slices.Contains(j.Failed, u.Name) || systemd.Match(exempt, u.Name):
		case !slices.Contains(j.Ran, u.Name):
			f.New = append(f.New, u.Name)
		case u.Active == "failed":
			f.Failed = append(f.Failed, u.Name)
		default:
			f.Restarting = append(f.Restarting, u.Name)
		}
	}
	return f, nil
}
