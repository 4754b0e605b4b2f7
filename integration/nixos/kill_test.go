package nixos

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Who is killed, and in which phase. Three such rounds are what `make test` has time for; `make matrix` makes 210 on
// three hosts.
var (
	victims = []string{"machine", "worker", "agent"}
	phases  = []string{"switching", "committing", "verifying", "pending", "committed"}
)

// TestKilledInAnyPhaseAHostEndsWithOneSystem publishes version after version, and kills something in a phase of
// each. None of the versions is bad, so each is applied in the end.
func TestKilledInAnyPhaseAHostEndsWithOneSystem(t *testing.T) {
	t.Parallel()
	if os.Getenv("NPCNIX_TEST_MATRIX") == "" {
		killRounds(t, RustNow, "trixie", 0, len(victims))
		return
	}
	const each = 70
	for i, column := range []struct{ flavour, suite string }{{RustNow, "trixie"}, {Perl2022, "bookworm"}, {Rust2024, "trixie"}} {
		t.Run(column.flavour, func(t *testing.T) {
			t.Parallel()
			killRounds(t, column.flavour, column.suite, i*each, each)
		})
	}
}

// killRounds makes rounds on one host, and begins with the one of number first.
func killRounds(t *testing.T, flavour, suite string, first, rounds int) {
	h := New(t, Options{Suite: suite, Flavour: flavour, Agent: agentBinary, Module: Module(t)})
	for n := first; n < first+rounds; n++ {
		victim, phase := victims[n%len(victims)], phases[(n+n/len(victims))%len(phases)]
		t.Run(fmt.Sprintf("the %s when %s", victim, phase), func(t *testing.T) {
			h.use(t)
			defer h.use(t)
			version, etag := h.Publish("killed", web(fmt.Sprintf("/bin/sleep %d", 2000000+n)))
			at := h.awaitPhase(version, phase)
			switch victim {
			case "machine":
				h.Kill()
				h.Boot()
			case "worker":
				_, _ = h.Run("systemctl", "kill", "--signal=KILL", "npcnix-activate*") // it may have ended
			case "agent":
				h.Must("systemctl", "kill", "--signal=KILL", "npcnix")
			}
			var r Record
			h.Await("the end of "+version, func() bool { r = h.Record(etag); return r.Status == "applied" || r.Status == "rejected" })
			t.Logf("the %s was killed when it was %s: %s", victim, at, r.Status)
			if r.Status != "applied" {
				t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.Applied = version
			h.stands(version)
			if got := h.Runs(); got != version {
				t.Errorf("%s runs, want %s", got, version)
			}
			h.wants("web", "active")
		})
	}
	h.use(t)
}

// awaitPhase waits until the activation of a version is in a phase, or has ended, and returns the phase.
func (h *Host) awaitPhase(version, phase string) (at string) {
	h.t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	give := time.After(2 * time.Minute)
	for {
		select {
		case <-look.C:
		case <-give:
			h.t.Fatalf("%s does not come to the phase %s", version, phase)
		}
		if !strings.Contains(h.Read(dataDir+"/activation.json"), "-26.05."+version+`"`) {
			continue
		}
		if at = h.Phase(); at == phase || at == "committed" || at == "rolled_back" {
			return at
		}
	}
}

// A healthy unit that systemd restarts all the time, and a job that fails each time, are no reason to reject a version
// that changes neither.
func TestNothingButTheVersionChangesManyTimes(t *testing.T) {
	t.Parallel()
	times := 3
	if os.Getenv("NPCNIX_TEST_MATRIX") != "" {
		times = 20
	}
	h := New(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t), Base: `{
		systemd.services.beat = { wantedBy = [ "multi-user.target" ]; serviceConfig = { ExecStart = "/bin/sleep 2"; Restart = "always"; RestartSec = 2; }; };
		systemd.services.nightly.serviceConfig = { Type = "oneshot"; ExecStart = "/bin/sh -c 'sleep 1; exit 1'"; };
		test.units."nightly.timer" = { text = "[Timer]\nOnActiveSec=1\nOnUnitInactiveSec=2\nAccuracySec=100ms\n"; wantedBy = [ "timers.target" ]; };
	}`})
	for range times {
		version, etag := h.Publish("again", "{ }")
		if r := h.Final(etag); r.Status != "applied" {
			t.Errorf("%s is %s: %s", version, r.Status, r.Text())
		}
		h.Applied = version
		h.stands(version)
	}
}
