package activation

import (
	"context"
	"fmt"

	"github.com/npcnix/npcnix/nix"
)

// afterRestart takes note of a restart of the machine since the activation was ordered: whatever
// worked on it is gone, and what runs is what the boot loader chose.
func (c *Coordinator) afterRestart(ctx context.Context, j *Journal) error {
	if j.Phase.Ended() || j.sameBoot() {
		return nil
	}
	unlock, free, err := lock(ctx, c.dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	switch now, err := Read(c.dir); { // which others may have changed before
	case err != nil:
		return err
	case now == nil || now.ID != j.ID:
		return nil
	default:
		*j = *now
	}
	if j.Phase.Ended() || j.sameBoot() {
		return nil
	}
	running, err := c.Current(ctx)
	if err != nil {
		return err
	}
	j.BootID = nix.BootID()
	switch {
	case running.Path == j.System && j.Phase == RebootPending:
		// Units of another boot say nothing about this one.
		j.Ran, j.Failed = nil, nil
		if err := j.advance(c.dir, Verifying); err != nil {
			return err
		}
		return c.timer().arm(ctx, j)
	case running.Path == j.System && j.Phase == Verifying:
		if j.Restarts++; j.Restarts >= maxTries {
			return j.toRollback(c.dir, CauseVersion, fmt.Sprintf("the machine was restarted %d times before the new system was verified", j.Restarts))
		}
		return j.save(c.dir)
	case running.Path == j.System:
		return j.save(c.dir)
	case running.Path == j.Previous && j.Phase != RebootPending && !j.Installed && !c.profileHas(j.System):
		// Nothing of it is left: the machine has booted the previous system.
		if j.Phase != RollingBack { // which has a reason of its own
			j.Cause = CauseInterrupted
			j.Reason = "the machine was restarted before the new system was committed"
		}
		j.RollbackError = ""
		return j.advance(c.dir, RolledBack)
	case j.Phase == RollingBack:
		return j.save(c.dir)
	case j.Phase == RebootPending:
		return j.toRollback(c.dir, CauseVersion, "the machine was restarted, and did not boot the new system")
	}
	return j.toRollback(c.dir, CauseInterrupted, "the machine was restarted before the new system was committed")
}

// profileHas reports whether the profile points to a system. One that cannot be read may.
func (c *Coordinator) profileHas(system string) bool {
	profiled, _, err := c.Profiled()
	return err != nil || profiled.Path == system
}
