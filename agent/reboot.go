package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
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

// pick returns a random moment of the window that is open at now, or else opens next. A moment that
// is due at once is none to pick, so that a fleet does not restart all at one time.
func (w window) pick(now time.Time) time.Time {
	if w.from == w.to {
		return now.Add(rand.N(rebootSpread))
	}
	// By the calendar, as days with a change of the clock are longer or shorter.
	on := func(day int, at time.Duration) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+day, 0, int(at/time.Minute), 0, 0, now.Location())
	}
	for day := -1; ; day++ {
		opens, closes := on(day, w.from), on(day, w.to)
		if w.to < w.from {
			closes = on(day+1, w.to)
		}
		if opens.Before(now) {
			opens = now
		}
		if closes.After(opens) {
			return opens.Add(rand.N(closes.Sub(opens)))
		}
	}
}

// lookForReboot finds out whether the machine is to be restarted, and why.
func (a *Agent) lookForReboot(ctx context.Context, r *round) {
	r.reboot = ""
	if in := r.state.Intent; in != nil && in.Stage == StageBooting {
		r.reboot = "the new system boots next"
	} else if a.Machine != nil {
		why, err := a.Machine.RebootDue(ctx)
		if err != nil {
			a.reporter.failed("reboot", "it cannot be told whether a restart is due", err)
			return
		}
		r.reboot = why
	}
	a.planReboot(r.reboot, r.config)
}

// planReboot picks the time of the restart when it becomes due.
func (a *Agent) planReboot(why string, c Config) {
	switch {
	case why == "" || c.Reboot != RebootWhenNeeded || c.Paused.Active(time.Now()) || a.Machine == nil || a.Once != "":
		a.rebootAt = time.Time{}
	case a.rebootAt.IsZero():
		w, err := parseWindow(c.RebootWindow)
		if err != nil {
			return // a config.json that holds it is refused
		}
		a.rebootAt = w.pick(time.Now())
		a.Log.Warn("a restart of the machine is due", "why", why, "at", a.rebootAt.Format(time.RFC3339))
	}
}

// rebootDue reports what a record says.
func (r *round) rebootDue() bool { return r.reboot != "" }

// rebootTimer fires when the machine is to be restarted; never, while something else is to be done.
func (a *Agent) rebootTimer(out outcome) (<-chan time.Time, func()) {
	if a.rebootAt.IsZero() || out.kind != outcomeApplied && out.kind != outcomeBooting {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(a.rebootAt))
	return t.C, func() { t.Stop() }
}

// restart restarts the machine. Nothing is under way, as the agent waits.
func (a *Agent) restart(ctx context.Context) {
	a.Log.Warn("restarting the machine")
	a.status("restarting the machine")
	if err := a.Machine.Reboot(ctx); err != nil {
		a.reporter.failed("restart", "the machine cannot be restarted; it will be tried again", err)
	}
	a.rebootAt = time.Now().Add(rebootAgain)
}
