package agent

import (
	"slices"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// A round is one reconcile and what it finds out on its way.
type round struct {
	trigger record.Trigger
	held    []events.Delivery // the messages that it is to dispose of
	force   bool              // apply the target in any case
	last    bool              // a newer version does not cancel this one's build

	config   config.Config
	unusable error // why config.json cannot be used, and config is what was in force before; nil if it can
	state    State
	changed  bool       // since state was saved
	running  nix.System // what runs
	before   nix.System // what ran when the round began

	rebootDue   string // why the machine is to be rebooted; "" if not
	pending     string // the system that becomes active with the next boot; "" if none
	pendingFrom string // what ran when that was made so
	bootsOther  bool   // the boot default is neither what runs nor what is pending

	bootFailures []string // what failed of the activation when the machine booted

	target    Target
	release   *release.Verified // of the target; nil if it is none
	admission admission
	attempt   int
	times     record.Times
	warning   string   // what is worth telling of the activated system
	changes   []string // the packages that differ from what ran before, as far as known
}

// move makes s the round's state.
func (r *round) move(s State) { r.state, r.changed = s, true }

// unread reports whether the round ended before the state was read: what is known of the host stays so.
func (r *round) unread() bool { return r.state.Schema == 0 }

// specialisation is the name of the specialisation of the applied system that runs; "" if none does.
func (r *round) specialisation() string {
	a := r.state.Applied
	if a == nil || a.System == "" || a.System == r.running.Path {
		return ""
	}

	return nix.System{Path: a.System}.Specialisation(r.running)
}

// countsAs is the system that the running one counts as: the applied one, if it is a specialisation of that.
func (r *round) countsAs() nix.System {
	if r.specialisation() != "" {
		return nix.System{Path: r.state.Applied.System}
	}

	return r.running
}

// known is the version that a conditional look at the store may answer with.
func (r *round) known() store.Version {
	if a := r.state.Applied; a != nil && a.Remote == r.config.Remote {
		return a.version()
	}

	return store.Version{}
}

// announced is the version of which the newest notice speaks.
func (r *round) announced() (etag string, at time.Time) {
	for _, d := range r.held {
		for _, n := range d.Notices {
			if n.ETag != "" && n.At.After(at) {
				etag, at = n.ETag, n.At
			}
		}
	}

	return etag, at
}

// published tells when v was published: to the millisecond if one of the messages is about it, else as
// exactly as the store knows.
func (r *round) published(v store.Version) time.Time {
	for _, d := range slices.Backward(r.held) {
		i := slices.IndexFunc(d.Notices, func(n events.Notice) bool { return n.ETag == v.ETag && !n.At.IsZero() })
		if i >= 0 {
			return d.Notices[i].At
		}
	}

	return v.Modified
}

// soak is for how many seconds the rollout of the round's release wants that to be healthy.
func (r *round) soak() int64 {
	if r.release == nil || r.release.Rollout == nil || r.admission.base != "" {
		return 0
	}

	return r.release.Rollout.Soak
}

func (r *round) appliedAs(system, previous string) Applied {
	return Applied{
		SoakSecs: r.state.Intent.SoakSecs, Target: r.target, System: system, Previous: previous, At: time.Now().UTC(),
		Trigger: r.trigger, Attempt: r.attempt, Times: r.times, Warning: r.warning, Changes: r.changes,
	}
}

// subject is what a hook is told about the round's target.
func (r *round) subject(act, system, previous string) hook.Subject {
	return hook.Subject{
		Activation: act, System: system, Previous: previous,
		Remote: r.target.Remote, Configuration: r.target.Configuration, ETag: r.target.ETag,
	}
}
