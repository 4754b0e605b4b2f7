package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/nix/activation"
)

// shownLines is how much of a log is shown, so that a screen holds it all; --json has the rest.
const shownLines = 6

// lines are what a person reads: a label and what is to be said, one below the other.
type lines struct{ strings.Builder }

func (l *lines) add(label, format string, args ...any) {
	fmt.Fprintf(l, "%-15s%s\n", label+":", fmt.Sprintf(format, args...))
}

// text renders the status for a person. It begins with the verdict.
func (s hostStatus) text(now time.Time) string {
	var l lines
	fmt.Fprintln(&l, s.verdict(now))
	l.add("host", "%s", or(s.Host, "unknown"))
	l.add("remote", "%s", or(s.Remote, "not set"))
	l.add("configuration", "%s", or(s.Configuration, "not set"))
	l.add("events", "%s", or(cmp.Or(s.OwnQueue, s.QueueURL), map[bool]string{true: "watching the file", false: "no queue, so the agent polls"}[strings.HasPrefix(s.Remote, "file:")]))
	s.systems(&l, now)
	s.progress(&l, now)
	s.agent(&l, now)
	if s.RebootDue != "" {
		l.add("reboot", "due: %s%s", s.RebootDue, at(", planned ", s.Agent.RebootAt, now))
	}
	if s.BootDefault != "" {
		l.add("boot default", "%s, which is not the system that runs", s.BootDefault)
	}
	if a := s.Applied; a != nil && a.Warning != "" {
		l.add("warning", "%s", a.Warning)
	}
	if a := s.Applied; a != nil && (s.Wanted == "" || s.Wanted == a.ETag) && a.Expiring(now) {
		l.add("warning", "%s", a.ExpiryWarning())
	}
	if len(s.BootFailures) > 0 {
		l.add("warning", "the boot's activation failed in part: %s; see `journalctl -b`", strings.Join(s.BootFailures, ", "))
	}
	if s.NeedsRepair {
		l.add("problem", "a rollback failed, so the running or the booted system can be wrong; publish a version that works, or run `npcnix retry`")
	}
	for _, unreadable := range []string{s.StateError, s.ActivationError} {
		if unreadable != "" {
			l.add("problem", "%s; the agent sets the file aside at its next look at the store", unreadable)
		}
	}
	return l.String()
}

// systems says what runs, what was applied and what is wanted.
func (s hostStatus) systems(l *lines, now time.Time) {
	if s.Specialisation != "" {
		l.add("running", "%s, specialisation %s of the applied version", s.Running, s.Specialisation)
	} else {
		l.add("running", "%s", or(s.Running, "unknown"))
	}
	switch a := s.Applied; {
	case a != nil:
		l.add("applied", "%s as %s, %s", called(a.Target), a.Configuration, ago(a.At, now))
		l.changed(a.Changes)
	case s.StateError != "":
		l.add("applied", "unknown")
	default:
		l.add("applied", "nothing yet")
	}
	if s.Wanted != "" && (s.Applied == nil || s.Applied.ETag != s.Wanted) {
		l.add("wanted", "%s", s.Wanted)
	}
	if s.Drifted {
		l.add("drifted", "yes: %s was applied, and another system runs", s.Applied.System)
	}
}

// changed says which packages the last activation has changed.
func (l *lines) changed(packages []string) {
	label := "changed:"
	for i, line := range packages {
		if i == shownLines && len(packages) > shownLines+1 {
			line = fmt.Sprintf("and %d more lines: --json has them", len(packages)-i)
		}
		fmt.Fprintf(l, "%-15s%s\n", label, fleet.Clean(line))
		if label = ""; i == shownLines {
			return
		}
	}
}

// progress says how far the work on a version has got, or what became of it.
func (s hostStatus) progress(l *lines, now time.Time) {
	if i := s.Intent; i != nil {
		l.add("in progress", "%s, %s, attempt %d, begun %s", called(i.Target), inWords(i.Status), i.Attempt, ago(i.Since, now))
	}
	if s.Activation != nil {
		l.add("activation", "%s", phase(s.Activation, now))
	}
	f := s.Failure
	if f == nil {
		return
	}
	if f.Rejected {
		l.add("latest", "%s, %s after attempt %d, %s; `npcnix retry` tries again", called(f.Target), inWords(f.Status()), f.Attempts, ago(f.At, now))
	} else {
		l.add("latest", "%s, failed at attempt %d, %s; next attempt at %s%s", called(f.Target), f.Attempts, ago(f.At, now),
			f.Next().UTC().Format(time.RFC3339), at(", ", f.Next(), now))
	}
	l.add("error", "%s", f.Error)
	for _, line := range f.Tail[max(0, len(f.Tail)-shownLines):] {
		fmt.Fprintf(l, "%15s%s\n", "| ", line)
	}
}

// called names a version, with what its publisher says of it.
func called(t agent.Target) string {
	said := strings.Join(slices.DeleteFunc([]string{fleet.Clean(t.Rev), fleet.Clean(t.Message)}, func(s string) bool { return s == "" }), ": ")
	if said == "" {
		return t.ETag
	}
	return t.ETag + " (" + said + ")"
}

// inWords is a status as a sentence has it.
func inWords(s record.Status) string { return strings.ReplaceAll(string(s), "_", " ") }

// phase says what an activation is doing, and how long that can take.
func phase(a *activation.Journal, now time.Time) string {
	within := func(secs float64) string {
		limit := time.Duration(secs * float64(time.Second)).Round(time.Second)
		return fmt.Sprintf("begun %s, can take %s", ago(a.RequestedAt, now), fleet.Duration(limit))
	}
	switch a.Phase {
	case activation.Pending:
		return "about to switch to " + a.System
	case activation.Switching:
		return "switching to " + a.System + ", " + within(a.SwitchSecs)
	case activation.Verifying:
		return "verifying " + a.System + ", " + within(a.SwitchSecs+a.VerifySecs)
	case activation.Committing:
		return "committing " + a.System + ": setting the profile and the boot default"
	case activation.RebootPending:
		return a.System + " becomes active with the next boot: " + a.BootOnlyWhy
	case activation.RollingBack:
		return "rolling back to " + a.Previous + ": " + a.Reason
	case activation.RollbackFailed:
		text := fmt.Sprintf("the rollback to %s failed: %s", a.Previous, a.RollbackError)
		if at := a.RollbackRetryAt; !at.IsZero() {
			text += "; it is tried again at " + at.UTC().Format(time.RFC3339)
		}
		return text
	}
	return string(a.Phase)
}

// agent says how the agent is doing, and what it heard of last.
func (s hostStatus) agent(l *lines, now time.Time) {
	a := s.Agent
	switch {
	case a.Error != "":
		l.add("agent", "%s; its health is unknown: %s", map[bool]string{true: "running", false: "not running"}[a.Running], a.Error)
		return
	case !a.Running && a.PID == 0:
		l.add("agent", "not running: start it with `systemctl start npcnix`, or run `npcnix follow`")
		return
	case !a.Running:
		l.add("agent", "not running: start it with `systemctl start npcnix`, or run `npcnix follow`; what follows is from the last one")
	default:
		l.add("agent", "running as process %d, started %s", a.PID, ago(a.Started, now))
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
			l.add(part.label, "no, because the host is paused: events stay in the queue")
		case tried && !h.Works:
			l.add(part.label, "failing for %s: %s", age(now.Sub(h.Since)), h.Error)
		case part.name == health.Queue && tried:
			l.add(part.label, "yes, for %s", age(now.Sub(h.Since)))
		case part.name == health.Queue && s.QueueURL != "": // a watched file has nothing to answer
			l.add(part.label, "no answer yet")
		}
	}
	if h, tried := a.Parts[health.Store]; a.TransientError != "" && (!tried || h.Works) {
		l.add("retrying", "%s", a.TransientError)
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
func age(d time.Duration) string { return fleet.Duration(d.Round(time.Second)) }
