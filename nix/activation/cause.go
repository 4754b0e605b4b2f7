package activation

import (
	"errors"
	"syscall"

	"github.com/npcnix/npcnix/nix"
)

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

// RollbackCauses are those with which something is rolled back.
var RollbackCauses = []Cause{CauseVersion, CauseInterrupted, CauseSuperseded, CauseOperator, CauseMachine}

// causeOf tells whose fault an error of the host is.
func causeOf(err error) Cause {
	for _, machine := range []error{nix.ErrMachine, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ENOMEM, syscall.EAGAIN} {
		if errors.Is(err, machine) {
			return CauseMachine
		}
	}
	return CauseVersion
}

// Transient reports whether the same system may well be activated at another attempt.
func (c Cause) Transient() bool {
	switch c {
	case CauseInterrupted, CauseBusy, CauseSuperseded, CauseMachine:
		return true
	}
	return false
}
