package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// Reboot says whether the agent restarts the machine when that is due.
type Reboot string

const (
	RebootNever      Reboot = "never"
	RebootWhenNeeded Reboot = "when-needed"
)

const (
	rebootSpread = time.Hour       // without a window: restarts of a fleet are spread over this
	rebootAgain  = 5 * time.Minute // after one that was asked for and did not come
)

// window is a part of the day, in local time.
type window struct{ from, to time.Duration } // since midnight; equal: the whole day

// parseWindow reads "HH:MM-HH:MM", which may go beyond midnight.
func parseWindow(s string) (window, error) {
	if s == "" {
		return window{}, nil
	}
	var h1, m1, h2, m2 int
	var rest string
	n, _ := fmt.Sscanf(s+" .", "%2d:%2d-%2d:%2d %s", &h1, &m1, &h2, &m2, &rest)
	if n != 5 || rest != "." || h1 < 0 || m1 < 0 || h2 < 0 || m2 < 0 || h1 > 23 || h2 > 23 || m1 > 59 || m2 > 59 || h1 == h2 && m1 == m2 {
		return window{}, fmt.Errorf("reboot_window is %q: want a time of the day from and to, such as 03:00-05:00", s)
	}
	at := func(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }
	return window{at(h1, m1), at(h2, m2)}, nil
}

// next returns when the window opens, or now where it is open, and when it closes then. A window of the
// whole day closes a while from now.
func (w window) next(now time.Time) (opens, closes time.Time) {
	if w.from == w.to {
		return now, now.Add(rebootSpread)
	}
	// By the calendar, as days with a change of the clock are longer or shorter.
	on := func(day int, at time.Duration) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+day, 0, int(at/time.Minute), 0, 0, now.Location())
	}
	for day := -1; ; day++ {
		opens, closes = on(day, w.from), on(day, w.to)
		if w.to < w.from {
			closes = on(day+1, w.to)
		}
		if closes.After(now) && closes.After(opens) {
			if opens.Before(now) {
				opens = now
			}
			return opens, closes
		}
	}
}

// pick returns a random moment of the window that is open at now, or else opens next, so that a fleet
// does not restart all at one time.
func (w window) pick(now time.Time) time.Time {
	opens, closes := w.next(now)
	return opens.Add(rand.N(closes.Sub(opens)))
}

// open reports whether the window is open.
func (w window) open(now time.Time) bool {
	opens, _ := w.next(now)
	return !opens.After(now)
}

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
	if r.reboot == "" || c.Reboot != RebootWhenNeeded || c.Paused.Active(time.Now()) || a.Machine == nil || a.Once != "" {
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
	w, err := parseWindow(c.RebootWindow)
	if err != nil {
		return // a config.json that holds it is refused
	}
	a.restart = restart{at: w.pick(time.Now()), from: r.running.Path, window: c.RebootWindow, system: system}
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
	if c.Reboot != RebootWhenNeeded || c.Paused.Active(time.Now()) {
		a.restart = restart{}
		return
	}
	a.restart.window = c.RebootWindow
	if w, err := parseWindow(c.RebootWindow); err != nil || !w.open(time.Now()) {
		a.restart.at = w.pick(time.Now()) // a build took its time, or the clock was set
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
	state, err := a.Dir.ReadState()
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
		err = a.Dir.saveState(state)
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
