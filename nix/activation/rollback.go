package activation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

const (
	maxTries   = 3 // at the way back, and boots of a system that has not proved itself
	triesPause = time.Second
	// rebootGrace is how long an orderly restart of the machine may take to end the worker.
	rebootGrace = 10 * time.Minute
)

// rollBack brings back the previous system, as it runs and as it boots. It is tried a few times; a try
// that was cut short does not count.
func (w *worker) rollBack(ctx context.Context) error {
	killSwitch(w.ID)
	if w.Cause != CauseBusy {
		w.log.Warn("rolling back", "to", w.Previous, "activation", w.ID, "why", w.Reason)
	}
	tail := w.Tail // the failure's are the ones to tell
	back, trouble := w.undo(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.Tail, w.RollbackError = tail, strings.Join(trouble, "; ")
	running, err := w.host.Current(ctx)
	if err == nil && w.Previous == "" && running.Path == w.System && w.Cause != CauseBusy {
		w.RollbackError = "there is no earlier system to go back to"
		return w.advance(w.dir, RollbackFailed)
	}
	if err == nil && back {
		if w.OperatorSystem != "" {
			w.Cause = CauseOperator
		}
		w.restartAgent()
		return w.advance(w.dir, RolledBack)
	}
	if w.RollbackError == "" {
		w.RollbackError = fmt.Sprintf("%s runs after the way back", running.Path)
	}
	if w.RollbackTries++; w.RollbackTries >= maxTries {
		w.log.Error("stranded: the way back failed", "running", running.Path, "trouble", w.RollbackError)
		return w.advance(w.dir, RollbackFailed)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	sleep(ctx, triesPause)
	return nil
}

// undo takes the steps of the way back, each whatever became of the others. It reports whether the
// host is back, and what went wrong. What somebody has switched to by hand, or made what boots, is
// left alone.
func (w *worker) undo(ctx context.Context) (back bool, trouble []string) {
	fails := func(err error) bool {
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		return err != nil
	}
	if w.Cause == CauseBusy { // nothing was changed
		return true, nil
	}
	before := nix.System{Path: w.Previous}
	profiled, _, err := w.host.Profiled()
	if err == nil && profiled.Path == w.System && w.System != w.Previous {
		w.Installed = true // which it may have been before, and so the boot loader's
		if err = w.save(w.dir); err == nil {
			err = w.host.RestoreProfile(ctx, w.ProfileLink, before)
		}
		if err == nil {
			profiled, _, err = w.host.Profiled()
		}
	}
	if err != nil {
		fails(fmt.Errorf("the profile may still have %s: %w", w.System, err))
	}
	boots := err == nil
	if w.Previous == "" {
		return boots, trouble
	}
	running, err := w.host.Current(ctx)
	if fails(err) || fails(nix.Switchable(before)) {
		return false, trouble
	}

	// What boots is what the profile has again: boot loaders know nothing but its generations.
	theirs := w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem, w.Previous}, profiled.Path)
	boot := func() bool {
		if !w.Installed || theirs {
			return true
		}
		s := before
		if profiled != (nix.System{}) && profiled.Path != w.System {
			s = profiled
		}
		if fails(nix.Switchable(s)) {
			return false
		}
		return !fails(w.tried(ctx, s.Path, "boot"))
	}
	w.OperatorSystem = ""
	switch {
	case running.Path != "" && running.Path != w.System && running != before:
		if running != profiled || theirs { // else it has booted
			w.OperatorSystem = running.Path
		}
		return boot() && boots, trouble
	case w.BootOnly && running == before:
		return boot() && boots, trouble
	case w.BootOnly:
		// The one cannot be switched to from the other, so neither can the other from the one.
		if boots = boot() && boots; boots && systemd.Running() {
			fails(w.restartMachine(ctx))
			return false, trouble // it was not
		}
	}
	err = w.tried(ctx, w.Previous, "test")
	fails(err)
	// As NixOS has it: 2, a part of the activation failed, and 4, a unit did. The system runs.
	back = err == nil || w.ExitCode == exitActivation || w.ExitCode == exitUnits
	running, err = w.host.Current(ctx)
	back = !fails(err) && back && running == before
	if !w.BootOnly {
		boots = boot() && boots
	}
	return back && boots, trouble
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
	w.log.Warn("restarting the machine, to go back to the system before", "to", w.Previous)
	if err := w.host.Reboot(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(rebootGrace):
		return fmt.Errorf("the machine was to be restarted, and was not within %s", rebootGrace)
	case <-ctx.Done():
		return ctx.Err()
	}
}
