package activation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
)

const (
	maxTries   = 3 // at a rollback, in a round
	triesPause = time.Second
	// rebootGrace is how long an orderly restart of the machine may take to end the worker.
	rebootGrace = 10 * time.Minute
	// After a round of tries that failed there is another. The pause before it grows from the first to the last.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// retryPause is the time before the next round of tries, after so many.
func retryPause(retries int) time.Duration {
	return min(firstRetry<<min(retries, 10), lastRetry)
}

// RetryDue reports whether a rollback that failed is to be tried again now. A time too far ahead means that the
// clock was set back.
func (j *Journal) RetryDue(now time.Time) bool {
	at := j.RollbackRetryAt
	return j.Phase == RollbackFailed && !at.IsZero() && (now.After(at) || at.Sub(now) > lastRetry)
}

// Step is one of a rollback. Steps are taken in their order, each whatever became of the others, unless its
// action says otherwise.
type Step struct {
	Do     Action
	System string // of SwitchTo and MakeBoot
	Why    string // of Fail
}

// Action is what a step does.
type Action string

const (
	// RestoreProfile points the profile to what it had before.
	RestoreProfile Action = "restore profile"
	// SwitchTo makes a system run. It need not run already, and is not refused.
	SwitchTo Action = "switch to"
	// DropGeneration deletes the generation of the new system, if this activation made it. Some boot loaders
	// make the newest generation the default, and others list only the newest few.
	DropGeneration Action = "drop generation"
	// MakeBoot makes a system what boots. It is the profile's, as boot loaders know of no other.
	MakeBoot Action = "make boot"
	// Reboot restarts the machine and ends the try, if all steps before it succeeded. The steps after it are
	// for the case that one did not.
	Reboot Action = "reboot"
	// Fail stands for a step that cannot be taken, for the reason Why.
	Fail Action = "fail"
)

// planRollback decides what a rollback has to do. What an operator has switched to, or made what boots, is
// left alone.
func planRollback(f Facts) []Step {
	if f.Cause == CauseBusy {
		return nil // nothing was changed
	}
	var steps []Step
	if f.ProfileError != "" {
		steps = append(steps, Step{Do: Fail, Why: fmt.Sprintf("the profile may still have %s: %s", f.System, f.ProfileError)})
	} else if f.restored() {
		steps = append(steps, Step{Do: RestoreProfile})
	}
	switch {
	case f.Previous == "":
		return steps
	case f.RunningError != "":
		return append(steps, Step{Do: Fail, Why: f.RunningError})
	case f.PreviousError != "":
		return append(steps, Step{Do: Fail, Why: f.PreviousError})
	}
	boot := bootSteps(f)
	switchTo := Step{Do: SwitchTo, System: f.Previous}
	switch {
	case f.Running != "" && f.Running != f.System && f.Running != f.Previous:
		return append(steps, boot...) // an operator's choice, or what has booted
	case f.BootOnly && f.Running == f.Previous:
		return append(steps, boot...)
	case f.BootOnly:
		// Neither system can switch to the other.
		steps = append(steps, boot...)
		if f.Reboots {
			steps = append(steps, Step{Do: Reboot})
		}
		return append(steps, switchTo)
	}
	return append(append(steps, switchTo), boot...)
}

// bootSteps makes what boots what the profile has after the rollback, if the activation may have changed
// it, and no operator since.
func bootSteps(f Facts) []Step {
	if !f.Installed && !f.restored() || f.operatorsProfile() {
		return nil
	}
	system := f.Previous
	if p := f.profiled(); p != "" && p != f.System {
		system = p
	}
	steps := []Step{{Do: MakeBoot, System: system}}
	if f.MadeGeneration {
		steps = slices.Insert(steps, 0, Step{Do: DropGeneration})
	}
	return steps
}

// operatorSystem is the system that an operator has switched to meanwhile; "" if none has.
func operatorSystem(f Facts) string {
	other := f.Running != "" && f.Running != f.System && f.Running != f.Previous
	if f.Previous == "" || !other || f.Cause == CauseBusy || f.PreviousError != "" {
		return ""
	}
	if f.Running == f.profiled() && !f.operatorsProfile() {
		return "" // it has booted
	}
	return f.Running
}

// rollbackEnd decides what a try has come to: the end of the activation, or RollingBack, for another try.
// after are the facts after the steps, done tells whether each of them succeeded, and tries how often the
// rollback has failed, this time included.
func rollbackEnd(steps []Step, done bool, tries int, after Facts) Phase {
	for _, s := range steps {
		if s.Do == SwitchTo && after.Running != s.System {
			done = false
		}
	}
	switch {
	case after.nothingBefore():
		return RollbackFailed
	case after.RunningError == "" && done:
		return RolledBack
	case tries >= maxTries:
		return RollbackFailed
	}
	return RollingBack
}

// nothingBefore reports whether the new system runs, and there is none to roll back to.
func (f Facts) nothingBefore() bool {
	return f.RunningError == "" && f.Previous == "" && f.Running == f.System && f.Cause != CauseBusy
}

// stillRuns says what is wrong after a rollback in which no step failed.
func (f Facts) stillRuns() string {
	if f.nothingBefore() {
		return "there is no earlier system to roll back to"
	}
	return fmt.Sprintf("%s runs after the rollback", f.Running)
}

// rollBack restores the previous system, as it runs and as it boots. It is tried a few times; a try that was
// interrupted does not count.
func (w *worker) rollBack(ctx context.Context) error {
	w.machine.KillSwitch(w.ID)
	if w.Cause != CauseBusy {
		w.log.Warn("rolling back", "to", w.Previous, "activation", w.ID, "why", w.Reason)
	}
	tail := w.Tail // that of the failure counts
	before := w.facts(ctx, w.machine)
	w.OperatorSystem = operatorSystem(before)
	steps := planRollback(before)
	tries := w.RollbackTries + 1
	done, errs := w.take(ctx, steps)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	after := w.facts(ctx, w.machine)
	to := rollbackEnd(steps, done, tries, after)
	w.Tail, w.RollbackError = tail, strings.Join(errs, "; ")
	if to == RolledBack {
		if w.OperatorSystem != "" {
			w.Cause = CauseOperator
		}
		if after.Running == w.Previous {
			if left := w.machine.StartStopped(ctx, w.Journal); len(left) > 0 {
				w.RollbackError = strings.Join(append(errs, stoppedText(left)), "; ")
			}
		}
		w.restartAgent()
		return w.advance(w.dir, to)
	}
	if w.RollbackError == "" {
		w.RollbackError = after.stillRuns()
	}
	w.RollbackTries = tries // which a restart of the machine has counted already
	if to == RollbackFailed {
		w.RollbackRetryAt = time.Time{}
		if !after.nothingBefore() && !w.BootOnly { // which would restart the machine, again and again
			w.RollbackRetryAt = time.Now().Add(retryPause(w.RollbackRetries)).UTC()
		}
		w.log.Error("the rollback failed", "error", w.RollbackError, "next", w.RollbackRetryAt)
		return w.advance(w.dir, to)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	sleep(ctx, triesPause)
	return nil
}

// take takes the steps. It reports whether all that matter succeeded, and what went wrong.
func (w *worker) take(ctx context.Context, steps []Step) (done bool, errs []string) {
	done = true
	for _, s := range steps {
		if s.Do == Reboot && !done {
			continue
		}
		works, err := w.step(ctx, s)
		if err != nil {
			errs = append(errs, err.Error())
		}
		if done = done && works; s.Do == Reboot {
			break
		}
	}
	return done, errs
}

// step takes one step. It may work in spite of an error that is worth telling.
func (w *worker) step(ctx context.Context, s Step) (works bool, err error) {
	switch s.Do {
	case RestoreProfile:
		w.Installed = true // which it may have been before, and so the boot loader's
		if err = w.save(w.dir); err == nil {
			err = w.machine.RestoreProfile(ctx, w.ProfileLink, nix.System{Path: w.Previous})
		}
		if err != nil {
			err = fmt.Errorf("the profile may still have %s: %w", w.System, err)
		}
	case SwitchTo:
		return w.switchBack(ctx, s.System)
	case DropGeneration:
		err = w.machine.DropGeneration(nix.System{Path: w.System}, w.NewestBefore)
	case MakeBoot:
		if err = w.machine.Switchable(nix.System{Path: s.System}); err == nil {
			err = w.tried(ctx, s.System, actionBoot)
		}
	case Reboot:
		return false, w.restartMachine(ctx)
	case Fail:
		err = fmt.Errorf("%s", s.Why)
	}
	return err == nil, err
}

// switchBack makes the previous system run. If its switch-to-configuration refuses to work, as it does where the new
// system has broken /etc, the previous system's activation comes first.
func (w *worker) switchBack(ctx context.Context, system string) (works bool, err error) {
	err = w.tried(ctx, system, actionTest)
	if running, other := w.machine.Current(ctx); err != nil && other == nil && running.Path != system && ctx.Err() == nil {
		if activated := w.tried(ctx, system, actionActivate); activated != nil {
			return false, errors.Join(err, activated)
		}
		// What it says stays in the journal: units that the rejected system has started may run on.
		if err = errors.Join(err, w.tried(ctx, system, actionTest)); w.ExitCode == 0 {
			return true, err
		}
	}
	// As NixOS has it: with 2 a part of the activation failed, and with 4 a unit. The system runs.
	return err == nil || w.ExitCode == exitActivation || w.ExitCode == exitUnits, err
}

// tried runs a system's switch-to-configuration, for an error that says all.
func (w *worker) tried(ctx context.Context, system, action string) error {
	if ran := w.run(ctx, system, action); ran.err != nil {
		return fmt.Errorf("%s (%s)", ran.failure(system), action)
	}
	return nil
}

// restartMachine restarts the machine, into the previous system, and returns only if that does not come
// about. The restart counts as a try before it is made: one that leads to the new system is made a few
// times at the most.
func (w *worker) restartMachine(ctx context.Context) error {
	if w.RollbackTries++; w.RollbackTries > maxTries {
		return fmt.Errorf("the machine boots %s after all attempts", w.System)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	w.log.Warn("restarting the machine, to roll back to the previous system", "to", w.Previous)
	if err := w.machine.Reboot(ctx); err != nil {
		return err
	}
	if sleep(ctx, rebootGrace); ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("the machine was to be restarted, and was not within %s", rebootGrace)
}
