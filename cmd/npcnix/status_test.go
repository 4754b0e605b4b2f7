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

// Each row says what differs from a host that is up to date, and the lines that say so.
func TestStatusText(t *testing.T) {
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
		{"up to date", func(*hostStatus) {}, []string{
			"up to date with v1", "host:          web1", "remote:        s3://fleet/dev.npcnix",
			"events:        https://sqs.eu-west-1.amazonaws.com/123456789012/web1", "running:       /nix/store/one",
			"applied:       v1 as web1, 2d ago", "agent:         running as process 7, started 3h4m ago",
			"receiving:     yes, for 1h", "last event:    1m5s ago", "last poll:     10m ago; last look at the store 1m4s ago (event)",
			"next look:     in 9m30s, unless an event comes before",
		}, []string{"wanted", "latest", "restart", "store", "record", "problem", "drifted"}},
		{"what an activation has changed", func(s *hostStatus) { s.Applied.Changes = []string{"tool: 1 → 2", "other: ∅ → 1"} },
			[]string{"changed:       tool: 1 → 2", "               other: ∅ → 1"}, []string{"               and"}},
		{"much of what it has changed", func(s *hostStatus) { s.Applied.Changes = slices.Repeat([]string{"tool: 1 → 2"}, 9) },
			[]string{"changed:       tool: 1 → 2", "               and 3 more lines: --json has them"}, nil},
		{"a specialisation", func(s *hostStatus) { s.Running, s.Specialisation = "/nix/store/more", "fancy" },
			[]string{"up to date with v1", "running:       /nix/store/more, specialisation fancy of the applied version"}, []string{"drifted"}},
		{"another boot default", func(s *hostStatus) { s.BootDefault = "/nix/store/theirs" },
			[]string{"boot default:  /nix/store/theirs, which is not the system that runs"}, nil},
		{"warnings", func(s *hostStatus) {
			s.Applied.Warning, s.BootFailures = "units fail that did not run before: a.service", []string{"Activation script snippet 'users' failed (1)"}
		}, []string{
			"warning:       units fail that did not run before: a.service",
			"warning:       the boot's activation failed in part: Activation script snippet 'users' failed (1); see `journalctl -b`",
		}, nil},
		{"a release that expires soon", func(s *hostStatus) {
			s.Applied.Renew, s.Applied.Expires = statusNow.Add(-time.Hour), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
		}, []string{"warning:       the release expires at 2030-01-02T03:04:05Z: publish another one, or run `npcnix release renew`"}, nil},
		{"one that does not", func(s *hostStatus) {
			s.Applied.Renew, s.Applied.Expires = statusNow.Add(time.Hour), statusNow.Add(2*time.Hour)
		},
			nil, []string{"expires"}},
		{"one that was replaced", func(s *hostStatus) {
			s.Applied.Renew, s.Applied.Expires, s.Wanted = statusNow.Add(-time.Hour), statusNow.Add(time.Hour), "v2"
		}, nil, []string{"expires"}},
		{"building", func(s *hostStatus) {
			s.Intent, s.Wanted = &agent.Intent{Target: target, Status: record.Building, Attempt: 2, Since: since}, "v2"
			s.Agent.Next = time.Time{}
		}, []string{"wanted:        v2", "in progress:   v2, building, attempt 2, begun 1m30s ago"}, []string{"next look"}},
		{"switching", func(s *hostStatus) { s.Activation = journal(activation.Switching) },
			[]string{"activation:    switching to /nix/store/two, begun 1m30s ago, can take 15m"}, nil},
		{"verifying", func(s *hostStatus) { s.Activation = journal(activation.Verifying) },
			[]string{"activation:    verifying /nix/store/two, begun 1m30s ago, can take 20m"}, nil},
		{"committing", func(s *hostStatus) { s.Activation = journal(activation.Committing) },
			[]string{"activation:    committing /nix/store/two: setting the profile and the boot default"}, nil},
		{"rolling back", func(s *hostStatus) { s.Activation = journal(activation.RollingBack) },
			[]string{"activation:    rolling back to /nix/store/one: check failed"}, nil},
		{"the rollback failed", func(s *hostStatus) { s.Activation = journal(activation.RollbackFailed) },
			[]string{"activation:    the rollback to /nix/store/one failed: no space"}, nil},
		{"the rollback failed, and is tried again", func(s *hostStatus) {
			s.Activation = journal(activation.RollbackFailed)
			s.Activation.RollbackRetryAt = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		}, []string{"activation:    the rollback to /nix/store/one failed: no space; it is tried again at 2026-11-28T12:00:00Z"}, nil},
		{"reboot pending", func(s *hostStatus) {
			s.Activation, s.RebootDue, s.Agent.RebootAt = journal(activation.RebootPending), "the new system becomes active with the next boot", statusNow.Add(time.Hour)
		}, []string{"activation:    /nix/store/two becomes active with the next boot: another init", "reboot:        due: the new system becomes active with the next boot, planned in 1h"}, nil},
		{"a failed attempt", func(s *hostStatus) {
			s.Failure, s.Wanted = &agent.Failure{Target: target, Attempts: 1, At: since, DelaySecs: 120, Error: "it does not build", Tail: []string{"one", "two"}}, "v2"
		}, []string{
			"latest:        v2, failed at attempt 1, 1m30s ago; next attempt at 2026-03-01T12:00:30Z, in 30s",
			"error:         it does not build", "             | one", "             | two",
		}, nil},
		{"a failed attempt whose next is due", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 1, At: since, DelaySecs: 30}
		}, []string{"latest:        v2, failed at attempt 1, 1m30s ago; next attempt at 2026-03-01T11:59:00Z, due now"}, nil},
		{"rejected", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 4, At: since, Rejected: true, Error: "it does not build"}
		}, []string{"latest:        v2, rejected after attempt 4, 1m30s ago; `npcnix retry` tries again", "error:         it does not build"}, nil},
		{"rolled back", func(s *hostStatus) {
			s.Failure = &agent.Failure{Target: target, Attempts: 1, At: since, Rejected: true, RolledBack: true, Error: "check failed"}
		}, []string{"latest:        v2, rolled back after attempt 1, 1m30s ago; `npcnix retry` tries again"}, nil},
		{"paused", func(s *hostStatus) { s.Paused = (*config.Pause)(nil).Extend(statusNow.Add(time.Hour), statusNow) },
			[]string{"paused (until 2026-03-01T13:00:00Z)", "receiving:     no, because the host is paused: events stay in the queue"}, []string{"up to date"}},
		{"needs repair", func(s *hostStatus) { s.NeedsRepair = true },
			[]string{"problem:       a rollback failed, so the running or the booted system can be wrong; publish a version that works, or run `npcnix retry`"}, nil},
		{"drifted", func(s *hostStatus) { s.Drifted, s.Running = true, "/nix/store/other" },
			[]string{"running:       /nix/store/other", "drifted:       yes: /nix/store/one was applied, and another system runs"}, nil},
		{"a queue that fails", func(s *hostStatus) {
			s.Agent.Parts["queue"] = health.Part{Since: since, Error: "AccessDenied"}
		}, []string{"receiving:     failing for 1m30s: AccessDenied"}, nil},
		{"a queue that was not heard of", func(s *hostStatus) { delete(s.Agent.Parts, "queue") }, []string{"receiving:     no answer yet"}, nil},
		{"store and record fail", func(s *hostStatus) {
			s.Agent.Parts["store"], s.Agent.Parts["record"] = health.Part{Since: since, Error: "503"}, health.Part{Since: since, Error: "forbidden"}
			s.Agent.TransientError = "503"
		}, []string{"store:         failing for 1m30s: 503", "record:        failing for 1m30s: forbidden"}, []string{"retrying:"}},
		{"the machine cannot do the work", func(s *hostStatus) { s.Agent.TransientError = "the disk is full" }, []string{"retrying:      the disk is full"}, nil},
		{"the machine cannot do the work, before the store was asked", func(s *hostStatus) {
			s.Agent.TransientError = "the disk is full"
			delete(s.Agent.Parts, "store")
		}, []string{"retrying:      the disk is full"}, nil},
		{"the agent has ended", func(s *hostStatus) { s.Agent.Running = false },
			[]string{"agent:         not running: start it with `systemctl start npcnix`, or run `npcnix follow`; what follows is from the last one", "last event:    1m5s ago"},
			[]string{"receiving", "next look"}},
		{"no agent ever ran", func(s *hostStatus) { s.Agent = agentStatus{} },
			[]string{"agent:         not running: start it with `systemctl start npcnix`, or run `npcnix follow`"}, []string{"last event", "receiving"}},
		{"what the agent says cannot be read", func(s *hostStatus) { s.Agent = agentStatus{Running: true, Error: "read agent.json: EOF"} },
			[]string{"agent:         running; its health is unknown: read agent.json: EOF"}, []string{"last event"}},
		{"a file that is watched, and nothing yet", func(s *hostStatus) {
			s.QueueURL, s.Remote, s.Applied, s.Wanted, s.Running = "", "file:///dev.npcnix", nil, "", ""
		}, []string{"events:        watching the file", "applied:       nothing yet", "running:       unknown"}, []string{"wanted"}},
		{"polls alone", func(s *hostStatus) {
			s.QueueURL, s.Remote = "", "https://store/dev.npcnix"
			delete(s.Agent.Parts, "queue")
		}, []string{"events:        no queue, so the agent polls"}, []string{"receiving"}},
		{"a clock that was set back", func(s *hostStatus) { s.Agent.LastEvent = statusNow.Add(time.Hour) }, []string{"last event:    1h ahead of the clock"}, nil},
		{"files that cannot be read", func(s *hostStatus) {
			s.Applied, s.StateError, s.ActivationError = nil, "state.json is bad", "activation.json is bad"
		},
			[]string{"applied:       unknown", "problem:       state.json is bad; the agent sets the file aside at its next look at the store",
				"problem:       activation.json is bad; the agent sets the file aside at its next look at the store"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := healthy()
			row.change(&s)
			text := s.text(statusNow)
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			for _, want := range row.want {
				if !slices.Contains(lines, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			for _, not := range row.not {
				if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, not) }) {
					t.Errorf("a line begins with %q in\n%s", not, text)
				}
			}
			if len(lines) > 24 {
				t.Errorf("%d lines, more than a screen", len(lines))
			}
		})
	}
}

// The first line says what an operator has to know, and the most important thing if there are several.
func TestStatusVerdict(t *testing.T) {
	target := agent.Target{ETag: "v2"}
	since := statusNow.Add(-3 * time.Minute)
	failure := func(rejected, rolledBack bool) *agent.Failure {
		return &agent.Failure{Target: target, At: since, DelaySecs: 300, Error: "check web failed\nmore", Rejected: rejected, RolledBack: rolledBack}
	}
	for _, row := range []struct {
		want   string
		change func(*hostStatus)
	}{
		{"up to date with v1", func(*hostStatus) {}},
		{"up to date with v1; no agent is running", func(s *hostStatus) { s.Agent.Running = false }},
		{"up to date with v1, and a reboot is due", func(s *hostStatus) { s.RebootDue = "another kernel" }},
		{"up to date with v1, but retrying: 503", func(s *hostStatus) { s.Agent.TransientError = "503\nmore" }},
		{"not configured: `npcnix config set remote URL` and `npcnix config set configuration NAME`; no agent is running", func(s *hostStatus) { *s = hostStatus{} }},
		{"nothing is applied yet", func(s *hostStatus) { s.Applied = nil }},
		{"behind: the remote holds v2", func(s *hostStatus) { s.Wanted = "v2" }},
		{"building v2 for 3m", func(s *hostStatus) { s.Intent = &agent.Intent{Target: target, Status: record.Building, Since: since} }},
		{"reboot pending: v2 becomes active with the next boot", func(s *hostStatus) { s.Intent = &agent.Intent{Target: target, Status: record.RebootPending} }},
		{"failed 3m ago, next attempt in 2m: check web failed", func(s *hostStatus) { s.Failure = failure(false, false) }},
		{"rejected 3m ago: check web failed", func(s *hostStatus) { s.Failure = failure(true, false) }},
		{"rolled back 3m ago: check web failed", func(s *hostStatus) { s.Failure, s.Drifted = failure(true, true), true }},
		{"drifted: an operator has switched this host from v1", func(s *hostStatus) { s.Drifted = true }},
		{"paused (indefinitely)", func(s *hostStatus) { s.Paused, s.Drifted = &config.Pause{Type: config.Indefinitely}, true }},
		{"needs repair: a rollback failed", func(s *hostStatus) { s.NeedsRepair, s.Failure = true, failure(true, true) }},
	} {
		t.Run(row.want, func(t *testing.T) {
			s := healthy()
			row.change(&s)
			if got := s.verdict(statusNow); got != row.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
