package reboot

import (
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)

func settings(reboot config.Reboot, window string) config.Config {
	return config.Config{Reboot: reboot, RebootWindow: window}
}

func TestNext(t *testing.T) {
	due := Due{Why: "another kernel", System: "/two", Running: "/two"}
	needed := settings(config.RebootWhenNeeded, "03:00-05:00")
	planned := Plan{At: noon.Add(16 * time.Hour), From: "/two", Window: "03:00-05:00", System: "/two"}
	paused := needed
	paused.Paused = &config.Pause{Type: config.Indefinitely}
	with := func(change func(*Due)) Due {
		d := due
		change(&d)
		return d
	}
	for _, c := range []struct {
		name     string
		have     Plan
		due      Due
		settings config.Config
		plans    bool // a reboot
		keeps    bool // the one that was planned
		inVain   bool
	}{
		{"a reboot that is due is planned", Plan{}, due, needed, true, false, false},
		{"a plan stays as long as nothing changes", planned, due, needed, true, true, false},
		{"another system makes another plan", planned, with(func(d *Due) { d.System = "/three" }), needed, true, false, false},
		{"another running system makes another plan", planned, with(func(d *Due) { d.Running = "/three" }), needed, true, false, false},
		{"another window makes another plan", planned, due, settings(config.RebootWhenNeeded, "05:00-06:00"), true, false, false},
		{"without a need there is no plan", planned, with(func(d *Due) { d.Why = "" }), needed, false, false, false},
		{"unless the settings want it there is no plan", planned, due, settings(config.RebootNever, ""), false, false, false},
		{"a paused host has no plan", planned, due, paused, false, false, false},
		{"an operator at work has no plan made", planned, with(func(d *Due) { d.Unplanned = true }), needed, false, false, false},
		{"a system that cannot be told has no plan", planned, with(func(d *Due) { d.System = "" }), needed, false, false, false},
		{"a reboot that was made and did not help is not made again", planned, with(func(d *Due) { d.Rebooted = true }), needed, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, inVain := c.have.Next(c.due, c.settings, noon)
			if plans := next != (Plan{}); plans != c.plans || inVain != c.inVain {
				t.Fatalf("%+v, in vain %v", next, inVain)
			}
			if keeps := c.plans && next == c.have; keeps != c.keeps {
				t.Errorf("the plan was %+v, and is %+v", c.have, next)
			}
			if !c.plans {
				return
			}
			w, err := config.ParseWindow(c.settings.RebootWindow)
			if err != nil || !w.Open(next.At) || next.At.Before(noon) || next.System != c.due.System || next.From != c.due.Running {
				t.Errorf("%+v, %v", next, err)
			}
		})
	}
}

func TestReady(t *testing.T) {
	three := noon.Add(15 * time.Hour)
	planned := Plan{At: three, From: "/two", Window: "03:00-05:00", System: "/two"}
	paused := settings(config.RebootWhenNeeded, "03:00-05:00")
	paused.Paused = &config.Pause{Type: config.Indefinitely}
	for _, c := range []struct {
		name     string
		settings config.Config
		now      time.Time
		ready    bool
		next     func(Plan) bool
	}{
		{"in the window it is made, and requested again if it does not come", settings(config.RebootWhenNeeded, "03:00-05:00"), three, true,
			func(p Plan) bool { return p.At.Equal(three.Add(Again)) }},
		{"after the window it waits for the next", settings(config.RebootWhenNeeded, "03:00-05:00"), three.Add(3 * time.Hour), false,
			func(p Plan) bool { return p.At.After(three.Add(23 * time.Hour)) }},
		{"in another window by now it waits for that", settings(config.RebootWhenNeeded, "08:00-09:00"), three, false,
			func(p Plan) bool { return p.At.After(three.Add(4*time.Hour)) && p.Window == "08:00-09:00" }},
		{"on a paused host it is dropped", paused, three, false, func(p Plan) bool { return p == Plan{} }},
		{"if the settings want none by now it is dropped", settings(config.RebootNever, ""), three, false, func(p Plan) bool { return p == Plan{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, ready := planned.Ready(c.settings, c.now)
			if ready != c.ready || !c.next(next) {
				t.Errorf("%+v, ready %v", next, ready)
			}
		})
	}
}
