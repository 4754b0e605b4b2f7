package integration

import (
	"testing"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
)

// slowPercent of a core is what a slow machine has.
const slowPercent = 5

// TestSlowMachine holds a machine to a twentieth of a core while it switches, verifies and rolls back.
func TestSlowMachine(t *testing.T) {
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
		g.m.Await("the end of "+c.version, func() bool { return g.record().Status == c.want && g.record().Version.ETag == p.etag })
		g.m.Slow(0)
		p.want(c.want)
		p.activated(1)
	}
}
