package activation

import (
	"context"
	"sync"

	"github.com/npcnix/npcnix/nix/systemd"
)

// ownUnit is this process's own unit, as it was when the process began; its name is "" where there is none.
type ownUnit struct {
	once      sync.Once
	name, sum string
}

// note takes note of what the unit was made of when this process began. An operator's switch may have
// changed the unit since, and left it running.
func (o *ownUnit) note(ctx context.Context) {
	o.once.Do(func() {
		if o.name = systemd.OwnUnit(ctx); o.name != "" {
			o.sum = systemd.UnitSum(ctx, o.name)
		}
	})
}

// agentUnit returns the name of the agent's unit, and a sum of what it is made of; both "" where there is
// none. With the default data directory it is npcnix.service, whoever activates: it may also be an
// operator, or the script that installs the host. With another it is the unit that this process is the
// main process of. A stopped agent is left alone.
func (c *Coordinator) agentUnit(ctx context.Context) (name, sum string) {
	if !systemd.Running() {
		return "", ""
	}
	c.own.note(ctx)
	name = agentService
	if c.dir != defaultDir {
		if name = c.own.name; name == "" {
			return "", ""
		}
	}
	if !systemd.Active(ctx, name) {
		return "", ""
	}
	if c.own.name == name {
		return name, c.own.sum
	}
	return name, systemd.UnitSum(ctx, name)
}

// restartAgent has the agent's unit restarted if the switch has changed what it is made of, or has ended
// it: NixOS leaves it alone, or has stopped it, because the switch that the agent has requested must not
// kill the agent.
func (w *worker) restartAgent() {
	if w.AgentUnit == "" || !systemd.Running() {
		return
	}
	ctx := context.Background()
	sum := systemd.UnitSum(ctx, w.AgentUnit)
	if sum == "" {
		return // there is none, any more or yet: what will be is up to the switch
	}
	changed := sum != w.AgentUnitSum
	if systemd.Active(ctx, w.AgentUnit) && !changed && !w.AgentRestarted {
		return
	}
	w.log.Info("restarting the agent", "unit", w.AgentUnit)
	w.AgentRestarted = true
	if err := w.save(w.dir); err != nil { // else the rollback would not know that it is to restart it
		w.log.Warn("the restart of the agent cannot be written down", "error", err)
	}
	if err := systemd.Systemctl(ctx, "restart", "--no-block", w.AgentUnit); err != nil {
		w.log.Warn("the agent cannot be restarted; without one, the activation will be rolled back", "error", err)
	}
}
