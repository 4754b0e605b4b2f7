package integration

import (
	"os"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
)

const (
	// slowPercent of a core is what a slow machine has.
	slowPercent = 5
	// slowPatience is how long an activation of it may take, of some seconds of a whole core.
	slowPatience = 15 * time.Minute
)

// TestSlowMachine holds a machine to a twentieth of a core while it switches, verifies and rolls back.
func TestSlowMachine(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_SLOW") == "" {
		t.Skip("it takes long: make matrix sets NPCNIX_TEST_SLOW")
	}
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, map[string]any{"verify_timeout_secs": 300})
	for _, c := range []struct {
		version string
		checks  []config.Check
		want    record.Status
	}{
		{"slow-good", nil, record.Applied},
		{"slow-bad-check", []config.Check{{Command: []string{"/bin/false"}}}, record.RolledBack},
	} {
		settings := map[string]any{}
		if c.checks != nil {
			settings = map[string]any{"checks": c.checks, "verify_timeout_secs": 10}
		}
		g.set(settings)
		p := g.publish(nspawn.System{Version: c.version, Units: map[string]string{"web.service": daemonUnit("/bin/sleep 1000")}})
		g.m.Await("the switch to "+c.version, func() bool { return g.stage(p) == string(activation.Switching) })
		g.m.Slow(slowPercent)
		for begun := time.Now(); ; time.Sleep(time.Second) {
			r := g.record()
			if r.Version.ETag == p.etag && r.Status == c.want {
				t.Logf("%s is %s after %s", c.version, c.want, time.Since(begun).Round(time.Second))
				break
			}
			if time.Since(begun) > slowPatience {
				t.Fatalf("%s is %s: %s", c.version, r.Status, r.Error)
			}
		}
		g.m.Slow(0)
		p.want(c.want)
		p.activated(1)
	}
}
