package fleet

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Lines shows a wait as lines, one for each change, as CI logs want it. Each begins with the
// time since the wait began.
type Lines struct {
	W io.Writer

	begun   bool
	last    Progress
	counted time.Duration // when the counts were last said
}

// countEvery is how often the counts are said while nothing else is: CI systems end jobs that
// are silent for ten minutes.
const countEvery = time.Minute

func (l *Lines) Update(p Progress, changed []Host) {
	l.last = p
	if p.Trouble == "" && !l.begun {
		l.begun, l.counted = true, p.Elapsed
		l.say("waiting for %s of %s to run %s: %s", need(p), p.Remote, p.name(), counts(p))
		for _, h := range changed {
			// Those that are done or were not heard yet are counted above.
			if h.Verdict != Done && h.State != Behind && h.State != Unheard && h.State != "waiting" {
				l.host(h)
			}
		}
		return
	}
	for _, h := range changed {
		l.host(h)
	}
	if p.Elapsed-l.counted >= countEvery {
		l.counted = p.Elapsed
		if p.Trouble != "" {
			l.say("the records still cannot be read: %s", clean(p.Trouble))
			return
		}
		l.say("%s", counts(p))
	}
}

func (l *Lines) Note(msg string) { l.say("%s", clean(msg)) }

func (l *Lines) End(r Result) {
	l.last = r.Progress
	io.WriteString(l.W, Text(closing(r)))
}

func (l *Lines) host(h Host) { l.say("%s", strings.Join(describe(h), " ")) }

func (l *Lines) say(format string, args ...any) {
	fmt.Fprintf(l.W, "%s %s\n", stopwatch(l.last.Elapsed), clean(fmt.Sprintf(format, args...)))
}

// describe tells of a host in words: name, state, and what there is to add.
func describe(h Host) []string {
	words := []string{h.Name, inWords(h.State)}
	if n := h.attempt(); n > 1 && h.State != Behind {
		words = append(words, fmt.Sprintf("(attempt %d)", n))
	}
	if h.Timed && h.Verdict == Done {
		words = append(words, "after "+Duration(h.Took))
	}
	if h.Why != "" {
		words[len(words)-1] += ":"
		words = append(words, h.Why)
	}
	return words
}

// need says how many hosts must be done.
func need(p Progress) string {
	if p.Need == len(p.Hosts) {
		return Hosts(p.Need)
	}
	return fmt.Sprintf("%d of %s", p.Need, Hosts(len(p.Hosts)))
}

// counts says how many hosts stand where.
func counts(p Progress) string {
	s := fmt.Sprintf("%d of %d done", p.Done, len(p.Hosts))
	if p.Failed > 0 {
		s += fmt.Sprintf(", %d failed", p.Failed)
	}
	return s + tally(p.Hosts, func(h Host) bool { return h.Verdict == Missing }, ", ")
}

// stopwatch writes a time since the beginning as 0:00.
func stopwatch(d time.Duration) string {
	s := int(d / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Duration writes a time as people say it: in whole units, the smaller ones while they matter.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return units(d/time.Minute, "m", d/time.Second%60, "s")
	case d < 48*time.Hour:
		return units(d/time.Hour, "h", d/time.Minute%60, "m")
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// units writes a time in two units, or in the larger one if it is whole.
func units(n time.Duration, unit string, rest time.Duration, smaller string) string {
	if rest == 0 {
		return fmt.Sprintf("%d%s", n, unit)
	}
	return fmt.Sprintf("%d%s%d%s", n, unit, rest, smaller)
}
