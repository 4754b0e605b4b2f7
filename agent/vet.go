package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// A frame is the end of one version of the remote's object, as it was read.
type frame struct {
	etag string
	*release.Frame
	now  time.Time // by the store's clock, when it was read; zero if the store tells no time
	read time.Time // by this machine's
}

// time is the store's time at present, or this machine's if the store tells none.
func (f frame) time() time.Time {
	if f.now.IsZero() {
		return time.Now()
	}

	return f.now.Add(time.Since(f.read))
}

// vet finds out which release the target is, and who vouches for it. It refuses one that this host must not
// use. What it accepts is remembered durably before anything acts on it. A refusal counts as no attempt: it
// is judged again each round, since a new signer or the passing of time heals it without a publish.
func (a *Agent) vet(ctx context.Context, r *round) error {
	f, err := a.readFrame(ctx, r.target)
	if err != nil {
		return err
	}
	policy := r.config.Policy(a.RemoteName)
	verified, err := policy.Verify(f.Frame)
	if err != nil || verified == nil {
		return err
	}
	if len(policy.Signers) > 0 {
		if err := a.accept(policy, verified, f.time()); err != nil {
			return err
		}
	}
	r.release = verified
	r.target.Release, r.target.Rev, r.target.Message = verified.Release, verified.Source.Rev, verified.Source.Message
	r.target.Serial = verified.Serial
	if len(policy.Signers) > 0 { // others take it for ever
		r.target.Expires, r.target.Renew = verified.Expires, verified.Renew()
	}
	if err := a.join(r, policy, f); err != nil {
		return err
	}
	if a.unsigned.is(r) {
		return a.unsigned.wait(r)
	}
	a.monitor.Working(health.Trust)

	return nil
}

// accept checks the release against the last accepted one, and remembers it.
func (a *Agent) accept(p release.Policy, v *release.Verified, now time.Time) error {
	return a.remember(p.Remote, func(last release.Accepted) (release.Accepted, error) {
		if err := p.Check(v, last, now); err != nil {
			return last, err
		}
		next := v.Accepted()
		if next.Serial == last.Serial {
			next.Step, next.Progress = last.Step, last.Progress
		}
		return next, nil
	})
}

// readFrame reads the end of the target's object, or returns what was read of it before.
func (a *Agent) readFrame(ctx context.Context, t Target) (frame, error) {
	if a.frame.etag == t.ETag {
		return a.frame, nil
	}
	f, err := a.readEnd(ctx, t.version())
	if err == nil {
		a.frame = f
	}

	return f, err
}

// readEnd reads the frame at the end of a version.
func (a *Agent) readEnd(ctx context.Context, v store.Version) (frame, error) {
	var now time.Time
	f, err := release.Read(func(n int64) ([]byte, error) {
		tail, err := a.Store.Tail(ctx, v, n)
		if err != nil {
			return nil, transientError{health.Fetch, err}
		}
		now = tail.Now
		return tail.Data, nil
	})
	if err != nil {
		return frame{}, err
	}

	return frame{v.ETag, f, now, time.Now()}, nil
}

// stillTrusted checks the release of an activation against the settings that the new system has brought. A
// release whose own signers would refuse it would lock the host out.
func (a *Agent) stillTrusted(ctx context.Context, c config.Config, t Target) error {
	policy := c.Policy(a.RemoteName)
	if len(policy.Signers) == 0 || c.Remote != t.Remote {
		return nil
	}

	f, kept, err := loadFrame(a.Dir, t)
	if err != nil || !kept { // an older npcnix has kept none
		f, err = a.readFrame(ctx, t)
	}
	if errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrNotFound) {
		return nil // it is unknown by now
	}
	var v *release.Verified
	if err == nil {
		v, err = policy.Verify(f.Frame)
	}
	if err == nil && v.Release == t.Release { // not its base
		_, err = policy.VerifyProgress(f.Frame, v)
	}
	var refused *release.Refused
	if errors.As(err, &refused) {
		return backoff.Permanent(fmt.Errorf("by the new system's signers, this host would refuse its own release: %w", err))
	}

	return err
}

// prebuilt returns the system that the release names for this host; false if the host is to evaluate the
// flake.
func (a *Agent) prebuilt(r *round) (s release.System, named bool, err error) {
	if base := r.admission.base; base != "" {
		return release.System{Toplevel: base}, true, nil // no flake is at hand that it could be built from
	}
	mode := r.config.EvaluationMode()
	if r.release != nil && mode != config.EvaluateAlways {
		if s, named = r.release.Systems[r.target.Configuration]; named {
			return s, true, nil
		}
	}
	if mode == config.EvaluateNever {
		return s, false, &release.Refused{Reason: release.ReasonNotPrebuilt, Text: fmt.Sprintf(
			"the release has no prebuilt system for configuration %q, and evaluation is \"never\" on this host: publish with `--prebuild`", r.target.Configuration)}
	}

	return s, false, nil
}

// obtain gets the target's system into the store: a prebuilt one from its caches, another one by evaluation.
func (a *Agent) obtain(ctx context.Context, r *round) (nix.System, error) {
	s, named, err := a.prebuilt(r)
	if err != nil {
		return nix.System{}, err
	}
	if named {
		system, err := a.realise(ctx, r, s)
		if !errors.Is(err, nix.ErrNotCached) || !a.rescues(r) {
			return system, err
		}
		a.Log.Warn("the caches cannot give the prebuilt system; evaluating the flake in its place", "error", err)
	}

	flake, remove, err := a.fetch(ctx, r)
	if err != nil {
		return nix.System{}, err
	}
	defer remove()
	system, err := a.build(ctx, r, flake)
	if err == nil && named && system.Path != s.Toplevel {
		return nix.System{}, fmt.Errorf("the flake gives %s for configuration %q, and the release names %s: publish it again", system.Path, r.target.Configuration, s.Toplevel)
	}

	return system, err
}

// unsigned is a version whose archive was not what was signed. Only what is between the store and the host heals that
// without another version, so it is fetched again after growing pauses.
type unsigned struct {
	etag, token string // token is the operator's last retry
	refused     *release.Refused
	pause       *backoff.ExponentialBackOff
	next        time.Time
}

// is reports whether u is the round's target.
func (u unsigned) is(r *round) bool {
	return u.refused != nil && u.etag == r.target.ETag && u.token == r.config.RetryToken
}

// wait returns the refusal until the pause is over. What is held, or is the base, fetches nothing.
func (u unsigned) wait(r *round) error {
	if r.admission.held != "" || r.admission.base != "" || !time.Now().Before(u.next) {
		return nil
	}

	return u.refused
}

const (
	firstUnsignedPause = time.Minute
	maxUnsignedPause   = time.Hour
)

// refuseArchive remembers that the target's archive is not what was signed, and returns the refusal.
func (a *Agent) refuseArchive(r *round, why error) error {
	if !a.unsigned.is(r) {
		a.unsigned = unsigned{etag: r.target.ETag, token: r.config.RetryToken, pause: wait.NewBackOff(firstUnsignedPause, maxUnsignedPause)}
	}
	a.unsigned.refused = &release.Refused{Reason: release.ReasonArchive, Text: why.Error()}
	a.unsigned.next = time.Now().Add(a.unsigned.pause.NextBackOff())

	return a.unsigned.refused
}

// uncached is a version whose prebuilt system the caches could not give, and since when.
type uncached struct {
	etag  string
	since time.Time
}

// rescues reports whether the host is to evaluate what its caches cannot give: if the settings say so, once they
// could not for as long as a version is retried.
func (a *Agent) rescues(r *round) bool {
	if r.admission.base != "" {
		return false
	}
	if a.uncached.etag != r.target.ETag {
		a.uncached = uncached{r.target.ETag, time.Now()}
	}

	return r.config.EvaluationMode() == config.EvaluateRescue && time.Since(a.uncached.since) >= r.config.RetryTime()
}

// realise fetches a prebuilt system from the release's caches. A download that outlasts the time of a build is
// no fault of the version's.
func (a *Agent) realise(ctx context.Context, r *round, s release.System) (nix.System, error) {
	var caches []nix.Cache
	for _, c := range r.release.Caches {
		caches = append(caches, nix.Cache{URL: c.URL, Keys: c.Keys})
	}

	system := nix.System{Path: s.Toplevel}
	limit := r.config.BuildTimeout()
	tooLong := fmt.Errorf("%w: the download was ended after %s; it goes on with what is missing, see build_timeout_secs", nix.ErrNotCached, limit)
	ctx, cancel := limited(ctx, limit, tooLong)
	defer cancel()
	err := a.Host.Realise(ctx, system, caches)
	if err != nil && context.Cause(ctx) == tooLong {
		err = tooLong
	}
	if errors.Is(err, nix.ErrNotCached) {
		return nix.System{}, transientError{health.Cache, err}
	}
	if err != nil {
		return nix.System{}, err
	}
	a.monitor.Working(health.Cache)
	r.times.Fetched, r.times.Built = time.Now(), time.Now()

	return system, nil
}

// archive is the packed flake that the release was signed for; any, if it is no release.
func (r *round) archive() store.Archive {
	if r.release == nil {
		return store.Archive{}
	}

	return store.Archive{SHA256: r.release.Archive.SHA256, Size: r.release.Archive.Size}
}
