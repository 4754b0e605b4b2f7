package agent

import (
	"context"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/reboot"
)

// bootLogTimeout bounds the reading of the boot's log.
const bootLogTimeout = 10 * time.Second

// lookAtBoot finds out what there is to tell of the boot: whether an operator has made another system the boot default
// than the one that runs, and what failed of the activation when the machine booted.
func (a *Agent) lookAtBoot(ctx context.Context, r *round) {
	r.bootsOther = a.bootsOther(ctx, r)
	if a.Machine == nil {
		return
	}

	bounded, cancel := context.WithTimeout(ctx, bootLogTimeout)
	defer cancel()
	failures, err := a.Machine.BootFailures(bounded)
	if err != nil {
		a.Log.Debug("cannot tell what failed at the boot", "error", err)
	}
	r.bootFailures = failures
}

// bootsOther reports whether the boot default is another system than the one that runs. Once something is applied,
// only an operator makes that so.
func (a *Agent) bootsOther(ctx context.Context, r *round) bool {
	if r.running.Path == "" || r.pending != "" || r.state.Applied == nil || r.specialisation() != "" {
		return false
	}
	runs, err := a.Host.Runs(ctx, r.running)
	if err != nil {
		return r.bootsOther
	}

	return !runs
}

// planReboot finds out whether the machine is to be rebooted, and why, and plans when.
func (a *Agent) planReboot(ctx context.Context, r *round) {
	r.rebootDue = ""
	system := r.running.Path
	if r.pending != "" {
		r.rebootDue, system = "the new system becomes active with the next boot", r.pending
	} else if a.Machine != nil {
		why, err := a.Machine.RebootDue(ctx)
		if err != nil {
			a.monitor.Failing(health.RebootDue, err)
			return
		}
		a.monitor.Working(health.RebootDue)
		r.rebootDue = why
	}

	due := reboot.Due{
		Why: r.rebootDue, System: system, Running: r.running.Path, Rebooted: r.state.rebootedFor(system, a.BootID()),
		Unplanned: a.Machine == nil || a.Stale() || a.Once != "" || r.state.drifted(r.countsAs()) ||
			r.pending != "" && r.running.Path != r.pendingFrom && r.running.Path != r.pending,
	}
	next, inVain := a.reboot.Next(due, r.config, time.Now())
	switch {
	case inVain:
		a.monitor.Count("reboot for "+system, "a reboot is due although the machine was rebooted for this system; an operator is needed", "why", r.rebootDue, "system", system)
	case next != a.reboot && !next.At.IsZero():
		a.Log.Warn("a reboot is due", "why", r.rebootDue, "at", next.At.Format(time.RFC3339))
	}
	a.reboot = next
}

// rebootTimer fires when the machine is to be rebooted. It never does while something else is to be done.
func (a *Agent) rebootTimer(res result) (<-chan time.Time, func()) {
	quiet := res.ending == reached || res.ending == drifted || res.ending == rebootPending
	if a.reboot.At.IsZero() || !quiet {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(a.reboot.At))

	return t.C, func() { t.Stop() }
}

// rebootMachine reboots the machine, if that is still wanted, and nothing else is in progress.
func (a *Agent) rebootMachine(ctx context.Context) {
	defer func() {
		a.monitor.Update(func(now *health.Health) { now.RebootAt = a.reboot.At })
	}()

	c, _, err := a.loadConfig()
	if err != nil {
		c = a.config // reported by the next round
	}
	next, ready := a.reboot.Ready(c, time.Now())
	if a.reboot = next; !ready {
		return
	}

	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	unlock, err := a.Dir.LockActivation(brief, nil)
	if err != nil {
		return // an operator activates something
	}
	defer unlock()
	if err := a.requestReboot(ctx); err != nil {
		a.monitor.Failing(health.Reboot, err)
		return
	}
	a.monitor.Working(health.Reboot)
}

// requestReboot requests the planned reboot, unless the plan is void. That it was requested is on disk
// before, since the machine may go down at once.
func (a *Agent) requestReboot(ctx context.Context) error {
	state, err := ReadState(a.Dir)
	if err != nil {
		return err
	}
	running, err := a.Host.Current(ctx)
	if err != nil {
		return err
	}
	if running.Path != a.reboot.From || state.rebootedFor(a.reboot.System, a.BootID()) {
		a.reboot = reboot.Plan{}
		return nil
	}

	r := &round{state: state}
	r.move(state.requestReboot(a.reboot.System, a.BootID()))
	if err := a.save(r); err != nil {
		return err
	}
	a.Log.Warn("rebooting the machine", "system", a.reboot.System)
	a.status("rebooting the machine")

	return a.Machine.Reboot(ctx)
}
