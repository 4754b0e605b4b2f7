package nix

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"
)

const (
	// How long a worker waits for the lock that others hold for a moment only.
	lockGrace = 2 * time.Second
	// How long the dead man's switch leaves the agent beyond its time: it should be the first to
	// act, as it knows why.
	expireGrace = 2 * time.Second
)

// Work does what the activation in dir asks for, to its end: the switch, the commit or the way
// back. Where somebody else does so already it returns. When ctx ends, as it does when the machine is
// shut down, the switch is ended, and the stage stays what it is: who finds it knows that it was cut
// short. It is what the worker's unit runs.
func Work(ctx context.Context, dir string, log *slog.Logger) error {
	unlock, free, err := lockActivation(ctx, dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	return work(ctx, dir, log)
}

// Expire is the dead man's switch: it waits until the activation id is settled, and takes it back
// when it was not begun within patience, was not confirmed in its time, or when its worker has
// died. One whose new system has proved itself is not taken back, but brought to its end.
func Expire(ctx context.Context, dir, id string, patience time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var stage Stage
	var since time.Time // stage was seen, and nobody was at work
	for {
		a, err := ReadActivation(dir)
		if err != nil {
			return err
		}
		if a == nil || a.ID != id || a.Stage.Settled() || a.Stage == StageBooting {
			return nil
		}
		working, err := beingWorkedOn(dir)
		if err != nil {
			return err
		}
		if working || a.Stage != stage {
			stage, since = a.Stage, time.Now()
		}
		limit := startGrace // for a worker that was asked for
		switch stage {
		case StageOrdered:
			limit = max(limit, patience)
		case StageSwitching:
			limit = 0 // its worker has died
		case StageSwitched:
			limit = seconds(1.1*a.ConfirmSecs) + expireGrace
		}
		if !working && time.Since(since) >= limit {
			if err := takeBack(ctx, dir, id, stage, log); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeBack has an activation that is still in a stage taken back, or goes on with what a worker that
// died has left.
func takeBack(ctx context.Context, dir, id string, stage Stage, log *slog.Logger) error {
	unlock, free, err := lockActivation(ctx, dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	a, err := ReadActivation(dir)
	if err != nil || a == nil || a.ID != id || a.Stage != stage {
		return err
	}
	reason := ""
	switch stage {
	case StageOrdered:
		a.CutShort = true
		reason = "its worker was not started in time"
	case StageSwitched:
		reason = fmt.Sprintf("not confirmed within %s of the switch: has the agent ended, or does it hang?", seconds(a.ConfirmSecs))
	}
	if reason != "" {
		log.Error("the activation was not confirmed; rolling back", "system", a.System, "why", reason)
		if err := a.goBack(dir, reason); err != nil {
			return err
		}
	}
	return work(ctx, dir, log)
}

// worker works on one activation while it holds the lock.
type worker struct {
	*Activation
	ctx  context.Context // ends when the worker is to leave everything as it is
	host *Host
	dir  string
	log  *slog.Logger
}

func work(ctx context.Context, dir string, log *slog.Logger) error {
	a, err := ReadActivation(dir)
	if err != nil || a == nil {
		return err
	}
	h, err := New(Options{Dir: dir, Profile: a.Profile, CurrentSystem: a.CurrentSystem, Log: log})
	if err != nil {
		return err
	}
	w := &worker{a, ctx, h, dir, log}
	for ctx.Err() == nil {
		switch w.Stage {
		case StageOrdered:
			err = w.begin()
		case StageSwitching:
			w.CutShort = true
			err = w.goBack(dir, "the switch was cut short")
		case StageConfirming:
			err = w.commit()
		case StageRollingBack:
			err = w.rollBack()
		default:
			if w.Stage != StageSwitched {
				h.disarm(ctx, false) // whoever waits for the end may be gone
			}
			if w.Stage == StageConfirmed || w.Stage == StageRolledBack {
				_ = os.Remove(h.previousRoot()) // one that stays costs disk space only
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin switches to the new system, or makes it what boots next.
func (w *worker) begin() error {
	if err := w.to(w.dir, StageSwitching); err != nil {
		return err
	}
	if w.Boot {
		return w.makeBoot()
	}
	w.log.Info("switching", "system", w.System, "activation", w.ID)
	err := w.run(w.System, "test")
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case err == nil || w.ExitCode == exitUnits:
		w.restartAgent()
		if err := w.to(w.dir, StageSwitched); err != nil {
			return err
		}
		w.startDeadMan()
		return nil
	case w.lockTaken():
		w.Busy = true
		return w.goBack(w.dir, "somebody else was switching: "+err.Error())
	case w.ExitCode == exitInit:
		w.Boot, w.Why = true, "its init system does not fit the one that runs"
		return w.makeBoot()
	}
	w.CutShort = signalled(err)
	return w.goBack(w.dir, failure(w.System, err, w.Tail))
}

// makeBoot makes the new system what boots next, and leaves alone what runs.
func (w *worker) makeBoot() error {
	if err := w.install(); w.ctx.Err() != nil {
		return w.ctx.Err()
	} else if err != nil {
		return w.goBack(w.dir, err.Error())
	}
	w.log.Info("the system boots next", "system", w.System, "why", w.Why)
	return w.to(w.dir, StageBooting)
}

// commit makes the system, which has proved itself, what boots.
func (w *worker) commit() error {
	if why := w.overtaken(); why != "" {
		return w.goBack(w.dir, why)
	}
	if err := w.install(); w.ctx.Err() != nil {
		return w.ctx.Err()
	} else if err != nil {
		return w.goBack(w.dir, err.Error())
	}
	return w.to(w.dir, StageConfirmed)
}

// overtaken says what somebody else has changed while the system proved itself; "" if nothing.
func (w *worker) overtaken() string {
	running, err := w.host.Current(w.ctx)
	if err == nil && running.Path != w.System {
		return fmt.Sprintf("%s ran when %s had proved itself", running.Path, w.System)
	}
	profiled, _, err := w.host.Profiled()
	if err == nil && w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem}, profiled.Path) {
		return fmt.Sprintf("somebody has put %s into the profile while %s proved itself", profiled.Path, w.System)
	}
	return ""
}

// outdated reports whether something else runs, or is in the profile, than when the activation was ordered.
func (w *worker) outdated() bool {
	running, err := w.host.Current(w.ctx)
	if err == nil && running.Path != w.Previous && running.Path != w.System {
		return true
	}
	profiled, _, err := w.host.Profiled()
	return err == nil && w.ProfileSystem != "" && profiled.Path != w.ProfileSystem && !(w.Installed && profiled.Path == w.System)
}

// install puts the system into the profile and has its boot loader entry made the default. To do
// so again changes nothing.
func (w *worker) install() error {
	ctx, cancel := context.WithTimeout(w.ctx, seconds(w.SwitchSecs))
	defer cancel()
	s := System{w.System}
	profiled, _, err := w.host.Profiled()
	if err == nil {
		w.Installed = true
		err = w.save(w.dir)
	}
	if err == nil && profiled != s {
		err = w.host.setProfile(ctx, s)
	}
	if err != nil {
		return err
	}
	if w.Keep > 0 {
		w.host.prune(w.Activation) // before the boot loader lists them
	}
	w.host.dropRoots(func(_, path string) bool { return path == w.System })
	if err := w.run(w.System, "boot"); err != nil {
		w.CutShort = w.lockTaken() || signalled(err)
		return fmt.Errorf("make it what boots: %s", failure(w.System, err, w.Tail))
	}
	return nil
}
