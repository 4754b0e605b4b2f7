package agent

import (
	"context"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
)

// rebootAgain is how long after a restart that was asked for and did not come it is asked for again.
const rebootAgain = 5 * time.Minute

// restartedFor reports whether the machine was restarted for the system, and has come up since.
func (s State) restartedFor(system, boot string) bool {
	return s.Restarted == system && (boot == "" || s.RestartedIn != boot)
}

// A restart is what the agent means to do about one that is due.
type restart struct {
	at     time.Time // zero: nothing
	from   string    // the system that runs: where somebody switches by hand, it is off
	window string    // that at was picked from
	system string    // that it is for
}

// lookForReboot finds out whether the machine is to be restarted, and why.
func (a *Agent) lookForReboot(ctx context.Context, r *round) {
	r.reboot = ""
	system := r.running.Path
	if r.bootsNext != "" {
		r.reboot, system = "the new system boots next", r.bootsNext
	} else if a.Machine != nil {
		why, err := a.Machine.RebootDue(ctx)
		if err != nil {
			a.reporter.failed("reboot", "it cannot be told whether a restart is due", err)
			return
		}
		a.reporter.worked("reboot", "it can be told again whether a restart is due")
		r.reboot = why
	}
	a.planRestart(r, system)
}

// planRestart picks the time of the restart. For one system the machine is restarted once: where it is
// due again after that, a restart does not help.
func (a *Agent) planRestart(r *round, system string) {
	c := r.config
	if r.reboot == "" || c.Reboot != config.RebootWhenNeeded || c.Paused.Active(time.Now()) || a.Machine == nil || a.Once != "" {
		a.restart = restart{}
		return
	}
	if system == "" || r.state.drifted(r.running) || r.bootsNext != "" && r.running.Path != r.bootsFrom && r.running.Path != r.bootsNext {
		a.restart = restart{} // it cannot be told what for, or somebody is at work on it
		return
	}
	if r.state.restartedFor(system, a.BootID()) {
		a.reporter.counted("restart for "+system, "a restart of the machine is due although it was restarted for this system; a person is needed", "why", r.reboot, "system", system)
		a.restart = restart{}
		return
	}
	if a.restart.system == system && a.restart.from == r.running.Path && a.restart.window == c.RebootWindow {
		return
	}
	w, err := config.ParseWindow(c.RebootWindow)
	if err != nil {
		return // a config.json that holds it is refused
	}
	a.restart = restart{at: w.Pick(time.Now()), from: r.running.Path, window: c.RebootWindow, system: system}
	a.Log.Warn("a restart of the machine is due", "why", r.reboot, "at", a.restart.at.Format(time.RFC3339))
}

// restartTimer fires when the machine is to be restarted; never, while something else is to be done.
func (a *Agent) restartTimer(out outcome) (<-chan time.Time, func()) {
	if a.restart.at.IsZero() || out.kind != outcomeApplied && out.kind != outcomeBooting {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(a.restart.at))
	return t.C, func() { t.Stop() }
}

// restartMachine restarts the machine, if that is still the time for it, and nothing else is under way.
func (a *Agent) restartMachine(ctx context.Context) {
	defer func() { a.pulse.update(func(now *Pulse) { now.RebootAt = a.restart.at }) }()
	c, err := a.loadConfig()
	if err != nil {
		c = a.config // reported by the next round
	}
	if c.Reboot != config.RebootWhenNeeded || c.Paused.Active(time.Now()) {
		a.restart = restart{}
		return
	}
	a.restart.window = c.RebootWindow
	if w, err := config.ParseWindow(c.RebootWindow); err != nil || !w.Open(time.Now()) {
		a.restart.at = w.Pick(time.Now()) // a build took its time, or the clock was set
		return
	}
	a.restart.at = time.Now().Add(rebootAgain)
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	unlock, err := a.Dir.LockActivation(brief, nil)
	if err != nil {
		return // somebody activates by hand
	}
	defer unlock()
	state, err := ReadState(a.Dir)
	if err == nil {
		var running nix.System
		if running, err = a.Host.Current(ctx); err == nil && running.Path != a.restart.from {
			a.restart = restart{} // switched by hand since the last round
			return
		}
	}
	if err == nil && state.restartedFor(a.restart.system, a.BootID()) {
		a.restart = restart{}
		return
	}
	if err == nil {
		// On disk before it is asked for, and counts only once it has come.
		state.Restarted, state.RestartedIn = a.restart.system, a.BootID()
		err = saveState(a.Dir, state)
	}
	if err == nil {
		a.Log.Warn("restarting the machine", "system", a.restart.system)
		a.status("restarting the machine")
		err = a.Machine.Reboot(ctx)
	}
	if err != nil {
		a.reporter.failed("restart", "the machine cannot be restarted; it will be tried again", err)
		return
	}
	a.reporter.worked("restart", "the machine can be restarted again")
}
