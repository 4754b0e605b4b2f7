package activation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/npcnix/npcnix/nix"
)

// Work does what the activation in dir asks for, to its end: the switch, the commit or the rollback. If
// somebody else does so already it returns. When ctx ends, as it does when the machine is shut down, the
// switch is ended and the phase stays what it is: whoever finds it knows that it was interrupted. It is
// what the worker's unit runs.
func Work(ctx context.Context, dir string, log *slog.Logger) error {
	unlock, free, err := lock(ctx, dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	return work(ctx, dir, log)
}

// worker works on one activation while it holds the lock. When the ctx of its methods ends, it leaves
// everything as it is.
type worker struct {
	*Journal
	host *nix.Host
	dir  string
	log  *slog.Logger
}

func work(ctx context.Context, dir string, log *slog.Logger) error {
	j, err := Read(dir)
	if err != nil || j == nil {
		return err
	}
	host, err := nix.New(nix.Options{Dir: dir, Profile: j.Profile, CurrentSystem: j.CurrentSystem, Log: log})
	if err != nil {
		return err
	}
	w := &worker{j, host, dir, log}
	for ctx.Err() == nil {
		switch w.Phase {
		case Pending:
			err = w.begin(ctx)
		case Switching:
			err = w.toRollback(dir, CauseInterrupted, "the switch was interrupted")
		case Committing:
			err = w.commit(ctx)
		case RollingBack:
			err = w.rollBack(ctx)
		default:
			w.finish(ctx)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// finish tidies up after a phase that has no more work for a worker.
func (w *worker) finish(ctx context.Context) {
	if w.Phase.Ended() || w.Phase == RebootPending {
		w.timer().disarm(ctx, false) // whoever waits for the end may be gone
	}
	if w.Phase == Committed || w.Phase == RolledBack {
		w.host.ReleasePrevious()
	}
}

func (w *worker) timer() rollbackTimer { return rollbackTimer{dir: w.dir, log: w.log} }

// begin switches to the new system, or makes it what boots next.
func (w *worker) begin(ctx context.Context) error {
	if err := w.advance(w.dir, Switching); err != nil {
		return err
	}
	if w.BootOnly {
		return w.makeBoot(ctx)
	}
	w.log.Info("switching", "system", w.System, "activation", w.ID)
	err := w.run(ctx, w.System, "test")
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || w.ExitCode == exitUnits:
		w.restartAgent()
		if err := w.advance(w.dir, Verifying); err != nil {
			return err
		}
		w.timer().start()
		return nil
	case w.lockTaken():
		return w.toRollback(w.dir, CauseBusy, "another process was switching: "+err.Error())
	case w.ExitCode == exitInit:
		w.BootOnly, w.BootOnlyWhy = true, "its init system does not fit the one that runs"
		return w.makeBoot(ctx)
	}
	return w.toRollback(w.dir, w.blame(err), failure(w.System, err, w.Tail))
}

// blame tells whose fault a failed switch is.
func (w *worker) blame(err error) Cause {
	if signalled(err) {
		return CauseInterrupted
	}
	return CauseVersion
}

// makeBoot makes the new system what boots next, and does not touch what runs.
func (w *worker) makeBoot(ctx context.Context) error {
	if cause, err := w.install(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return w.toRollback(w.dir, cause, err.Error())
	}
	w.log.Info("the system boots next", "system", w.System, "why", w.BootOnlyWhy)
	return w.advance(w.dir, RebootPending)
}

// commit makes the verified system what boots.
func (w *worker) commit(ctx context.Context) error {
	if why := w.overtaken(ctx); why != "" {
		return w.toRollback(w.dir, CauseOperator, why)
	}
	if cause, err := w.install(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return w.toRollback(w.dir, cause, err.Error())
	}
	return w.advance(w.dir, Committed)
}

// overtaken says what an operator has changed during the verification; "" if nothing.
func (w *worker) overtaken(ctx context.Context) string {
	running, err := w.host.Current(ctx)
	if err == nil && running.Path != w.System {
		return fmt.Sprintf("%s ran when %s was verified", running.Path, w.System)
	}
	profiled, _, err := w.host.Profiled()
	if err == nil && w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem}, profiled.Path) {
		return fmt.Sprintf("an operator has put %s into the profile during the verification of %s", profiled.Path, w.System)
	}
	return ""
}

// outdated reports whether something else runs, or is in the profile, than when the activation was
// requested.
func (w *worker) outdated(ctx context.Context) bool {
	running, err := w.host.Current(ctx)
	if err == nil && running.Path != w.Previous && running.Path != w.System {
		return true
	}
	profiled, _, err := w.host.Profiled()
	return err == nil && w.ProfileSystem != "" && profiled.Path != w.ProfileSystem && !(w.Installed && profiled.Path == w.System)
}

// install puts the system into the profile and makes its boot loader entry the default. To do so again
// changes nothing. The cause tells whose fault an error is.
func (w *worker) install(ctx context.Context) (Cause, error) {
	bounded, cancel := context.WithTimeout(ctx, seconds(w.SwitchSecs))
	defer cancel()
	s := nix.System{Path: w.System}
	profiled, _, err := w.host.Profiled()
	if err == nil {
		w.Installed = true
		err = w.save(w.dir)
	}
	if err == nil && profiled != s {
		err = w.host.SetProfile(bounded, s)
	}
	if err != nil {
		return CauseVersion, err
	}
	if w.Keep > 0 { // before the boot loader lists them
		w.host.Prune(w.Keep, w.ProfileLink, s, nix.System{Path: w.Previous})
	}
	w.host.ReleaseBuilt(s)
	if err := w.run(ctx, w.System, "boot"); err != nil {
		cause := w.blame(err)
		if w.lockTaken() {
			cause = CauseInterrupted
		}
		return cause, fmt.Errorf("make it what boots: %s", failure(w.System, err, w.Tail))
	}
	return "", nil
}
