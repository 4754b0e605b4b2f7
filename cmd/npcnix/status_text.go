package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/nix/activation"
)

// shownLines is how much of a log is shown, so that a screen holds it all; --json has the rest.
const shownLines = 6

// lines are what a person reads: a label and what is to be said, one below the other.
type lines struct{ strings.Builder }

func (l *lines) add(label, format string, args ...any) {
	fmt.Fprintf(l, "%-15s%s\n", label+":", fmt.Sprintf(format, args...))
}

// text renders the status for a person. Its first line is the Rust npcnix's.
func (s hostStatus) text(now time.Time) string {
	var l lines
	if s.Paused != nil {
		fmt.Fprintln(&l, s.Paused)
	} else {
		fmt.Fprintln(&l, "active")
	}
	l.add("host", "%s", or(s.Host, "unknown"))
	l.add("remote", "%s", or(s.Remote, "not set"))
	l.add("configuration", "%s", or(s.Configuration, "not set"))
	l.add("events", "%s", or(s.QueueURL, map[bool]string{true: "watch of the file", false: "no queue; polling"}[strings.HasPrefix(s.Remote, "file:")]))
	s.systems(&l, now)
	s.progress(&l, now)
	s.agent(&l, now)
	if s.RebootDue != "" {
		l.add("reboot", "due: %s%s", s.RebootDue, at(", planned ", s.Agent.RebootAt, now))
	}
	if s.NeedsRepair {
		l.add("problem", "the rollback of an activation failed: what runs or boots may not be what it should; publish a version that works, or `npcnix retry`")
	}
	if s.StateError != "" {
		l.add("problem", "%s; the agent sets it aside at its next look at the store", s.StateError)
	}
	if s.ActivationError != "" {
		l.add("problem", "%s; the agent sets it aside at its next look at the store", s.ActivationError)
	}
	return l.String()
}

// systems says what runs, what was applied and what is wanted.
func (s hostStatus) systems(l *lines, now time.Time) {
	l.add("running", "%s", or(s.Running, "unknown"))
	switch a := s.Applied; {
	case a != nil:
		l.add("applied", "%s as %s, %s", a.ETag, a.Configuration, ago(a.At, now))
	case s.StateError != "":
		l.add("applied", "unknown")
	default:
		l.add("applied", "nothing yet")
	}
	if s.Wanted != "" && (s.Applied == nil || s.Applied.ETag != s.Wanted) {
		l.add("wanted", "%s", s.Wanted)
	}
	if s.Drifted {
		l.add("drifted", "yes: %s was applied, but something else runs", s.Applied.System)
	}
}

// progress says how far the work on a version has got, or what became of it.
func (s hostStatus) progress(l *lines, now time.Time) {
	if i := s.Intent; i != nil {
		l.add("in progress", "%s %s, attempt %d, begun %s", i.Status, i.ETag, i.Attempt, ago(i.Since, now))
	}
	if s.Activation != nil {
		l.add("activation", "%s", stage(s.Activation, now))
	}
	f := s.Failure
	if f == nil {
		return
	}
	if f.Rejected {
		verdict := "rejected"
		if f.RolledBack {
			verdict = "rolled back and rejected"
		}
		l.add("latest", "%s %s after attempt %d %s; `npcnix retry` tries again", f.ETag, verdict, f.Attempts, ago(f.At, now))
	} else {
		l.add("latest", "%s failed at attempt %d %s, next attempt at %s%s", f.ETag, f.Attempts, ago(f.At, now),
			f.Next().UTC().Format(time.RFC3339), at(", ", f.Next(), now))
	}
	l.add("error", "%s", f.Error)
	for _, line := range f.Tail[max(0, len(f.Tail)-shownLines):] {
		fmt.Fprintf(l, "%15s%s\n", "| ", line)
	}
}

// stage says what an activation is about, and how long that may take.
func stage(a *activation.Journal, now time.Time) string {
	within := func(secs float64) string {
		limit := time.Duration(secs * float64(time.Second)).Round(time.Second)
		return fmt.Sprintf("begun %s, may take %s", ago(a.RequestedAt, now), limit)
	}
	switch a.Phase {
	case activation.Pending:
		return "ordered: the switch to " + a.System + " is about to begin"
	case activation.Switching:
		return "switching to " + a.System + ", " + within(a.SwitchSecs)
	case activation.Verifying:
		return a.System + " runs and has to prove itself, " + within(a.SwitchSecs+a.VerifySecs)
	case activation.Committing:
		return a.System + " has proved itself: the profile and the boot loader are being set"
	case activation.RebootPending:
		return a.System + " boots next: " + a.BootOnlyWhy
	case activation.RollingBack:
		return "going back to " + a.Previous + ": " + a.Reason
	case activation.RollbackFailed:
		return fmt.Sprintf("could not go back to %s: %s", a.Previous, a.RollbackError)
	}
	return string(a.Phase)
}

// agent says how the agent is doing, and what it heard of last.
func (s hostStatus) agent(l *lines, now time.Time) {
	a := s.Agent
	switch {
	case a.Error != "":
		l.add("agent", "%s, but what it says is unknown: %s", map[bool]string{true: "runs", false: "does not run"}[a.Running], a.Error)
		return
	case !a.Running && a.PID == 0:
		l.add("agent", "does not run: start it with `systemctl start npcnix`, or run `npcnix follow`")
		return
	case !a.Running:
		l.add("agent", "does not run; what follows is from the last one. `systemctl start npcnix`, or `npcnix follow`, starts one")
	default:
		l.add("agent", "runs as process %d, started %s", a.PID, ago(a.Started, now))
	}
	for _, part := range []struct {
		name  health.Code
		label string
	}{
		{health.Queue, "receiving"}, {health.Store, "store"}, {health.Record, "record"}, {health.Lease, "leases"}, {health.Config, "settings"},
	} {
		switch h, tried := a.Parts[part.name]; {
		case !a.Running:
		case part.name == health.Queue && s.Paused != nil:
			l.add(part.label, "no, as the host is paused: events stay in the queue")
		case tried && !h.Works:
			l.add(part.label, "fails, since %s: %s", age(now.Sub(h.Since)), h.Error)
		case part.name == health.Queue && tried:
			l.add(part.label, "yes, since %s", age(now.Sub(h.Since)))
		case part.name == health.Queue && (s.QueueURL != "" || strings.HasPrefix(s.Remote, "file:")):
			l.add(part.label, "no answer yet")
		}
	}
	if h, tried := a.Parts[health.Store]; a.TransientError != "" && (!tried || h.Works) {
		l.add("error", "%s", a.TransientError)
	}
	l.add("last event", "%s", or(ago(a.LastEvent, now), "none"))
	poll := or(ago(a.LastPoll, now), "none")
	if !a.LastLook.Equal(a.LastPoll) {
		poll += fmt.Sprintf("; last look at the store %s (%s)", ago(a.LastLook, now), a.Trigger)
	}
	l.add("last poll", "%s", poll)
	if a.Running && !a.Next.IsZero() {
		l.add("next look", "%s, unless an event comes before", at("", a.Next, now))
	}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// ago says how long ago t was; "" if it is zero.
func ago(t, now time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case t.After(now.Add(time.Second)):
		return age(t.Sub(now)) + " ahead of the clock"
	}
	return age(now.Sub(t)) + " ago"
}

// at says in how long t will be; "" if it is zero.
func at(before string, t, now time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case !t.After(now):
		return before + "due now"
	}
	return before + "in " + age(t.Sub(now))
}

// age is a duration as exactly as a person wants it.
func age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
