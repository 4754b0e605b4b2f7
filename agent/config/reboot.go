package config

import (
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

// rebootSpread is what the restarts of a fleet are spread over where there is no window.
const rebootSpread = time.Hour

// Window is a part of the day in local time: the zero window is the whole day.
type Window struct{ from, to time.Duration } // since midnight

// ParseWindow reads "HH:MM-HH:MM", which may span midnight, or "".
func ParseWindow(s string) (Window, error) {
	if s == "" {
		return Window{}, nil
	}
	var h1, m1, h2, m2 int
	var rest string
	n, _ := fmt.Sscanf(s+" .", "%2d:%2d-%2d:%2d %s", &h1, &m1, &h2, &m2, &rest)
	if n != 5 || rest != "." || h1 < 0 || m1 < 0 || h2 < 0 || m2 < 0 || h1 > 23 || h2 > 23 || m1 > 59 || m2 > 59 || h1 == h2 && m1 == m2 {
		return Window{}, fmt.Errorf("reboot_window is %q: want a time of the day from and to, such as 03:00-05:00", s)
	}
	at := func(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }
	return Window{at(h1, m1), at(h2, m2)}, nil
}

// Next returns when the window opens, or now if it is open, and when it closes after that. A window of
// the whole day closes in an hour.
func (w Window) Next(now time.Time) (opens, closes time.Time) {
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

// Pick returns a random moment of the window that is open at now, or else opens next, so that a fleet
// does not restart all at one time.
func (w Window) Pick(now time.Time) time.Time {
	opens, closes := w.Next(now)
	return opens.Add(rand.N(closes.Sub(opens)))
}

// Open reports whether the window is open.
func (w Window) Open(now time.Time) bool {
	opens, _ := w.Next(now)
	return !opens.After(now)
}
