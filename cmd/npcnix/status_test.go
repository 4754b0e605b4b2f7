package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/activation"
)

var statusNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// healthy is a host that is up to date, and whose agent runs.
func healthy() hostStatus {
	ago := func(d time.Duration) time.Time { return statusNow.Add(-d) }
	return hostStatus{
		Host: "web1", Remote: "s3://fleet/dev.npcnix", Configuration: "web1", QueueURL: "https://sqs.eu-west-1.amazonaws.com/123456789012/web1",
		Running: "/nix/store/one", Wanted: "v1",
		Applied: &agent.Applied{Target: agent.Target{ETag: "v1", Configuration: "web1"}, System: "/nix/store/one", At: ago(49 * time.Hour)},
		Agent: agentStatus{Running: true, Health: health.Health{
			PID: 7, Started: ago(3*time.Hour + 4*time.Minute + 5*time.Second),
			LastEvent: ago(65 * time.Second), LastPoll: ago(10 * time.Minute), LastLook: ago(64 * time.Second), Trigger: record.Event,
			Next:  statusNow.Add(9*time.Minute + 30*time.Second),
			Parts: map[health.Code]health.Part{"queue": {Works: true, Since: ago(time.Hour)}, "store": {Works: true}, "record": {Works: true}},
		}},
	}
}

// Each row says what there is besides, or instead of, a host that is well, and the lines that tell.
func TestStatusSaysOnOneScreenWhatAPersonAsks(t *testing.T) {
	since := statusNow.Add(-90 * time.Second)
	target := agent.Target{ETag: "v2", Configuration: "web1"}
	journal := func(s activation.Phase) *activation.Journal {
		return &activation.Journal{Phase: s, System: "/nix/store/two", Previous: "/nix/store/one", RequestedAt: since, SwitchSecs: 900, VerifySecs: 300,
			BootOnlyWhy: "another init", Reason: "check failed", RollbackError: "no space"}
	}
	for _, row := range []struct {
		name   string
		change func(*hostStatus)
		want   []string
		not    []string // beginnings of lines that must not be there
	}{
		{"all is well", func(*hostStatus) {}, []string{
			"active", "host:          web1", "remote:        s3://fleet/dev.npcnix",
			"events:        https://sqs.eu-west-1.amazonaws.com/123456789012/web1", "running:       /nix/store/one",
			"applied:       v1 as web1, 2 days ago", "agent:         runs as process 7, started 3h 4m ago",
			"receiving:     yes, since 1h 0m", "last event:    1m 5s ago", "last poll:     10m 0s ago; last look at the store 1m 4s ago (event)",
			"next look:     in 9m 30s, unless an event comes before",
		}, []string{"wanted", "latest", "restart", "store", "record", "problem", "drifted"}},
		{"building", func(s *hostStatus) {
			s.Intent, s.Wanted = &agent.Intent{Target: target, Status: record.Building, Attempt: 2, Since: since}, "v2"
			s.Agent.Next = time.Time{}
		}, []string{"wanted:        v2", "in progress:   building v2, attempt 2, begun 1m 30s ago"}, []string{"next look"}},
		{"switching", func(s *hostStatus) { s.Activation = journal(activation.Switching) },
			[]string{"activation:    switching to /nix/store/two, begun 1m 30s ago, may take 15m0s"}, nil},
		{"proving itself", func(s *hostStatus) { s.Activation = journal(activation.Verifying) },
			[]string{"activation:    /nix/store/two runs and has to prove itself, begun 1m 30s ago, may take 20m0s"}, nil},
		{"confirming", func(s *hostStatus) { s.Activation = journal(activation.Committing) },
			[]string{"activation:    /nix/store/two has proved itself: the profile and the boot loader are being set"}, nil},
		{"going back", func(s *hostStatus) { s.Activation = journal(activation.RollingBack) },
			[]string{"activation:    going back to /nix/store/one: check failed"}, nil},
		{"stranded", func(s *hostStatus) { s.Activation = journal(activation.RollbackFailed) },
			[]string{"activation:    could not go back to /nix/store/one: no space"}, nil},
		{"booting", func(s *hostStatus) {
			s.Activation, s.RebootDue, s.Agent.RebootAt = journal(activation.RebootPending), "the new system becomes active with the next boot", statusNow.Add(time.Hour)
		}, []string{"activation:    /nix/store/two boots next: another init", "reboot:        due: the new system becomes active with the next boot, planned in 1h 0m"}, nil},
		{"a failed attempt", func(s *hostStatus) {
			s.Failure, s.Wanted = &agent.Failure{Target: target, Attempts: 1, At: since, DelaySecs: 120, Error: "it does not build", Tail: []string{"one", "two"}}, "v2"
		}, []string{
			"latest:        v2 failed at attempt 1 1m 30s ago, next attempt at 2026-03-01T12:00:30Z, in 30s",
			"error:         it does not build", "             | one", "             | two",
		}, nil},
		{"a failed attempt whose next is due", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 1, At: since, DelaySecs: 30}
		}, []string{"latest:        v2 failed at attempt 1 1m 30s ago, next attempt at 2026-03-01T11:59:00Z, due now"}, nil},
		{"rejected", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 4, At: since, Rejected: true, Error: "it does not build"}
		}, []string{"latest:        v2 rejected after attempt 4 1m 30s ago; `npcnix retry` tries again", "error:         it does not build"}, nil},
		{"rolled back", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 1, At: since, Rejected: true, RolledBack: true, Error: "check failed"}
		}, []string{"latest:        v2 rolled back and rejected after attempt 1 1m 30s ago; `npcnix retry` tries again"}, nil},
		{"paused", func(s *hostStatus) { s.Paused = (*config.Pause)(nil).Extend(statusNow.Add(time.Hour), statusNow) },
			[]string{"paused (until 2026-03-01T13:00:00Z)", "receiving:     no, as the host is paused: events stay in the queue"}, []string{"active"}},
		{"not settled", func(s *hostStatus) { s.NeedsRepair = true },
			[]string{"problem:       the rollback of an activation failed: what runs or boots may not be what it should; publish a version that works, or `npcnix retry`"}, nil},
		{"drifted", func(s *hostStatus) { s.Drifted, s.Running = true, "/nix/store/hand" },
			[]string{"running:       /nix/store/hand", "drifted:       yes: /nix/store/one was applied, but something else runs"}, nil},
		{"a queue that fails", func(s *hostStatus) {
			s.Agent.Parts["queue"] = health.Part{Since: since, Error: "AccessDenied"}
		}, []string{"receiving:     fails, since 1m 30s: AccessDenied"}, nil},
		{"a queue that was not heard of", func(s *hostStatus) { delete(s.Agent.Parts, "queue") }, []string{"receiving:     no answer yet"}, nil},
		{"store and record fail", func(s *hostStatus) {
			s.Agent.Parts["store"], s.Agent.Parts["record"] = health.Part{Since: since, Error: "503"}, health.Part{Since: since, Error: "forbidden"}
			s.Agent.TransientError = "503"
		}, []string{"store:         fails, since 1m 30s: 503", "record:        fails, since 1m 30s: forbidden"}, []string{"error:"}},
		{"the machine cannot do the work", func(s *hostStatus) { s.Agent.TransientError = "the disk is full" }, []string{"error:         the disk is full"}, nil},
		{"the machine cannot do the work, before the store was asked", func(s *hostStatus) {
			s.Agent.TransientError = "the disk is full"
			delete(s.Agent.Parts, "store")
		}, []string{"error:         the disk is full"}, nil},
		{"the agent has ended", func(s *hostStatus) { s.Agent.Running = false },
			[]string{"agent:         does not run; what follows is from the last one. `systemctl start npcnix`, or `npcnix follow`, starts one", "last event:    1m 5s ago"},
			[]string{"receiving", "next look"}},
		{"no agent ever ran", func(s *hostStatus) { s.Agent = agentStatus{} },
			[]string{"agent:         does not run: start it with `systemctl start npcnix`, or run `npcnix follow`"}, []string{"last event", "receiving"}},
		{"what the agent says cannot be read", func(s *hostStatus) { s.Agent = agentStatus{Running: true, Error: "read agent.json: EOF"} },
			[]string{"agent:         runs, but what it says is unknown: read agent.json: EOF"}, []string{"last event"}},
		{"a file that is watched, and nothing yet", func(s *hostStatus) {
			s.QueueURL, s.Remote, s.Applied, s.Wanted, s.Running = "", "file:///dev.npcnix", nil, "", ""
		}, []string{"events:        watch of the file", "applied:       nothing yet", "running:       unknown"}, []string{"wanted"}},
		{"polls alone", func(s *hostStatus) {
			s.QueueURL, s.Remote = "", "https://store/dev.npcnix"
			delete(s.Agent.Parts, "queue")
		}, []string{"events:        no queue; polling"}, []string{"receiving"}},
		{"a clock that was set back", func(s *hostStatus) { s.Agent.LastEvent = statusNow.Add(time.Hour) }, []string{"last event:    1h 0m ahead of the clock"}, nil},
		{"files that cannot be read", func(s *hostStatus) {
			s.Applied, s.StateError, s.ActivationError = nil, "state.json is bad", "activation.json is bad"
		},
			[]string{"applied:       unknown", "problem:       state.json is bad; the agent sets it aside at its next look at the store",
				"problem:       activation.json is bad; the agent sets it aside at its next look at the store"}, nil},
	} {
		s := healthy()
		row.change(&s)
		text := s.text(statusNow)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for _, want := range row.want {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: %q is not in\n%s", row.name, want, text)
			}
		}
		for _, not := range row.not {
			if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, not) }) {
				t.Errorf("%s: a line begins with %q in\n%s", row.name, not, text)
			}
		}
		if len(lines) > 24 {
			t.Errorf("%s: %d lines, more than a screen", row.name, len(lines))
		}
	}
}
