package activation

import "fmt"

// Error is an activation that was rolled back: the previous system runs and boots, unless RollbackFailed
// says otherwise.
type Error struct{ Journal }

func (e *Error) Error() string {
	switch {
	case e.Cause == CauseBusy:
		return e.Reason + "; nothing was changed"
	case e.RollbackFailed() && !e.RollbackRetryAt.IsZero():
		return fmt.Sprintf("%s; the rollback to the previous system failed: %s; it is tried again", e.Reason, e.RollbackError)
	case e.RollbackFailed():
		return fmt.Sprintf("%s; the rollback to the previous system failed: %s", e.Reason, e.RollbackError)
	case e.OperatorSystem != "":
		return fmt.Sprintf("%s; meanwhile an operator has switched to %s, which stays", e.Reason, e.OperatorSystem)
	case e.RollbackError != "":
		return fmt.Sprintf("%s; rolled back to %s, with warnings: %s", e.Reason, e.Previous, e.RollbackError)
	case e.Previous == "":
		return e.Reason + "; there was no system before it"
	}
	return fmt.Sprintf("%s; rolled back to %s", e.Reason, e.Previous)
}

// NothingAgainst reports whether nothing is held against the system: it was never switched to, or only pending a
// reboot when another was wanted.
func (e *Error) NothingAgainst() bool {
	return e.Cause == CauseBusy || e.Cause == CauseSuperseded && !e.RollbackFailed()
}

// RollbackFailed reports whether the previous system could not be restored.
func (e *Error) RollbackFailed() bool { return e.Phase == RollbackFailed }
