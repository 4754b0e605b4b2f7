package activation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/nix/systemd"
)

const (
	journalSchema = 2
	journalFile   = "activation.json"
	switchLog     = "switch.log" // the output of an activation's switches
)

// Journal is the change of a host from one system to another, as activation.json in the agent's data
// directory has it. It outlives the agent, the worker and the machine's power.
//
//	pending → switching → verifying → committing → committed
//	   │        │   │       ↑   │           │
//	   │        │   └→ reboot_pending       │
//	   │        │           │   │           │
//	   └────────┴───────────┴───┴───────────┴──→ rolling_back → rolled_back, or rollback_failed,
//	                                                 ↑                             │
//	                                                 └─────────────────────────────┘
//
// The action "test" switches to the new system: it changes everything except the boot default. Only when the
// system is verified is it put into the profile and made what boots. Until then a loss of power brings
// back the previous system, by any boot loader. A system that cannot be switched to is made what boots
// next (reboot_pending), and is verified after a reboot.
type Journal struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"` // of no other activation
	Phase  Phase  `json:"phase"`

	System   string `json:"system"`
	Previous string `json:"previous_system"` // what ran before; "" where that cannot be told
	// BootOnly: the system can only be booted, not switched to, for the reason BootOnlyWhy.
	BootOnly    bool   `json:"boot_only"`
	BootOnlyWhy string `json:"boot_only_why"`

	Profile       string `json:"profile"`
	ProfileSystem string `json:"profile_system"` // that the profile had; "" where there was none, or an older npcnix wrote this
	ProfileLink   string `json:"profile_link"`   // what the profile is to point to after a rollback; "" for no profile
	CurrentSystem string `json:"current_system"`
	// BootID is that of the boot during which it was requested, or booted into: another one means
	// that the machine was restarted since.
	BootID   string `json:"boot_id"`
	Restarts int    `json:"restarts"` // of the machine, into the new system, before that was verified

	RequestedAt time.Time `json:"requested_at"`
	SwitchSecs  float64   `json:"switch_timeout_secs"` // for each run of switch-to-configuration
	VerifySecs  float64   `json:"verify_timeout_secs"` // for the verification

	Keep int `json:"keep_generations"`

	ExitCode int      `json:"exit_code"` // of the last switch-to-configuration
	Tail     []string `json:"log_tail"`  // of the switch that failed, or the last one
	Cause    Cause    `json:"cause"`     // of the rollback
	Reason   string   `json:"reason"`    // for it, in words
	// RollbackError is what went wrong in the rollback, which may have succeeded all the same.
	RollbackError string `json:"rollback_error"`
	RollbackTries int    `json:"rollback_tries"` // that have failed, or had the machine restarted
	// RollbackRetryAt is when a rollback that failed is tried again, in vain so far for RollbackRetries times.
	RollbackRetryAt time.Time `json:"rollback_retry_at,omitzero"`
	RollbackRetries int       `json:"rollback_retries,omitempty"`
	OperatorSystem  string    `json:"operator_system"` // that an operator has switched to meanwhile
	// Warning is what is worth telling of the verified system, such as units that fail and did not before.
	Warning string `json:"warning,omitempty"`
	// Installed: the profile and the boot loader were, or are about to be, changed.
	Installed bool `json:"installed"`
	// NewestBefore is the number of the profile's newest generation before this activation made one; 0
	// while it has not.
	NewestBefore int `json:"newest_generation_before,omitempty"`

	// What systemd's units did before. An older npcnix reads the names alone: of those that ran, and of
	// those that had failed.
	Units  map[string]systemd.Unit `json:"units,omitempty"`
	Ran    []string                `json:"units_ran"`
	Failed []string                `json:"units_failed"`
	// The agent's own unit, and what it was made of, to restart it when that changes.
	AgentUnit      string `json:"agent_unit"`
	AgentUnitSum   string `json:"agent_unit_sum"`
	AgentRestarted bool   `json:"agent_restarted"`

	rest jsonfile.Unknown
}

// sameBoot reports whether the machine was not restarted since. An older npcnix wrote the kernel's part
// of the BootID alone.
func (j *Journal) sameBoot() bool {
	now := nix.BootID()
	return j.BootID == now || j.BootID != "" && strings.HasPrefix(now, j.BootID+"-")
}

// ErrJournal marks an activation.json that cannot be read.
var ErrJournal = errors.New("activation.json cannot be read")

// Read returns the activation that dir knows of; nil, where it knows none.
func Read(dir string) (*Journal, error) {
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read activation: %w", nix.ErrMachine, err)
	}
	var j Journal
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJournal, err)
	}
	return &j, nil
}

// UnmarshalJSON keeps the members that this version has no field for, as an older npcnix may bring a
// newer one's activation to its end.
func (j *Journal) UnmarshalJSON(data []byte) error {
	type plain Journal
	var p plain
	rest, err := jsonfile.Decode(data, &p)
	if err != nil {
		return err
	}
	*j = Journal(p)
	j.rest = rest
	switch {
	case j.Schema < 1 || j.Schema > journalSchema+1:
		return fmt.Errorf("schema %d is not one that this npcnix reads (1 to %d)", j.Schema, journalSchema+1)
	case j.Schema == 1:
		err = j.readSchema1(data)
	}
	if _, known := transitions[j.Phase]; err == nil && j.Schema <= journalSchema && (!known || j.Phase == "") {
		return fmt.Errorf("there is no phase %q", j.Phase)
	}
	return err
}

func (j Journal) MarshalJSON() ([]byte, error) {
	type plain Journal
	rest := j.rest
	if j.Schema == 1 {
		var err error
		if rest, err = j.withSchema1(); err != nil {
			return nil, err
		}
	}
	return jsonfile.Encode(plain(j), rest)
}

// save makes a journal durable in dir before it returns.
func (j *Journal) save(dir string) error {
	if err := jsonfile.Write(filepath.Join(dir, journalFile), j); err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
