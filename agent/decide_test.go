package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	v1 := Target{Remote: "r", Configuration: "c", ETag: "1"}
	v2 := Target{Remote: "r", Configuration: "c", ETag: "2"}
	wave1 := Target{Remote: "r", Configuration: "c", ETag: "2", Release: "new", Serial: 7}
	halted := Target{Remote: "r", Configuration: "c", ETag: "3", Release: "new", Serial: 7}
	again := Target{Remote: "r", Configuration: "c", ETag: "4", Release: "new", Serial: 8}
	applied := &Applied{Target: v1, System: "/s1"}
	failed := func(at time.Time, delay float64) *Failure {
		return &Failure{Target: v2, Attempts: 1, At: at, DelaySecs: delay, Error: "boom"}
	}
	for _, c := range []struct {
		name string
		have Known
		want Target
		is   record.Status // "": apply
		says string
	}{
		{"a fresh host applies", Known{}, v1, "", "nothing applied yet"},
		{"the applied target is unchanged", Known{State: State{Applied: applied}, Running: nix.System{Path: "/s1"}}, v1, record.Applied, ""},
		{"a target is unchanged though its version id differs", Known{State: State{Applied: applied}}, Target{Remote: "r", Configuration: "c", ETag: "1", VersionID: "other"}, record.Applied, ""},
		{"another version applies", Known{State: State{Applied: applied}}, v2, "", "new version"},
		{"another configuration applies", Known{State: State{Applied: applied}}, Target{Remote: "r", Configuration: "other", ETag: "1"}, "", "configuration changed"},
		{"another remote applies", Known{State: State{Applied: applied}}, Target{Remote: "other", Configuration: "c", ETag: "1"}, "", "remote changed"},
		{"a host that an operator has switched is left alone", Known{State: State{Applied: applied}, Running: nix.System{Path: "/x"}}, v1, record.Drifted, "switched to /x"},
		{"drift is corrected when asked for", Known{State: State{Applied: applied}, Running: nix.System{Path: "/x"}, CorrectDrift: true}, v1, "", "drift"},
		{"a new version applies over drift", Known{State: State{Applied: applied}, Running: nix.System{Path: "/x"}}, v2, "", "new version"},
		{"after a failed activation the applied version is returned to", Known{State: State{Applied: applied, NeedsRepair: true}, Running: nix.System{Path: "/x"}}, v1, "", "returning"},
		{"what becomes active with the next boot waits for that", Known{State: State{Applied: applied, Intent: &Intent{Target: v2, Status: record.RebootPending}}}, v2, record.RebootPending, "reboot"},
		{"the applied version applies while another waits for a reboot", Known{State: State{Applied: applied, Intent: &Intent{Target: v2, Status: record.RebootPending}}, Running: nix.System{Path: "/s1"}}, v1, "", "another version becomes active"},
		{"a paused host waits", Known{Paused: &config.Pause{Type: config.Indefinitely}}, v1, record.Paused, "paused"},
		{"a host paused until later waits", Known{Paused: &config.Pause{Type: config.Until, Until: now.Add(time.Minute)}}, v1, record.Paused, "2026-11-22T12:01:00Z"},
		{"a pause that ran out does not count", Known{Paused: &config.Pause{Type: config.Until, Until: now}}, v1, "", ""},
		{"pause comes before force", Known{Paused: &config.Pause{Type: config.Indefinitely}, Force: true}, v1, record.Paused, ""},
		{"force applies what is unchanged", Known{State: State{Applied: applied}, Force: true}, v1, "", "asked"},
		{"before its next attempt a failed target backs off", Known{State: State{Applied: applied, Failure: failed(now.Add(-10*time.Second), 30)}}, v2, record.Failed, "12:00:20Z"},
		{"at its next attempt a failed target applies", Known{State: State{Applied: applied, Failure: failed(now.Add(-30*time.Second), 30)}}, v2, "", "attempt 2"},
		{"a failure of another target does not count", Known{State: State{Failure: failed(now, 30)}}, v1, "", ""},
		{"a failure in the future means the clock was set back: apply", Known{State: State{Failure: failed(now.Add(8760*time.Hour), 30)}}, v2, "", "attempt 2"},
		{"after the operator's retry a failure does not count", Known{State: State{Failure: failed(now, 30)}, RetryToken: "t"}, v2, "", ""},
		{"a rejected target stays rejected", Known{State: State{Failure: &Failure{Target: v2, Attempts: 4, Rejected: true, Error: "boom"}}}, v2, record.Rejected, "attempt 4: boom"},
		{"after the operator's retry a rejection does not count", Known{State: State{Failure: &Failure{Target: v2, Rejected: true}}, RetryToken: "t"}, v2, "", ""},
		{"a rejected target that was rolled back is rolled back", Known{State: State{Failure: &Failure{Target: v2, Attempts: 1, Rejected: true, RolledBack: true}}}, v2, record.RolledBack, ""},
		{"a rejected target does not hold up the next version", Known{State: State{Applied: applied, Failure: &Failure{Target: v2, Rejected: true}}}, Target{Remote: "r", Configuration: "c", ETag: "3"}, "", "new version"},
		{"the applied version is unchanged though a later one was rejected", Known{State: State{Applied: applied, Failure: &Failure{Target: v2, Rejected: true}}, Running: nix.System{Path: "/s1"}}, v1, record.Applied, ""},
		{"a release that a halted rollout does not admit is held", Known{State: State{Applied: applied}, Held: "halted"}, halted, record.Held, "halted"},
		{"one that was rolled back before the halt stays rolled back", Known{State: State{Applied: applied, Failure: &Failure{Target: wave1, Attempts: 1, Rejected: true, RolledBack: true, Error: "boom"}}, Held: "halted"}, halted, record.RolledBack, "boom"},
		{"one that was rejected before the halt stays rejected, though it is forced", Known{State: State{Applied: applied, Failure: &Failure{Target: wave1, Attempts: 1, Rejected: true, Error: "boom"}}, Held: "halted", Force: true}, halted, record.Rejected, "boom"},
		{"one that is to be tried again is held", Known{State: State{Applied: applied, Failure: &Failure{Target: wave1, Attempts: 1, At: now, DelaySecs: 30}}, Held: "halted"}, halted, record.Held, "halted"},
		{"after the operator's retry one that was rejected is held", Known{State: State{Applied: applied, Failure: &Failure{Target: wave1, Rejected: true}}, Held: "halted", RetryToken: "t"}, halted, record.Held, "halted"},
		{"another publish of a rejected release is held", Known{State: State{Applied: applied, Failure: &Failure{Target: wave1, Rejected: true}}, Held: "halted"}, again, record.Held, "halted"},
		{"a version without an ETag is never unchanged", Known{State: State{Applied: &Applied{Target: Target{Remote: "r", Configuration: "c"}}}}, Target{Remote: "r", Configuration: "c"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Decide(c.have, c.want, now)
			if got.Status != c.is || got.Apply != (c.is == "") || !strings.Contains(got.Why, c.says) {
				t.Errorf("got %+v; want %q, %q", got, c.is, c.says)
			}
		})
	}
}
