// Package reboot plans when an agent reboots its machine.
//
// It promises that a machine is rebooted only if the settings say so, within the window, once for a
// system, and never while an operator has changed the running system.
package reboot

import (
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

// Again is how long after a reboot that was requested and did not come it is requested again.
const Again = 5 * time.Minute

// Plan is the reboot that an agent means to make. The zero plan makes none.
type Plan struct {
	At     time.Time
	From   string // the system that runs: if another one does, the plan is void
	Window string // that At was picked from
	System string // that it is for
}

// Due is a need for a reboot.
type Due struct {
	Why       string // "" if there is none
	System    string // that it is for; "" if that cannot be told
	Running   string
	Rebooted  bool // the machine was rebooted for the system already
	Unplanned bool // an operator is at work on the machine, or nothing here reboots it
}

// Next returns the plan that follows p. Warning says that a person is needed, because a reboot that has
// been made did not help.
func (p Plan) Next(d Due, c config.Config, now time.Time) (next Plan, warning bool) {
	switch {
	case d.Why == "" || c.Reboot != config.RebootWhenNeeded || c.Paused.Active(now) || d.System == "" || d.Unplanned:
		return Plan{}, false
	case d.Rebooted:
		return Plan{}, true
	case p.System == d.System && p.From == d.Running && p.Window == c.RebootWindow:
		return p, false
	}

	w, err := config.ParseWindow(c.RebootWindow)
	if err != nil {
		return p, false // a config.json that holds it is refused
	}

	return Plan{At: w.Pick(now), From: d.Running, Window: c.RebootWindow, System: d.System}, false
}

// Ready reports whether the planned reboot is to be made at now. If not, it returns the plan that counts
// instead: the window may have closed meanwhile, or the settings may have changed.
func (p Plan) Ready(c config.Config, now time.Time) (next Plan, ready bool) {
	if c.Reboot != config.RebootWhenNeeded || c.Paused.Active(now) {
		return Plan{}, false
	}

	p.Window = c.RebootWindow
	if w, err := config.ParseWindow(c.RebootWindow); err != nil || !w.Open(now) {
		p.At = w.Pick(now) // a build took its time, or the clock was set
		return p, false
	}
	p.At = now.Add(Again)

	return p, true
}
