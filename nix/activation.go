package nix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// Activation is the change of a host from one system to another, as it stands in activation.json
// of the agent's data directory. It outlives the agent, the worker and the machine's power: each
// stage is on disk before what it names begins.
//
//	ordered → switching → switched → confirming → confirmed
//	   │          │   │       ↑   │           │
//	   │          │   └→ booting  │           │
//	   │          │         │     │           │
//	   └──────────┴─────────┴─────┴───────────┴──→ rolling-back → rolled-back, or stranded
//
// The new system is switched to with the action "test", which changes everything but what boots
// next. Only when it has proved itself is it put into the profile and made what boots: until then
// a loss of power brings back the old system, by any boot loader. Not so a system that cannot be
// switched to: it is made what boots next (booting), and proves itself after a restart (switched).
//
// Three kinds of processes share the work, none of which needs the others to be alive:
//   - the agent orders, waits, verifies, and asks for the commit or for the way back;
//   - the worker does what the stage asks for, in a unit of its own (npcnix-activate);
//   - the dead man's switch, a timer in a unit of its own (npcnix-rollback), asks for the way back
//     once the time is up, unless the activation was confirmed.
//
// Whoever changes the stage holds activation.lock. A stage that has work to do (switching,
// confirming, rolling-back) while nobody holds the lock means that a worker was cut short.
type Activation struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"` // of no other activation
	Stage  Stage  `json:"stage"`

	System   string `json:"system"`
	Previous string `json:"previous_system"` // what ran before; "" where that cannot be told
	// Boot: the system is only made what boots next, as it cannot be switched to now.
	Boot bool   `json:"boot"`
	Why  string `json:"why"` // it can only be booted

	Profile       string `json:"profile"`
	ProfileSystem string `json:"profile_system"` // that the profile had; "" where there was none, or an older npcnix ordered
	ProfileLink   string `json:"profile_link"`   // what the profile is to point to on the way back; "" for no profile
	CurrentSystem string `json:"current_system"`
	// BootID is that of the boot during which it was ordered, or booted into: another one means
	// that the machine was restarted since.
	BootID   string `json:"boot_id"`
	Restarts int    `json:"restarts"` // of the machine, into the new system, before that had proved itself

	Ordered     time.Time `json:"ordered"`
	SwitchSecs  float64   `json:"switch_secs"`  // that a switch may take
	ConfirmSecs float64   `json:"confirm_secs"` // that the new system has to prove itself

	Keep int `json:"keep_generations"`

	ExitCode int      `json:"exit_code"` // of the last switch-to-configuration
	Tail     []string `json:"log_tail"`  // of the switch that failed, or the last one
	Reason   string   `json:"reason"`    // for the way back
	Trouble  string   `json:"trouble"`   // what did not go well on the way back
	CutShort bool     `json:"cut_short"` // by a kill or a restart: no fault of the system's
	Busy     bool     `json:"busy"`      // nothing was done, as somebody else was switching all the while
	Tries    int      `json:"tries"`     // at the way back, that have failed, or had the machine restarted
	ByHand   string   `json:"by_hand"`   // what somebody has switched to meanwhile; it is left alone
	// Installed: the profile and the boot loader were, or are about to be, changed.
	Installed bool `json:"installed"`

	// What systemd knew before: units that ran, and those that had failed.
	Ran    []string `json:"units_ran"`
	Failed []string `json:"units_failed"`
	// The agent's own unit, and what it was made of, to restart it when that changes.
	AgentUnit      string `json:"agent_unit"`
	AgentUnitText  string `json:"agent_unit_sum"`
	AgentRestarted bool   `json:"agent_restarted"`
}

// sameBoot reports whether the machine was not restarted since. An older npcnix wrote the kernel's part
// of the BootID alone.
func (a *Activation) sameBoot() bool {
	now := BootID()
	return a.BootID == now || a.BootID != "" && strings.HasPrefix(now, a.BootID+"-")
}

// Stage is how far an activation has got.
type Stage string

const (
	StageOrdered     Stage = "ordered"      // nothing was done yet
	StageSwitching   Stage = "switching"    // to the new system
	StageSwitched    Stage = "switched"     // the new system runs and has to prove itself
	StageBooting     Stage = "booting"      // the new system boots next
	StageConfirming  Stage = "confirming"   // it has; the profile and the boot loader are set
	StageConfirmed   Stage = "confirmed"    // the end
	StageRollingBack Stage = "rolling-back" // to the previous system
	StageRolledBack  Stage = "rolled-back"  // the other end: the previous system runs, and boots next
	StageStranded    Stage = "stranded"     // it does not, in spite of all attempts: see Trouble
)

// Settled reports whether nothing more is to be done.
func (s Stage) Settled() bool {
	return s == StageConfirmed || s == StageRolledBack || s == StageStranded
}

const (
	activationSchema = 1
	activationFile   = "activation.json"
	activationLock   = "activation.lock"
	switchLog        = "switch.log" // the output of an activation's switches
)

// ErrActivation marks an activation.json that cannot be read.
var ErrActivation = errors.New("activation.json cannot be read")

// ReadActivation returns the activation that dir knows of; nil, where it knows none.
func ReadActivation(dir string) (*Activation, error) {
	data, err := os.ReadFile(filepath.Join(dir, activationFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read activation: %w", ErrMachine, err)
	}
	var a Activation
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrActivation, err)
	}
	if a.Schema < 1 || a.Schema > activationSchema+1 {
		return nil, fmt.Errorf("%w: schema %d is not one that this npcnix reads (1 to %d)", ErrActivation, a.Schema, activationSchema+1)
	}
	return &a, nil
}

// save makes a durable in dir before it returns. Members of the file that this version has no
// field for survive, as an older npcnix may bring a newer one's activation to its end.
func (a *Activation) save(dir string) error {
	path := filepath.Join(dir, activationFile)
	all := map[string]json.RawMessage{}
	if data, err := os.ReadFile(path); err == nil {
		var before Activation
		if json.Unmarshal(data, &before) == nil && before.ID == a.ID {
			_ = json.Unmarshal(data, &all) // it is an object, as it has an ID
		}
	}
	a.Schema = max(a.Schema, activationSchema)
	known, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(known, &all)
	}
	if err != nil {
		return fmt.Errorf("write activation: %w", err)
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write activation: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("%w: write activation: %w", ErrMachine, err)
	}
	return syncFolder(dir)
}

// to makes the next stage durable.
func (a *Activation) to(dir string, s Stage) error {
	a.Stage = s
	return a.save(dir)
}

// goBack makes it durable that the way back is to be taken, and why.
func (a *Activation) goBack(dir, reason string) error {
	a.Reason = reason
	return a.to(dir, StageRollingBack)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: sync %s: %w", ErrMachine, dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("%w: sync %s: %w", ErrMachine, dir, err)
	}
	return nil
}

// lockActivation takes the lock of whoever works on an activation, waiting for it for a while.
func lockActivation(ctx context.Context, dir string, wait time.Duration) (unlock func(), free bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	l := flock.New(filepath.Join(dir, activationLock))
	free, err = l.TryLock()
	if err == nil && !free {
		free, err = l.TryLockContext(ctx, look)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("%w: lock activation: %w", ErrMachine, err)
	}
	return func() { _ = l.Unlock() }, free, nil
}

// beingWorkedOn reports whether somebody holds the lock.
func beingWorkedOn(dir string) (bool, error) {
	l := flock.New(filepath.Join(dir, activationLock))
	free, err := l.TryRLock()
	if err != nil {
		return false, fmt.Errorf("%w: lock activation: %w", ErrMachine, err)
	}
	if free {
		_ = l.Unlock()
	}
	return !free, nil
}

// BootID tells one boot of the machine from another: by the kernel's (random(4)), and by when process
// 1 was started (proc_pid_stat(5)), as a container's kernel is not booted with it.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // as of a machine that is never restarted
	}
	stat, _ := os.ReadFile("/proc/1/stat")
	begun := ""
	if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(fields) > 19 {
		begun = "-" + fields[19]
	}
	return strings.TrimSpace(string(id)) + begun
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
