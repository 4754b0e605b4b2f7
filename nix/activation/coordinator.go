package activation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

const (
	// look is the time between two looks at what other processes do.
	look = 20 * time.Millisecond
	// maxStarts bounds how often a worker is started that does not take up its work, and startGrace
	// how long each has to do so.
	maxStarts  = 3
	startGrace = 10 * time.Second
)

// Coordinator drives activations on a host, for the agent. It can be replaced at any time: another one, of
// another process, takes up what it has left.
type Coordinator struct {
	*nix.Host
	command []string // that does what activation.json asks for
	dir     string
	log     *slog.Logger
	own     ownUnit
	began   string // the ID of the activation whose switch this process has seen
	logRead int64  // of switch.log, in bytes
}

// New returns the coordinator of a host. command is the command line that does [Work] when it is run with
// the arguments "run --data-dir DIR", and [RunTimer] with "timer ID PATIENCE --data-dir DIR". Where it is
// empty, that is this program's "activation".
func New(host *nix.Host, command ...string) (*Coordinator, error) {
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		command = []string{self, "activation"}
	}
	o := host.Options()
	return &Coordinator{Host: host, command: command, dir: o.Dir, log: o.Log}, nil
}

// Activate makes s the system that runs and that boots; see [Journal] for how. It returns when the
// activation has ended, or when ctx ends: the activation then goes on, for Resume to take up.
//
// Without an error, the phase is Committed, and s runs and boots; or it is RebootPending, as s could not be
// switched to and becomes active with the next boot: Resume goes on after a reboot. An [*Error] says that s was rolled back.
// With [nix.ErrMachine] the activation may be in progress: call Resume. Nothing was done if the error is
// [nix.ErrNotNixOS], or ctx's own from before the beginning.
//
// An activation that has ended stays on disk until the next one.
func (c *Coordinator) Activate(ctx context.Context, s nix.System, r Request) (Journal, error) {
	if err := ctx.Err(); err != nil {
		return Journal{}, fmt.Errorf("activate: %w", err)
	}
	if err := nix.Switchable(s); err != nil {
		return Journal{}, fmt.Errorf("activate: %w", err)
	}
	if err := c.Abandon(ctx); err != nil {
		return Journal{}, fmt.Errorf("activate: %w", nix.Blame(ctx, err))
	}
	j, err := c.request(ctx, s, r)
	if err != nil {
		return Journal{}, fmt.Errorf("activate: %w", nix.Blame(ctx, err))
	}
	return c.drive(ctx, j, r)
}

// Abandon rolls back a system that is only pending a reboot, if there is one, as another is wanted by now.
// Nothing is held against it.
func (c *Coordinator) Abandon(ctx context.Context) error {
	left, err := Read(c.dir)
	if err != nil || left == nil || left.Phase != RebootPending {
		return nil // a request reports what cannot be read
	}
	unlock, free, err := lock(ctx, c.dir)
	if err != nil {
		return err
	}
	if !free {
		return errors.New("another activation is in progress")
	}
	left, err = Read(c.dir) // which others may have changed before
	if err == nil && left != nil && left.Phase == RebootPending {
		err = left.toRollback(c.dir, CauseSuperseded, "another system is wanted by now")
	}
	unlock()
	if err != nil || left == nil || left.Phase != RollingBack {
		return err
	}
	var back *Error
	if _, err = c.drive(ctx, left, Request{}); errors.As(err, &back) && !back.RollbackFailed() {
		return nil
	}
	return err
}

// Resume takes up the activation that an earlier process left, if there is one, and brings it to its end
// as Activate does. A rollback that failed is tried again when its time has come. found tells whether there
// is an activation.
func (c *Coordinator) Resume(ctx context.Context, r Request) (j Journal, found bool, err error) {
	c.own.note(ctx)
	left, err := Read(c.dir)
	if errors.Is(err, ErrJournal) {
		// Nobody can bring it to an end. What runs is for the caller to see.
		path := filepath.Join(c.dir, journalFile)
		c.log.Error("activation.json is damaged, set aside as activation.json.damaged", "error", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return Journal{}, false, fmt.Errorf("%w: set activation.json aside: %w", nix.ErrMachine, err)
		}
		return Journal{}, false, nil
	}
	switch {
	case err != nil || left == nil:
		return Journal{}, false, err
	case left.Phase == Committed:
		return *left, true, nil
	case left.RetryDue(time.Now()):
		if err := c.retryRollback(ctx, left); err != nil {
			return *left, true, err
		}
	case left.Phase.Ended():
		return *left, true, &Error{*left}
	}
	j, err = c.drive(ctx, left, r)
	return j, true, err
}

// retryRollback has a rollback that failed tried again.
func (c *Coordinator) retryRollback(ctx context.Context, j *Journal) error {
	unlock, free, err := lock(ctx, c.dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	now, err := Read(c.dir)
	if err != nil || now == nil || now.ID != j.ID || !now.RetryDue(time.Now()) {
		return err
	}
	*j = *now
	c.log.Warn("trying the rollback again", "to", j.Previous, "error", j.RollbackError)
	j.RollbackTries, j.BootID = 0, nix.BootID() // what runs now is what is rolled back from
	j.RollbackRetries++
	return j.advance(c.dir, RollingBack)
}

// Check finds and repairs what an unclean end of the machine has damaged in the store, as [nix.Host.CheckStore]
// has it. The systems of the latest activation are looked at too.
func (c *Coordinator) Check(ctx context.Context) error {
	var keep, wanted []nix.System
	if j, err := Read(c.dir); err == nil && j != nil { // Resume reports what cannot be read
		keep, wanted = []nix.System{{Path: j.Previous}}, []nix.System{{Path: j.System}}
	}
	return c.CheckStore(ctx, keep, wanted)
}

// Rearm arms the rollback timer for an activation that a restart of the machine has interrupted. A unit of
// the new system runs it at boot, so that the timer is there even if the agent is not. The first switch
// to a system with this unit starts it too, and then there is nothing to be done.
func (c *Coordinator) Rearm(ctx context.Context) error {
	j, err := Read(c.dir)
	if err != nil || j == nil {
		return err
	}
	if working, err := beingWorkedOn(c.dir); err != nil || working {
		return err
	}
	if err := c.afterRestart(ctx, j); err != nil {
		return err
	}
	switch {
	case j.Phase.Ended() || j.Phase == RebootPending:
		return nil
	case j.Phase == RollingBack:
		return c.startWorker(ctx, j)
	}
	return c.timer(j).keepArmed(ctx, j)
}

// drive brings an activation to its end.
func (c *Coordinator) drive(ctx context.Context, j *Journal, r Request) (Journal, error) {
	if err := c.afterRestart(ctx, j); err != nil {
		return *j, err
	}
	starts := 0
	for {
		phase := j.Phase
		switch phase {
		case Committed, RebootPending:
			c.timer(j).disarm(ctx, true)
			return *j, nil
		case RolledBack, RollbackFailed:
			c.timer(j).disarm(ctx, true)
			return *j, &Error{*j}
		}
		if err := c.step(ctx, j, r, &starts); err != nil {
			return *j, err
		}
		next, err := Read(c.dir)
		if err != nil {
			return *j, err
		}
		if next == nil || next.ID != j.ID {
			return *j, fmt.Errorf("%w: activation %s is gone from %s", nix.ErrMachine, j.ID, c.dir)
		}
		if next.Phase != phase {
			starts = 0
		}
		j = next
	}
}

// replaced reports whether the worker restarts this process, as the new system has another agent: that one
// is to verify, with the program, environment and credentials of the new system.
func (c *Coordinator) replaced(j *Journal) bool {
	return j.AgentRestarted && c.began == j.ID && c.own.name != "" && c.own.name == j.AgentUnit
}

// step does what a phase asks of the coordinator, or has a worker do it, and waits. starts counts the
// workers that were started in this phase and did nothing.
func (c *Coordinator) step(ctx context.Context, j *Journal, r Request, starts *int) error {
	if j.Phase == Verifying {
		if systemd.Running() {
			if err := c.timer(j).keepArmed(ctx, j); err != nil {
				return err
			}
		}
		if c.replaced(j) {
			return c.await(ctx, j.Phase)
		}
		return c.verify(ctx, j, r)
	}
	c.began = j.ID
	working, err := beingWorkedOn(c.dir)
	if err != nil {
		return err
	}
	if working {
		*starts = 0
		return c.await(ctx, j.Phase)
	}
	if *starts++; *starts > maxStarts {
		return fmt.Errorf("%w: the worker %s does not do its work; see `journalctl -u 'npcnix-activate*' -u 'npcnix-rollback*'`, or activation.log in the data directory", nix.ErrMachine, strings.Join(c.commandLine("run"), " "))
	}
	if j.Phase == Pending {
		if err := c.timer(j).arm(ctx, j); err != nil {
			return err
		}
	}
	if err := c.startWorker(ctx, j); err != nil {
		return err
	}
	return c.await(ctx, j.Phase)
}

// verify has the new system verified, and asks for the commit or for the rollback.
func (c *Coordinator) verify(ctx context.Context, j *Journal, r Request) error {
	warning := ""
	if r.Verify != nil {
		bounded, cancel := context.WithTimeoutCause(ctx, seconds(j.VerifySecs), errors.New("its time was up"))
		defer cancel()
		said, err := r.Verify(bounded, *j)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return c.ask(ctx, j.ID, func(j *Journal) error { return j.toRollback(c.dir, causeOf(err), fmt.Sprintf("verify: %v", err)) })
		}
		warning = said
	}
	return c.ask(ctx, j.ID, func(j *Journal) error {
		j.Warning = warning
		return j.advance(c.dir, Committing)
	})
}

// ask changes the phase of the activation id, if that is still being verified. Whoever else holds the
// lock is the rollback timer, and what it has decided counts.
func (c *Coordinator) ask(ctx context.Context, id string, change func(*Journal) error) error {
	unlock, free, err := lock(ctx, c.dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	j, err := Read(c.dir)
	if err != nil || j == nil || j.ID != id || j.Phase != Verifying {
		return err
	}
	return change(j)
}

// await waits until an activation has ended, or no worker is at it (any more).
func (c *Coordinator) await(ctx context.Context, phase Phase) error {
	defer c.followSwitch()()
	tick := time.NewTicker(look)
	defer tick.Stop()
	begun := time.Now()
	seen := false // a worker
	for {
		j, err := Read(c.dir)
		if err != nil || j == nil {
			return err
		}
		if j.Phase.Ended() {
			return nil // the worker may still be tidying up
		}
		working, err := beingWorkedOn(c.dir)
		if err != nil {
			return err
		}
		seen = seen || working
		if !working && (j.Phase != phase || seen || time.Since(begun) > startGrace) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commandLine is that of a worker or a timer.
func (c *Coordinator) commandLine(args ...string) []string {
	return append(append(slices.Clone(c.command), args...), "--data-dir", c.dir)
}

// startWorker starts the worker, in a unit of its own or, without systemd, as a process in a session of
// its own. If one runs already, the new one ends at once.
func (c *Coordinator) startWorker(ctx context.Context, j *Journal) error {
	args := c.commandLine("run")
	if !systemd.Running() {
		return detach(c.dir, args, os.O_APPEND)
	}
	err := systemd.Run(ctx, unitName(c.dir, workerUnit, j.ID, string(j.Phase)), args,
		"--description=npcnix activates "+filepath.Base(j.System), "--service-type=exec")
	if err != nil {
		return nix.Blame(ctx, fmt.Errorf("start the worker: %w", err))
	}
	return nil
}
