package nix

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxTries   = 3 // at the way back, and boots of a system that has not proved itself
	triesPause = time.Second
	// rebootGrace is how long an orderly restart of the machine may take to end the worker.
	rebootGrace = 10 * time.Minute
)

// rollBack brings back the previous system, as it runs and as it boots. It is tried a few times; a try
// that was cut short does not count.
func (w *worker) rollBack() error {
	killSwitch(w.ID)
	if !w.Busy {
		w.log.Warn("rolling back", "to", w.Previous, "activation", w.ID, "why", w.Reason)
	}
	tail := w.Tail // the failure's are the ones to tell
	back, trouble := w.undo()
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	w.Tail, w.Trouble = tail, strings.Join(trouble, "; ")
	running, err := w.host.Current(w.ctx)
	if err == nil && w.Previous == "" && running.Path == w.System && !w.Busy {
		w.Trouble = "there is no earlier system to go back to"
		return w.to(w.dir, StageStranded)
	}
	if err == nil && back {
		w.restartAgent()
		return w.to(w.dir, StageRolledBack)
	}
	if w.Trouble == "" {
		w.Trouble = fmt.Sprintf("%s runs after the way back", running.Path)
	}
	if w.Tries++; w.Tries >= maxTries {
		w.log.Error("stranded: the way back failed", "running", running.Path, "trouble", w.Trouble)
		return w.to(w.dir, StageStranded)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	select {
	case <-time.After(triesPause):
	case <-w.ctx.Done():
	}
	return nil
}

// undo takes the steps of the way back, each whatever became of the others. It reports whether the
// host is back, and what went wrong. What somebody has switched to by hand, or made what boots, is
// left alone.
func (w *worker) undo() (back bool, trouble []string) {
	fails := func(err error) bool {
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		return err != nil
	}
	if w.Busy { // nothing was changed
		return true, nil
	}
	before := System{w.Previous}
	profiled, _, err := w.host.Profiled()
	if err == nil && profiled.Path == w.System && w.System != w.Previous {
		w.Installed = true // which it may have been before, and so the boot loader's
		if err = w.save(w.dir); err == nil {
			err = w.host.restoreProfile(w.ctx, w.ProfileLink, before)
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
	running, err := w.host.Current(w.ctx)
	if fails(err) || fails(switchable(before)) {
		return false, trouble
	}

	// What boots is what the profile has again: boot loaders know nothing but its generations.
	theirs := w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem, w.Previous}, profiled.Path)
	boot := func() bool {
		if !w.Installed || theirs {
			return true
		}
		s := before
		if profiled != (System{}) && profiled.Path != w.System {
			s = profiled
		}
		if fails(switchable(s)) {
			return false
		}
		return !fails(w.tried(s.Path, "boot"))
	}
	w.ByHand = ""
	switch {
	case running.Path != "" && running.Path != w.System && running != before:
		if running != profiled || theirs { // else it has booted
			w.ByHand = running.Path
		}
		return boot() && boots, trouble
	case w.Boot && running == before:
		return boot() && boots, trouble
	case w.Boot:
		// The one cannot be switched to from the other, so neither can the other from the one.
		if boots = boot() && boots; boots && underSystemd() {
			fails(w.restartMachine())
			return false, trouble // it was not
		}
	}
	err = w.tried(w.Previous, "test")
	fails(err)
	// As NixOS has it: 2, a part of the activation failed, and 4, a unit did. The system runs.
	back = err == nil || w.ExitCode == exitActivation || w.ExitCode == exitUnits
	running, err = w.host.Current(w.ctx)
	back = !fails(err) && back && running == before
	if !w.Boot {
		boots = boot() && boots
	}
	return back && boots, trouble
}

// restartMachine restarts the machine, into the previous system, and returns only if that does not come
// about. The restart counts as a try before it is made: one that leads to the new system is made a few
// times at the most.
func (w *worker) restartMachine() error {
	if w.Tries++; w.Tries > maxTries {
		return fmt.Errorf("the machine boots %s in spite of all", w.System)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	w.log.Warn("restarting the machine, to go back to the system before", "to", w.Previous)
	if err := w.host.Reboot(w.ctx); err != nil {
		return err
	}
	select {
	case <-time.After(rebootGrace):
		return fmt.Errorf("the machine was to be restarted, and was not within %s", rebootGrace)
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}
