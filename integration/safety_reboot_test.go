package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
)

// once is a script that tells that it was run, and hangs when it is run for the first time.
const (
	onceMark = "/var/lib/machine/hung"
	once     = "[ -e " + onceMark + " ] || { touch " + onceMark + "; sync; sleep 1000000; }\n"
)

// loss is how a machine goes down.
type loss struct {
	name string
	down func(*guarded)
}

var losses = []loss{
	{"power loss", func(g *guarded) { g.m.Kill(); g.m.Boot() }},
	{"reboot", func(g *guarded) { g.m.Reboot() }},
}

func TestReboot(t *testing.T) {
	t.Parallel()
	t.Run("in the middle of an activation lets it finish", downInTheMiddle)
	t.Run("in the middle of a rollback keeps the old system", downInARollback)
	t.Run("is waited for where the switch is inhibited", inhibited)
	t.Run("into a system that fails its verification is rolled back", bootedSystemFails)
	t.Run("that loses the rollback timer makes the agent arm it", timerLost)
	t.Run("is not tried for ever to roll back", notForEver)
	t.Run("is made when it is needed", whenNeeded)
}

func downInTheMiddle(t *testing.T) {
	t.Parallel()
	slow := map[string]any{"checks": []config.Check{{Name: "slow", Command: []string{"/bin/sh", "-c", once}, TimeoutSecs: 600}}}
	for _, l := range losses {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, nspawn.Options{}, map[string]any{"verify_timeout_secs": 900})
			for _, c := range []struct {
				at       activation.Phase
				system   nspawn.System
				settings map[string]any
			}{
				{activation.Switching, nspawn.System{Version: "switch", After: once}, nil},
				{activation.Switching, nspawn.System{Version: "early-switch", Before: once}, nil},
				{activation.Verifying, nspawn.System{Version: "verification"}, slow},
				{activation.Committing, nspawn.System{Version: "commit", Bootloader: once}, nil},
			} {
				g.m.Must("rm", "-f", onceMark)
				g.set(c.settings)
				p := g.publish(c.system)
				g.m.Await(fmt.Sprintf("the stage %s of %s", c.at, p.version), func() bool { return g.m.Exists(onceMark) })
				if a := g.activation(); a.Phase != c.at {
					t.Errorf("%s hangs in the stage %s", p.version, a.Phase)
				}
				l.down(g)
				p.want(record.Applied)
				p.activated(2)
			}
		})
	}
}

func downInARollback(t *testing.T) {
	t.Parallel()
	for _, l := range losses {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, nspawn.Options{}, nil)
			old := nspawn.System{Version: "old", Before: "[ ! -e /run/current-system/bad ] && [ $(cat /run/current-system/version) = old ] || {\n" + once + "}\n"}
			g.m.Write(onceMark, "")
			g.publish(old).want(record.Applied)
			g.m.Must("rm", "-f", onceMark)
			p := g.publish(nspawn.System{Version: "bad", After: "echo bad luck; exit 1"})
			g.m.Await("the rollback", func() bool { return g.m.Exists(onceMark) })
			l.down(g)
			p.want(record.RolledBack, "bad luck")
			p.activated(1)
			g.publish(nspawn.System{Version: "good"}).want(record.Applied)
		})
	}
}

// dbus returns a system whose critical component is of a kind.
func dbus(version, kind string) nspawn.System {
	return nspawn.System{Version: version, Inhibitors: map[string]string{"dbus-implementation": kind}}
}

// pending waits until the version is the boot default, and the record says that it awaits a reboot.
func (p published) pending() {
	p.t.Helper()
	p.m.Await("a record that says that a reboot is pending", func() bool {
		r := p.record()
		return r.Version.ETag == p.etag && r.Status == record.RebootPending && r.RebootDue
	})
	if p.m.Version() != p.before {
		p.t.Errorf("%s runs", p.m.Version())
	}
	if to := p.m.Link(nspawn.BootDefault); p.m.Link(nspawn.Profile) != to || to == p.m.Link(nspawn.CurrentSystem) {
		p.t.Errorf("%s is the boot default", to)
	}
	p.activated(0)
}

func inhibited(t *testing.T) {
	t.Parallel()
	eachSuite(t, func(t *testing.T, suite string) {
		g := newGuarded(t, nspawn.Options{Suite: suite}, nil)
		g.publish(dbus("daemon", "dbus")).want(record.Applied)
		p := g.publish(dbus("broker", "broker"))
		p.pending()
		g.m.Reboot()
		if r := p.want(record.Applied); r.RebootDue || r.PreviousSystem == r.System {
			t.Errorf("record: %+v", r)
		}
		p.activated(0)

		p = g.publish(dbus("back", "dbus"))
		p.pending()
		g.m.Kill()
		g.m.Boot()
		p.want(record.Applied)
	})
}

func bootedSystemFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		units map[string]string
		says  string
	}{
		"no network":     {map[string]string{"firewall.service": nspawn.NetworkCut}, "the store cannot be reached"},
		"a broken agent": {map[string]string{"npcnix.service": agentUnit("/bin/false")}, "not verified within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, nspawn.Options{}, nil)
			g.publish(dbus("daemon", "dbus")).want(record.Applied)
			g.set(map[string]any{"verify_timeout_secs": 4})
			next := dbus("broker", "broker")
			next.Units = c.units
			p := g.publish(next)
			p.pending()
			p.deleted = true // when nothing was left to do but a restart
			g.m.Reboot()
			p.want(record.RolledBack, c.says)
			g.set(nil)
			g.publish(dbus("good", "dbus")).want(record.Applied)
		})
	}
}

// What npcnix-rearm has armed is lost: the agent starts it before it verifies the system.
func timerLost(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, nil)
	g.publish(dbus("daemon", "dbus")).want(record.Applied)
	g.set(map[string]any{"checks": []config.Check{{Command: []string{"sh", "-c", "systemctl list-units --plain --no-legend --state=active 'npcnix-rollback*.service' | grep ."}}}, "verify_timeout_secs": 10})
	next := dbus("broker", "broker")
	next.Units = map[string]string{"npcnix-rearm.service": strings.Replace(rearmUnit, "[Install]", "ExecStart=systemctl stop npcnix-rollback*\n[Install]", 1)}
	p := g.publish(next)
	p.pending()
	g.m.Reboot()
	p.want(record.Applied)
}

// The boot loader says that it has been set, and has not.
func notForEver(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, nil)
	old := dbus("daemon", "dbus")
	old.Bootloader = "[ ! -e /var/lib/machine/stuck ] || exit 0\n" // and /boot/default stays
	g.publish(old).want(record.Applied)
	g.set(map[string]any{"verify_timeout_secs": 4})
	next := dbus("broker", "broker")
	next.Units = map[string]string{"firewall.service": nspawn.NetworkCut}
	p := g.publish(next)
	p.pending()
	g.m.Must("touch", "/var/lib/machine/stuck")
	g.m.Reboot()
	g.m.Await("the end of the rollback", func() bool { return g.activation().Phase == activation.RollbackFailed })
	if a := g.activation(); !strings.Contains(a.RollbackError, "after all attempts") || a.RollbackTries < 3 {
		t.Errorf("%+v", a)
	}
	if boots := strings.Count(g.m.Must("journalctl", "--no-pager", "--list-boots", "--quiet"), "\n"); boots != 5 {
		t.Errorf("booted %d times, want 5: at first, into the new system, and three times to go back", boots)
	}
	g.m.Must("rm", "-rf", "/var/lib/machine/stuck", nspawn.NetworkDown)
	if r := p.final(); r.Status != record.Rejected || !strings.Contains(r.Error, "the rollback to the previous system failed") {
		t.Errorf("record: %+v", r)
	}
}

func whenNeeded(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, nil)
	init := g.publish(nspawn.System{Version: "another-init", Init: "systemd 3"})
	g.m.Await("a record that says that a reboot is pending", func() bool { return init.record().RebootDue })
	g.m.Reboot()
	init.want(record.Applied)
	id := g.m.BootID()
	p := g.publish(nspawn.System{Version: "one", Init: "systemd 3", Kernel: "6.2"})
	if r := p.final(); r.Status != record.Applied || !r.RebootDue {
		t.Errorf("record: %+v", r)
	}
	// The agent picks a moment in the window, which is open for half a minute at least.
	now := time.Now().UTC()
	g.m.Must("npcnix", "config", "set", "reboot-window", now.Format("15:04")+"-"+now.Add(90*time.Second).Format("15:04"))
	g.m.Must("npcnix", "config", "set", "reboot", "when-needed")
	g.m.WaitUp(id)
	g.m.Await("a record that says that no reboot is due", func() bool { r := p.record(); return r.Version.ETag == p.etag && !r.RebootDue })
	p.want(record.Applied)
	p.activated(1)
}
