package activation

import (
	"context"
	"fmt"

	"github.com/npcnix/npcnix/nix"
)

// maxBoots is how often the machine may boot a system that is not verified.
const maxBoots = 3

// recoverAfterBoot decides how an activation goes on after a restart of the machine: whatever worked on it
// is gone, and what runs is what the boot loader chose. It returns the phase, which may be the present one;
// for a rollback also its cause and its reason, in words.
func recoverAfterBoot(f Facts) (to Phase, cause Cause, reason string) {
	const interrupted = "the machine was restarted before the new system was committed"
	switch {
	case f.Phase.Ended():
		return f.Phase, f.Cause, ""
	case f.Running == f.System && f.Phase == RebootPending:
		return Verifying, "", ""
	case f.Running == f.System && f.Phase == Verifying && f.Restarts >= maxBoots:
		return RollingBack, CauseVersion, fmt.Sprintf("the machine was restarted %d times before the new system was verified", f.Restarts)
	case f.Running == f.System:
		return f.Phase, f.Cause, ""
	case f.Running == f.Previous && f.Phase != RebootPending && !f.Installed && f.ProfileError == "" && f.Profiled != f.System:
		// Nothing of the new system is left: the machine has booted the previous one.
		if f.Phase == RollingBack { // which has a cause of its own
			return RolledBack, f.Cause, ""
		}
		return RolledBack, CauseInterrupted, interrupted
	case f.Phase == RollingBack:
		return RollingBack, f.Cause, ""
	case f.Phase == RebootPending:
		return RollingBack, CauseVersion, "the machine was restarted, and did not boot the new system"
	}
	return RollingBack, CauseInterrupted, interrupted
}

// afterBoot takes note of a restart of the machine since the activation was requested.
func (j *Journal) afterBoot(ctx context.Context, dir string, m machine) error {
	f := j.facts(ctx, m)
	if f.RunningError != "" {
		return fmt.Errorf("%w: %s", nix.ErrMachine, f.RunningError)
	}
	if f.Running == f.System && f.Phase == Verifying {
		f.Restarts++
	}
	to, cause, reason := recoverAfterBoot(f)
	j.BootID, j.Restarts = nix.BootID(), f.Restarts
	if reason != "" {
		j.Cause, j.Reason = cause, reason
	}
	switch to {
	case j.Phase:
		return j.save(dir)
	case RolledBack:
		j.RollbackError = ""
		m.ReleasePrevious() // as no worker will
	}
	return j.advance(dir, to)
}

// afterRestart is afterBoot, if the machine was restarted, for an activation that others may have changed
// since it was read.
func (c *Coordinator) afterRestart(ctx context.Context, j *Journal) error {
	if j.Phase.Ended() || j.sameBoot() {
		return nil
	}
	unlock, free, err := lock(ctx, c.dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	now, err := Read(c.dir)
	if err != nil || now == nil || now.ID != j.ID {
		return err
	}
	*j = *now
	if j.Phase.Ended() || j.sameBoot() {
		return nil
	}
	booted := j.Phase == RebootPending
	if err := j.afterBoot(ctx, c.dir, realMachine{c.Host, c.dir, c.log}); err != nil {
		return err
	}
	if booted && j.Phase == Verifying {
		return c.timer(j).arm(ctx, j)
	}
	return nil
}
