package activation

import (
	"fmt"
	"slices"
)

// Phase is how far an activation has got.
type Phase string

const (
	Pending        Phase = "pending"         // requested; nothing was done yet
	Switching      Phase = "switching"       // to the new system
	Verifying      Phase = "verifying"       // the new system runs and is being verified
	Committing     Phase = "committing"      // it is verified; the profile and the boot loader are being set
	Committed      Phase = "committed"       // the end
	RebootPending  Phase = "reboot_pending"  // the new system is the boot default, and is verified after a reboot
	RollingBack    Phase = "rolling_back"    // to the previous system
	RolledBack     Phase = "rolled_back"     // the other end: the previous system runs, and is the boot default
	RollbackFailed Phase = "rollback_failed" // it does not, after all attempts: see Journal.RollbackError and RollbackRetryAt
)

// transitions are all the changes of phase that there are.
var transitions = map[Phase][]Phase{
	"":             {Pending},
	Pending:        {Switching, RollingBack, RolledBack},
	Switching:      {Verifying, RebootPending, RollingBack, RolledBack},
	Verifying:      {Committing, RollingBack, RolledBack},
	Committing:     {Committed, RollingBack, RolledBack},
	RebootPending:  {Verifying, RollingBack},
	RollingBack:    {RolledBack, RollbackFailed},
	Committed:      nil,
	RolledBack:     nil,
	RollbackFailed: {RollingBack}, // for another round of attempts
}

// Ended reports whether nothing more is to be done, or another activation may begin.
func (p Phase) Ended() bool { return p == Committed || p == RolledBack || p == RollbackFailed }

// advance makes the next phase durable in dir. Nothing else changes the phase of a journal. A transition
// that the table does not have is refused.
func (j *Journal) advance(dir string, to Phase) error {
	if !slices.Contains(transitions[j.Phase], to) {
		return fmt.Errorf("activation %s cannot go from phase %q to phase %q", j.ID, j.Phase, to)
	}
	before := j.Phase
	j.Phase = to
	if err := j.save(dir); err != nil {
		j.Phase = before
		return err
	}
	return nil
}

// toRollback makes durable that the activation is to be rolled back, and why.
func (j *Journal) toRollback(dir string, cause Cause, reason string) error {
	j.Cause, j.Reason = cause, reason
	return j.advance(dir, RollingBack)
}
