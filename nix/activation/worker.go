package activation

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/npcnix/npcnix/nix"
)

const (
	// busyPause is the time between two tries while another process switches, and the first while the service
	// manager gives no answer. The latter grows up to maxPause.
	busyPause = 2 * time.Second
	maxPause  = time.Minute
)

// Work does what the activation in dir asks for, to its end: the switch, the commit or the rollback. If
// another process does so already it returns. When ctx ends, as it does when the machine is shut down, the
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

// work is Work for whoever holds the lock.
func work(ctx context.Context, dir string, log *slog.Logger) error {
	j, err := Read(dir)
	if err != nil || j == nil {
		return err
	}
	host, err := nix.New(nix.Options{Dir: dir, Profile: j.Profile, CurrentSystem: j.CurrentSystem, Log: log})
	if err != nil {
		return err
	}
	w := &worker{Journal: j, machine: realMachine{host, dir, log}, dir: dir, log: log}
	if err := w.toItsEnd(ctx); err != nil {
		return err
	}
	if w.Phase.Ended() || w.Phase == RebootPending {
		rollbackTimer{dir: dir, id: w.ID, log: log}.disarm(ctx, false) // whoever waits for the end may be gone
	}
	return nil
}

// worker works on one activation. When the ctx of its methods ends, it leaves everything as it is.
type worker struct {
	*Journal
	machine machine
	dir     string
	log     *slog.Logger
}

// toItsEnd works until there is no more work for a worker.
func (w *worker) toItsEnd(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		switch w.Phase {
		case Pending:
			err = w.begin(ctx)
		case Switching:
			err = w.toRollback(w.dir, CauseInterrupted, "the switch was interrupted")
		case Committing:
			err = w.commit(ctx)
		case RollingBack:
			err = w.rollBack(ctx)
		default:
			if w.Phase == Committed || w.Phase == RolledBack {
				w.machine.ReleasePrevious()
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin switches to the new system, or makes it the boot default.
func (w *worker) begin(ctx context.Context) error {
	if w.outdated(ctx) {
		return w.toRollback(w.dir, CauseBusy, "an operator has switched, or changed the profile, since this was requested")
	}
	if err := w.advance(w.dir, Switching); err != nil {
		return err
	}
	if w.BootOnly {
		return w.makeBoot(ctx)
	}
	w.log.Info("switching", "system", w.System, "activation", w.ID)
	ran := w.runRepaired(ctx, w.System, actionTest)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case ran.activated() && (ran.err == nil || w.runs(ctx)):
		w.restartAgent()
		if err := w.advance(w.dir, Verifying); err != nil {
			return err
		}
		rollbackTimer{dir: w.dir, id: w.ID, log: w.log}.start()
		return nil
	case ran.lockTaken() && ran.begun:
		return w.toRollback(w.dir, CauseInterrupted, "another process was switching before the switch was complete: "+ran.err.Error())
	case ran.lockTaken():
		return w.toRollback(w.dir, CauseBusy, "another process was switching: "+ran.err.Error())
	case ran.exit == exitInit:
		w.BootOnly, w.BootOnlyWhy = true, "its init system does not fit the one that runs"
		return w.makeBoot(ctx)
	case ran.inhibited():
		w.BootOnly, w.BootOnlyWhy = true, "NixOS refuses to switch to it while the machine runs: "+telling(ran.tail)
		return w.makeBoot(ctx)
	case ran.activated(): // by its status, which may also be the errno of an early end
		return w.toRollback(w.dir, CauseInterrupted, ran.failure(w.System)+"; it ended before the system was activated")
	}
	return w.toRollback(w.dir, ran.cause(), ran.failure(w.System))
}

// runs reports whether the new system runs.
func (w *worker) runs(ctx context.Context) bool {
	running, err := w.machine.Current(ctx)
	return err == nil && running.Path == w.System
}

// makeBoot makes the new system the boot default, and does not touch what runs.
func (w *worker) makeBoot(ctx context.Context) error {
	if cause, err := w.install(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return w.toRollback(w.dir, cause, err.Error())
	}
	w.log.Info("the system becomes active with the next boot", "system", w.System, "why", w.BootOnlyWhy)
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

// install puts the system into the profile and makes its boot loader entry the default. To do so again
// changes nothing. The cause tells whose fault an error is.
func (w *worker) install(ctx context.Context) (Cause, error) {
	bounded, cancel := context.WithTimeout(ctx, seconds(w.SwitchSecs))
	defer cancel()
	s := nix.System{Path: w.System}
	profiled, _, err := w.machine.Profiled()
	if err == nil && !w.Installed {
		w.Installed = true
		if profiled != s {
			w.NewestBefore, err = w.machine.NewestGeneration()
		}
	}
	if err == nil {
		err = w.save(w.dir)
	}
	if err == nil && profiled != s {
		err = w.machine.SetProfile(bounded, s)
	}
	if err != nil {
		return causeOf(err), err
	}
	if w.Keep > 0 { // before the boot loader lists them
		w.machine.Prune(w.Keep, w.ProfileLink, s, nix.System{Path: w.Previous})
	}
	w.machine.ReleaseBuilt(s)
	if err := w.placeBootFiles(ctx); err != nil {
		return causeOf(err), err
	}
	if ran := w.runRepaired(ctx, w.System, actionBoot); ran.err != nil {
		switch {
		case ran.lockTaken():
			return CauseInterrupted, fmt.Errorf("make it what boots: %s", ran.failure(w.System))
		case ran.unwritten() != "":
			return CauseMachine, fmt.Errorf("the boot loader cannot be written; make room where it is, such as /boot: %s", ran.unwritten())
		}
		return ran.cause(), fmt.Errorf("make it what boots: %s", ran.failure(w.System))
	}
	if err := w.machine.Flush(); err != nil {
		return causeOf(err), err
	}
	return "", nil
}

// placeBootFiles has the new system's kernel and initrd on disk before anything makes it the boot default: the system
// that is the default so far installs the boot loader once more, and with it the entries of all generations. Some
// installers copy a kernel and make it the default at once; a loss of power in between left nothing that boots. What
// fails here fails again when the new system is made the default.
func (w *worker) placeBootFiles(ctx context.Context) error {
	boots := cmp.Or(w.ProfileSystem, w.Previous)
	if boots == "" || !w.machine.BootsOther(nix.System{Path: boots}, nix.System{Path: w.System}) {
		return nil
	}
	if ran := w.run(ctx, boots, actionBoot); ran.err != nil {
		w.log.Info("the system before could not install the boot loader", "system", boots, "error", ran.failure(boots))
	}
	return w.machine.Flush()
}

// runRepaired is run. If a program cannot be executed, it has the store repaired, and runs again. A system that is
// whole is to blame itself, and one that cannot be repaired is not.
func (w *worker) runRepaired(ctx context.Context, system, action string) outcome {
	ran := w.run(ctx, system, action)
	if !ran.unexecuted() || ctx.Err() != nil {
		return ran
	}
	w.log.Warn("a program cannot be executed; checking the system's paths in the store", "system", system, "error", ran.err)
	bounded, cancel := context.WithTimeout(ctx, seconds(w.SwitchSecs))
	defer cancel()
	switch repaired, err := w.machine.Repair(bounded, nix.System{Path: system}); {
	case err != nil:
		ran.err = fmt.Errorf("%w: %w: %w", nix.ErrMachine, ran.err, err)
	case repaired:
		ran = w.run(ctx, system, action)
		ran.begun = true
	}
	return ran
}

// run runs a system's switch-to-configuration to its end, or to the end of its time. It waits and tries again
// while another process switches, and while the service manager gives no answer: a switch goes on where an
// interrupted one ended. One that hangs for half of the time and more is to blame itself, whatever was before; one that
// had less may only have been slow. ExitCode and Tail are set.
func (w *worker) run(ctx context.Context, system, action string) outcome {
	bounded, cancel := context.WithTimeout(ctx, seconds(w.SwitchSecs))
	defer cancel()
	pause := busyPause
	begun := false
	for {
		since := time.Now()
		ran := w.machine.Switch(bounded, switchRun{
			system: system, action: action, id: w.ID, timeout: seconds(w.SwitchSecs), noCheck: w.Phase == RollingBack,
		})
		w.ExitCode, w.Tail, ran.begun = ran.exit, ran.tail, begun
		switch {
		case ran.lockTaken():
			w.log.Warn("another process is switching; waiting for it", "for", pause)
		case ran.unanswered():
			begun, ran.begun = true, true
			w.log.Warn("the service manager gave no answer in time; waiting for it", "for", pause, "error", ran.failure(system))
		case begun && ran.exit < 0 && bounded.Err() != nil && time.Since(since) < seconds(w.SwitchSecs)/2:
			ran.err = fmt.Errorf("%w: the service manager was too slow: %w", nix.ErrMachine, ran.err)
			return ran
		default:
			return ran
		}
		if sleep(bounded, pause); bounded.Err() != nil {
			return ran
		}
		if ran.unanswered() {
			pause = min(2*pause, maxPause)
		}
		if w.Phase == Switching && w.outdated(ctx) || w.Phase == Committing && w.overtaken(ctx) != "" {
			return ran // what an operator has switched to stays
		}
	}
}

// overtaken says what an operator has changed during the verification; "" if nothing.
func (w *worker) overtaken(ctx context.Context) string {
	running, err := w.machine.Current(ctx)
	if err == nil && running.Path != w.System {
		return fmt.Sprintf("%s ran when %s was verified", running.Path, w.System)
	}
	profiled, _, err := w.machine.Profiled()
	if err == nil && w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem}, profiled.Path) {
		return fmt.Sprintf("an operator has put %s into the profile during the verification of %s", profiled.Path, w.System)
	}
	return ""
}

// outdated reports whether something else runs, or is in the profile, than when the activation was
// requested.
func (w *worker) outdated(ctx context.Context) bool {
	running, err := w.machine.Current(ctx)
	if err == nil && running.Path != w.Previous && running.Path != w.System {
		return true
	}
	profiled, _, err := w.machine.Profiled()
	return err == nil && w.ProfileSystem != "" && profiled.Path != w.ProfileSystem && !(w.Installed && profiled.Path == w.System)
}
