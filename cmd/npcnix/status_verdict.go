package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
)

// verdict says in one line how this host is: the first of these that an operator has to know.
func (s hostStatus) verdict(now time.Time) string {
	said := s.standing(now)
	if s.Agent.TransientError != "" && s.Agent.Running && s.Paused == nil {
		said += ", but retrying: " + firstLine(s.Agent.TransientError)
	}
	if !s.Agent.Running {
		said += "; no agent is running"
	}
	return said
}

func (s hostStatus) standing(now time.Time) string {
	switch {
	case s.NeedsRepair:
		return "needs repair: a rollback failed"
	case s.Paused != nil:
		return s.Paused.String()
	case s.Remote == "" || s.Configuration == "":
		return "not configured: `npcnix config set remote URL` and `npcnix config set configuration NAME`"
	case s.Intent != nil:
		return s.underway(now)
	case s.Failure != nil:
		return s.failed(now)
	case s.Drifted:
		return "drifted: an operator has switched this host from " + fleet.Short(s.Applied.ETag)
	case s.Agent.Held != "" && s.Agent.Running:
		return "held: " + s.Agent.Held
	case s.Applied == nil:
		return "nothing is applied yet"
	case s.Agent.Unhealthy != "" && s.Agent.Running:
		return "unhealthy with " + fleet.Short(s.Applied.ETag) + ": " + firstLine(s.Agent.Unhealthy)
	case s.Wanted != s.Applied.ETag:
		return "behind: the remote holds " + fleet.Short(s.Wanted)
	case s.RebootDue != "":
		return fmt.Sprintf("up to date with %s, and a reboot is due", fleet.Short(s.Applied.ETag))
	}
	return "up to date with " + fleet.Short(s.Applied.ETag)
}

// underway is the verdict while a version is worked on.
func (s hostStatus) underway(now time.Time) string {
	in := s.Intent
	if in.Status == record.RebootPending {
		return "reboot pending: " + fleet.Short(in.ETag) + " becomes active with the next boot"
	}
	return fmt.Sprintf("%s %s for %s", in.Status, fleet.Short(in.ETag), age(now.Sub(in.Since)))
}

// failed is the verdict on a version that could not be applied.
func (s hostStatus) failed(now time.Time) string {
	f := s.Failure
	said := fmt.Sprintf("%s %s", inWords(f.Status()), ago(f.At, now))
	if !f.Rejected {
		said += at(", next attempt ", f.Next(), now)
	}
	return said + ": " + fleet.WithoutHashes(firstLine(f.Error))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
