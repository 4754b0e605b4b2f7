package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
)

const hooksLog = "/var/lib/machine/hooks"

// buildAgent builds npcnix as another version of itself.
func buildAgent(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "npcnix-"+version)
	build := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", path, "github.com/npcnix/npcnix/cmd/npcnix")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatalf("build npcnix: %v", err)
	}
	return path
}

// withAgent is a system whose agent's unit is another.
func withAgent(version, unit string) nspawn.System {
	return nspawn.System{Version: version, Units: map[string]string{"npcnix.service": unit}}
}

func TestAgentUpdate(t *testing.T) {
	t.Parallel()
	t.Run("an agent that does not work is rolled back by the rollback timer", brokenAgent)
	t.Run("a new agent takes over from the old", newAgent)
}

func brokenAgent(t *testing.T) {
	t.Parallel()
	hangs := strings.Replace(agentUnit("/bin/sleep infinity"), "WatchdogSec=2min\n", "", 1)
	for name, unit := range map[string]string{
		"ends at once":       agentUnit("/bin/false"),
		"hangs in its start": hangs,
		"hangs once started": strings.Replace(hangs, "Type=notify", "Type=simple", 1),
		"is not there":       agentUnit("/usr/local/bin/no-such-agent"),
		"is none at all":     "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, nspawn.Options{}, nil)
			g.set(map[string]any{"verify_timeout_secs": 3})
			p := g.publish(withAgent("broken", unit))
			p.want(record.RolledBack, "not verified within 3s: no agent has committed it")
			p.activated(1)
			p.buried()
			g.set(nil)
			g.publish(nspawn.System{Version: "good"}).want(record.Applied)
		})
	}
}

func newAgent(t *testing.T) {
	t.Parallel()
	eachSuite(t, func(t *testing.T, suite string) {
		o := nspawn.Options{Suite: suite, Binds: map[string]string{"/usr/local/bin/npcnix-two": buildAgent(t, "two")}}
		g := newGuarded(t, o, map[string]any{"hooks": hooks("")})
		first := g.record().Agent
		two := agentUnit("/usr/local/bin/npcnix-two follow --log-level debug")

		g.set(map[string]any{"verify_timeout_secs": 10, "checks": []config.Check{{Name: "sign of life", Command: []string{"/bin/false"}}}, "hooks": hooks("")})
		p := g.publish(withAgent("in-vain", two))
		r := p.want(record.RolledBack, "check sign of life")
		p.activated(1)
		p.hooksRan("pre_activate", "on_failure")
		if r.Agent != first {
			t.Errorf("the agent that tells of the rollback is %q", r.Agent)
		}

		g.set(map[string]any{"hooks": hooks("")})
		p = g.publish(withAgent("taken-over", two))
		r = p.want(record.Applied)
		p.activated(1)
		p.hooksRan("pre_activate", "post_activate")
		if r.Agent != "two" || r.Attempt != 1 || r.Trigger != record.Event || r.Times.Built.IsZero() {
			t.Errorf("the new agent's record: %+v", r)
		}
		is := func(program string) {
			t.Helper()
			if exe := g.m.Must("readlink", "/proc/"+g.m.Unit("npcnix", "MainPID")+"/exe"); exe != program+"\n" {
				t.Errorf("the agent is %s", exe)
			}
		}
		is("/usr/local/bin/npcnix-two")

		// A switch by an operator leaves the agent alone, so the next activation has to restart it.
		g.m.Install(g.system(nspawn.System{Version: "by-hand"}))
		is("/usr/local/bin/npcnix-two")
		p = g.publish(nspawn.System{Version: "and-back"})
		p.want(record.Applied)
		p.activated(1)
		is(agentBinary)
	})
}

// hooks tell that they were run, and then run a script.
func hooks(script string) config.Hooks {
	command := []string{"/bin/sh", "-c", "echo $NPCNIX_HOOK $NPCNIX_ACTIVATION_ID $NPCNIX_ETAG >>" + hooksLog + "; " + script + "true"}
	return config.Hooks{PreActivate: command, PostActivate: command, OnFailure: command}
}

// hooksRan checks which hooks were run for the version, all for one activation.
func (p published) hooksRan(names ...string) {
	p.t.Helper()
	var ran []string
	ids := map[string]bool{}
	p.m.Await("the hooks to have ended", func() bool { return !strings.Contains(p.m.Read(dataDir+"/state.json"), `"hook"`) })
	for line := range strings.Lines(p.m.Read(hooksLog)) {
		if words := strings.Fields(line); len(words) == 3 && words[2] == p.etag {
			ran = append(ran, words[0])
			ids[words[1]] = true
		}
	}
	if strings.Join(ran, " ") != strings.Join(names, " ") || len(ids) != 1 {
		p.t.Errorf("hooks of %s: %v of %d activations, want %v", p.version, ran, len(ids), names)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	t.Run("a hook is run again only when it was cut short", hookCutShort)
	t.Run("a veto changes nothing", veto)
}

func hookCutShort(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, nil)
	// post_activate hangs when it is run for the first time.
	g.set(map[string]any{"hooks": hooks(`[ $NPCNIX_HOOK = pre_activate ] || [ -e /var/lib/machine/once ] || { touch /var/lib/machine/once; sleep 1000000; }; `)})
	p := g.publish(nspawn.System{Version: "one"})
	g.m.Await("the hook", func() bool { return g.m.Exists("/var/lib/machine/once") })
	g.killAgent()
	p.want(record.Applied)
	p.activated(1)
	p.hooksRan("pre_activate", "post_activate", "post_activate")
	g.killAgent()
	g.publish(nspawn.System{Version: "two"}).want(record.Applied)
	p.hooksRan("pre_activate", "post_activate", "post_activate")
}

func veto(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, nspawn.Options{}, map[string]any{"retry_delays_secs": []int{1}})
	g.set(map[string]any{"hooks": config.Hooks{PreActivate: []string{"/bin/sh", "-c", "echo not today; exit 9"}}})
	p := g.publish(nspawn.System{Version: "unwanted"})
	p.want(record.Rejected, "the pre_activate hook refused the activation", "not today")
	p.activated(0)
	p.buried()
}

// killAgent kills the agent's process as a kernel out of memory does.
func (g *guarded) killAgent() { g.kill("npcnix") }

// kill kills the processes of a unit, if there are any.
func (g *guarded) kill(unit string) {
	_, _ = g.m.Run("systemctl", "kill", "--signal=KILL", unit)
}
