package activation

import (
	"context"
	"slices"

	"github.com/npcnix/npcnix/nix"
)

// Facts are what a decision about an activation rests on: what its journal says, and what is so on the
// machine. Systems are store paths.
type Facts struct {
	Phase            Phase
	Cause            Cause
	System, Previous string
	ProfileSystem    string // that the profile had at the request
	BootOnly         bool
	Installed        bool
	MadeGeneration   bool // of the new system, in the profile
	Restarts         int  // of the machine, into the new system, the last one included

	Running      string // "" where nothing does
	RunningError string // why that cannot be told
	Profiled     string // the profile's system; "" where there is no profile
	ProfileError string // why that cannot be told
	// RestoresTo is the system that the profile has once it was restored.
	RestoresTo string
	// PreviousError is why the previous system cannot be switched to.
	PreviousError string
	Reboots       bool // the machine can be asked to restart
}

// facts observes the machine, for a decision about an activation.
func (j *Journal) facts(ctx context.Context, m machine) Facts {
	f := Facts{
		Phase: j.Phase, Cause: j.Cause, System: j.System, Previous: j.Previous, ProfileSystem: j.ProfileSystem,
		BootOnly: j.BootOnly, Installed: j.Installed, MadeGeneration: j.NewestBefore > 0, Restarts: j.Restarts,
		RestoresTo: m.RestoresTo(j.ProfileLink, nix.System{Path: j.Previous}).Path, Reboots: m.Reboots(),
	}
	if running, err := m.Current(ctx); err != nil {
		f.RunningError = err.Error()
	} else {
		f.Running = running.Path
	}
	if profiled, _, err := m.Profiled(); err != nil {
		f.ProfileError = err.Error()
	} else {
		f.Profiled = profiled.Path
	}
	if j.Previous != "" {
		if err := m.Switchable(nix.System{Path: j.Previous}); err != nil {
			f.PreviousError = err.Error()
		}
	}
	return f
}

// restored reports whether the profile is to be restored: it has the new system, which did not have it
// before.
func (f Facts) restored() bool {
	return f.ProfileError == "" && f.Profiled == f.System && f.System != f.Previous
}

// profiled is the system that the profile has after the rollback.
func (f Facts) profiled() string {
	if f.restored() {
		return f.RestoresTo
	}
	return f.Profiled
}

// operatorsProfile reports whether an operator has put something else into the profile meanwhile.
func (f Facts) operatorsProfile() bool {
	return f.ProfileError == "" && f.ProfileSystem != "" && !slices.Contains([]string{"", f.System, f.ProfileSystem, f.Previous}, f.profiled())
}
