package activation

// Phase is how far an activation has got.
type Phase string

const (
	Pending        Phase = "pending"         // requested; nothing was done yet
	Switching      Phase = "switching"       // to the new system
	Verifying      Phase = "verifying"       // the new system runs and is being verified
	Committing     Phase = "committing"      // it is verified; the profile and the boot loader are being set
	Committed      Phase = "committed"       // the end
	RebootPending  Phase = "reboot_pending"  // the new system boots next, and is verified after that
	RollingBack    Phase = "rolling_back"    // to the previous system
	RolledBack     Phase = "rolled_back"     // the other end: the previous system runs, and boots next
	RollbackFailed Phase = "rollback_failed" // it does not, after all attempts: see Journal.RollbackError
)

// Ended reports whether nothing more is to be done.
func (p Phase) Ended() bool { return p == Committed || p == RolledBack || p == RollbackFailed }

// Cause is why an activation is rolled back.
type Cause string

const (
	// CauseVersion blames the new system: its switch, its verification or its boot loader failed.
	CauseVersion Cause = "version"
	// CauseInterrupted is a kill, a restart of the machine or a loss of power.
	CauseInterrupted Cause = "interrupted"
	// CauseBusy means that another process was switching all the while. Nothing was changed.
	CauseBusy Cause = "busy"
	// CauseSuperseded means that another system is wanted by now.
	CauseSuperseded Cause = "superseded"
	// CauseOperator means that an operator has switched to something else meanwhile, which stays.
	CauseOperator Cause = "operator"
	// CauseMachine blames the machine: for example, its disk is full.
	CauseMachine Cause = "machine"
)

// Transient reports whether the same system may well be activated at another attempt.
func (c Cause) Transient() bool {
	switch c {
	case CauseInterrupted, CauseBusy, CauseSuperseded, CauseMachine:
		return true
	}
	return false
}
