package activation

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/npcnix/npcnix/nix/jsonfile"
)

// schema1 has the members that an npcnix of the first schema knows by other names. An activation that such
// an npcnix began keeps that schema to its end and is written with both kinds of members, because the
// worker or the timer of that npcnix may still run.
type schema1 struct {
	Stage       string    `json:"stage"`
	Boot        bool      `json:"boot"`
	Why         string    `json:"why"`
	Ordered     time.Time `json:"ordered"`
	SwitchSecs  float64   `json:"switch_secs"`
	ConfirmSecs float64   `json:"confirm_secs"`
	Trouble     string    `json:"trouble"`
	CutShort    bool      `json:"cut_short"`
	Busy        bool      `json:"busy"`
	Tries       int       `json:"tries"`
	ByHand      string    `json:"by_hand"`
}

// stages are the names that the first schema has for phases.
var stages = map[Phase]string{
	Pending: "ordered", Switching: "switching", Verifying: "switched", Committing: "confirming", Committed: "confirmed",
	RebootPending: "booting", RollingBack: "rolling-back", RolledBack: "rolled-back", RollbackFailed: "stranded",
}

// readSchema1 takes over what an older npcnix has written. That it changes what this npcnix wrote before it
// without knowing is why the old members count where both are there.
func (j *Journal) readSchema1(data []byte) error {
	var old schema1
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}
	j.Phase = ""
	for phase, stage := range stages {
		if stage == old.Stage {
			j.Phase = phase
		}
	}
	if j.Phase == "" {
		return fmt.Errorf("there is no stage %q", old.Stage)
	}
	j.BootOnly, j.BootOnlyWhy = old.Boot, old.Why
	j.RequestedAt, j.SwitchSecs, j.VerifySecs = old.Ordered, old.SwitchSecs, old.ConfirmSecs
	j.RollbackError, j.RollbackTries, j.OperatorSystem = old.Trouble, old.Tries, old.ByHand
	j.Cause = old.cause(j.Phase, j.Cause)
	return nil
}

// cause is that of the rollback; new is what this npcnix has written last, and tells more than the old
// members where it fits them.
func (old schema1) cause(phase Phase, new Cause) Cause {
	switch {
	case old.Busy:
		return CauseBusy
	case old.ByHand != "" && phase.Ended():
		return CauseOperator
	case old.CutShort && new.Transient() && new != CauseBusy:
		return new
	case old.CutShort:
		return CauseInterrupted
	case phase != RollingBack && phase != RolledBack && phase != RollbackFailed:
		return ""
	case new == CauseOperator:
		return new
	}
	return CauseVersion
}

// withSchema1 returns the unknown members, and those that an older npcnix reads.
func (j *Journal) withSchema1() (jsonfile.Unknown, error) {
	data, err := json.Marshal(schema1{
		Stage: stages[j.Phase], Boot: j.BootOnly, Why: j.BootOnlyWhy,
		Ordered: j.RequestedAt, SwitchSecs: j.SwitchSecs, ConfirmSecs: j.VerifySecs,
		Trouble: j.RollbackError, Tries: j.RollbackTries, ByHand: j.OperatorSystem,
		CutShort: j.Cause.Transient() && j.Cause != CauseBusy, Busy: j.Cause == CauseBusy,
	})
	if err != nil {
		return nil, err
	}
	all := maps.Clone(j.rest)
	if all == nil {
		all = jsonfile.Unknown{}
	}
	return all, json.Unmarshal(data, &all)
}
