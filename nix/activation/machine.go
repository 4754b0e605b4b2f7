package activation

import (
	"context"
	"log/slog"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// machine is all that a worker sees and changes of the machine, beside the journal.
type machine interface {
	// Current returns the system that runs.
	Current(context.Context) (nix.System, error)
	// Profiled returns the system that the profile has.
	Profiled() (nix.System, int, error)
	// RestoresTo returns the system that the profile will have after RestoreProfile.
	RestoresTo(link string, ran nix.System) nix.System
	// Switchable returns why a system cannot be switched to.
	Switchable(nix.System) error
	// Reboots reports whether Reboot can be asked for.
	Reboots() bool

	// NewestGeneration returns the number of the profile's newest generation.
	NewestGeneration() (int, error)

	// SetProfile makes a system the profile's new generation.
	SetProfile(context.Context, nix.System) error
	// RestoreProfile points the profile back.
	RestoreProfile(ctx context.Context, link string, ran nix.System) error
	// DropGeneration deletes the first generation after a number, if it is of a system.
	DropGeneration(s nix.System, after int) error
	// StartStopped starts the units that ran before an activation, and that its rollback left stopped. It
	// returns those that do not run all the same.
	StartStopped(context.Context, *Journal) []string
	// Switch runs a switch-to-configuration, or an activate script.
	Switch(context.Context, switchRun) outcome
	// Repair repairs what is damaged of a system, and reports whether anything was.
	Repair(context.Context, nix.System) (bool, error)
	// KillSwitch kills what an interrupted worker has left of its switch.
	KillSwitch(id string)
	// BootsOther reports whether a boot loader loads other files for one system than for another.
	BootsOther(a, b nix.System) bool
	// Flush makes durable what nix and the boot loader have written.
	Flush() error
	// Reboot asks for a restart of the machine.
	Reboot(context.Context) error

	// Prune deletes old generations, and ReleaseBuilt and ReleasePrevious garbage collector roots.
	Prune(latest int, keepLink string, systems ...nix.System)
	ReleaseBuilt(nix.System)
	ReleasePrevious()
}

// realMachine is the one that this process runs on.
type realMachine struct {
	*nix.Host
	dir string
	log *slog.Logger
}

func (realMachine) Switchable(s nix.System) error { return nix.Switchable(s) }
func (realMachine) Reboots() bool                 { return systemd.Running() }
func (realMachine) KillSwitch(id string)          { killSwitch(id) }

func (m realMachine) Switch(ctx context.Context, r switchRun) outcome { return r.do(ctx, m.dir, m.log) }
