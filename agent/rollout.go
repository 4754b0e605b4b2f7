package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// An admission is what a release with a plan of waves means to this host.
type admission struct {
	held string // why the host keeps what it runs; "" if it does not have to
	base string // the system of the base that it takes in place of the release; "" if it takes the release
}

// admit says what the rollout means to a host. It is pure.
func admit(m *release.Manifest, p *release.Progress, host, configuration string, have State) admission {
	plan := m.Rollout
	base := baseOf(plan, configuration, have)

	switch admitted := plan.Admits(p.Admitted, host, configuration); {
	case p.State == release.Reverted && base == "":
		return admission{held: "the rollout was reverted, and its base has no system for this host"}
	case p.State == release.Reverted:
		return admission{base: base}
	case admitted && p.Admitting():
		return admission{}
	case have.Applied == nil && base != "":
		return admission{base: base}
	case admitted:
		return admission{held: fmt.Sprintf("the rollout is %s", p.State)}
	}

	return admission{held: fmt.Sprintf("the host is in wave %d, and %d of %d are admitted; the rollout is %s",
		plan.Wave(host, configuration), p.Admitted, len(plan.Waves), p.State)}
}

// baseOf is the system of the plan's base for this host: the one that it ran as that release, or the one that the
// plan names; "" if there is none.
func baseOf(plan *release.Plan, configuration string, have State) string {
	if plan.Base == nil {
		return ""
	}
	for _, ran := range have.Ran {
		if ran.Release == plan.Base.Release && ran.Configuration == configuration {
			return ran.System
		}
	}

	return plan.Base.Systems[configuration].Toplevel
}

// join finds out what the rollout of the round's release, which came in f, means to this host. What it accepts of
// the progress is remembered durably before anything acts on it.
func (a *Agent) join(r *round, p release.Policy, f frame) error {
	progress, err := p.VerifyProgress(f.Frame, r.release)
	if err != nil || progress == nil {
		return err
	}
	if len(p.Signers) > 0 {
		if err := a.acceptStep(p, progress); err != nil {
			return err
		}
	}

	r.admission = admit(r.release.Manifest, progress.Progress, a.Name, r.target.Configuration, r.state)
	if r.admission.base != "" {
		r.target.Release, r.target.Rev, r.target.Message = r.release.Rollout.Base.Release, "", record.BaseOf+r.release.Release[:12]
	}

	return nil
}

// acceptStep checks the progress against the last accepted one, and remembers it.
func (a *Agent) acceptStep(p release.Policy, progress *release.VerifiedProgress) error {
	return a.remember(p.Remote, func(last release.Accepted) (release.Accepted, error) {
		if err := release.CheckProgress(progress, last); err != nil {
			return last, err
		}
		last.Step, last.Progress = progress.Step, progress.Digest
		return last, nil
	})
}

// remember changes what is remembered of the remote's releases, durably.
func (a *Agent) remember(remote string, change func(last release.Accepted) (release.Accepted, error)) error {
	memory, err := trust.Load(a.Dir)
	if errors.Is(err, trust.ErrDamaged) {
		return &release.Refused{Reason: release.ReasonSerial, Text: err.Error()}
	}
	if err != nil {
		return transientError{health.Machine, err}
	}
	last := memory.Remotes[remote]
	next, err := change(last)
	if err != nil || next == last {
		return err
	}

	memory.Remotes[remote] = next
	if err := trust.Save(a.Dir, memory); err != nil {
		return transientError{health.Machine, err}
	}

	return nil
}

// A pursuit is what a round is about while it fetches and builds, for whoever watches for something newer.
type pursuit struct {
	target Target
	state  State
	config config.Config
}

// admitsStill reports whether another version of the object is the same publish, and still has this host take the
// same release: only the rollout has gone on.
func (a *Agent) admitsStill(ctx context.Context, now pursuit, v store.Version) bool {
	same, admitted := a.goesOn(ctx, now, v)

	return same && admitted
}

// stillAdmitted looks at the store once more before a release with a plan of waves is activated: an event that tells
// of a halt can be lost. A store that cannot be read keeps no host from it.
func (a *Agent) stillAdmitted(ctx context.Context, r *round) error {
	if r.release == nil || r.release.Rollout == nil {
		return nil
	}
	latest, err := a.Store.Latest(ctx, r.target.version())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || latest.ETag == r.target.ETag {
		return nil
	}
	same, admitted := a.goesOn(ctx, pursuit{r.target, r.state, r.config}, latest)
	if same && !admitted || !same && !r.last {
		return errNewer
	}

	return nil
}

// goesOn reports whether another version of the object is the same publish, and then whether it has this host take
// the same release.
func (a *Agent) goesOn(ctx context.Context, now pursuit, v store.Version) (same, admitted bool) {
	f, err := a.readEnd(ctx, v)
	if err != nil || f.Frame == nil {
		return false, false
	}
	policy := now.config.Policy(a.RemoteName)
	verified, err := policy.Verify(f.Frame)
	if err != nil || verified.Rollout == nil || verified.Serial != now.target.Serial {
		return false, false
	}
	progress, err := policy.VerifyProgress(f.Frame, verified)
	if err != nil {
		return false, false
	}
	next := now.target
	next.Release, next.Serial = verified.Release, verified.Serial
	means := admit(verified.Manifest, progress.Progress, a.Name, next.Configuration, now.state)
	if means.base != "" {
		next.Release = verified.Rollout.Base.Release
	}

	return true, means.held == "" && now.target.samePublish(next)
}
