package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Store is what a publisher asks of a remote. *store.Remote serves.
type Store interface {
	Latest(ctx context.Context, have store.Version) (store.Version, error)
	Tail(ctx context.Context, v store.Version, n int64) (store.Tail, error)
	Versions(ctx context.Context, limit int) (kept []store.Kept, more bool, err error)
	At(v store.Version) *store.Remote
}

// Last is what the remote holds before a publish.
type Last struct {
	Version store.Version     // zero if there is none
	Release *release.Verified // nil if it is none, or the publisher's signers do not vouch for it
	Frame   *release.Frame    // of Release
	// Progress of the release's plan; nil if it has none, or nobody vouches for it.
	Progress *release.VerifiedProgress

	// PutBack says that the object is a release which a newer one has replaced, so that Release is nil; nil: it is not
	// known to be one.
	PutBack error
	// Expired says since when no host begins to activate Release; nil: it has not expired.
	Expired error
	// Unread says that Release may have replaced a newer one, as a newer version could not be read; nil: it has not, as
	// far as can be told.
	Unread error
	// Unvouched says why Release has a plan and no Progress.
	Unvouched error
}

// Last looks at the remote. An object that does not verify counts as absent but for its version, and so does a release
// that a newer one has replaced: otherwise whoever may write the store could plant what is signed next.
func (p *Publisher) Last(ctx context.Context, s Store) (Last, error) {
	last, err := p.Held(ctx, s)
	if err != nil || last.Release == nil {
		return last, err
	}
	newest, unread, err := p.newest(ctx, s, last)
	if ctx.Err() != nil {
		return Last{}, ctx.Err()
	}
	if err == nil && newest.Release.Serial > last.Release.Serial {
		err = fmt.Errorf("an older release was put back: it has serial %d, and the store has kept %s with serial %d; npcnix rollback --to %[3]d publishes that again",
			last.Release.Serial, Short(newest.Release.Manifest), newest.Release.Serial)
	}
	if err != nil {
		p.Log.Warn("the release that the remote holds is ignored", "error", err)
		return Last{Version: last.Version, PutBack: err}, nil
	}
	if unread != nil {
		p.Log.Warn("whether the remote holds an older release that was put back is not known", "error", unread)
		last.Unread = unread
	}
	if newest.Progress != nil {
		last.Progress, last.Unvouched = newest.Progress, nil
	}
	if last.Unvouched != nil {
		p.Log.Warn("your keys do not vouch for the progress of the remote's rollout; it is ignored", "error", last.Unvouched)
	}

	return last, nil
}

// mostLooks bounds how often Held looks, if the object is replaced each time before it is read.
const mostLooks = 5

// Held is Last without a look at earlier versions.
func (p *Publisher) Held(ctx context.Context, s Store) (last Last, err error) {
	for range mostLooks {
		if last, err = p.held(ctx, s); !errors.Is(err, store.ErrChanged) {
			break
		}
	}

	return last, err
}

func (p *Publisher) held(ctx context.Context, s Store) (Last, error) {
	v, err := s.Latest(ctx, store.Version{})
	if errors.Is(err, store.ErrNotFound) {
		return Last{}, nil
	}
	if err != nil {
		return Last{}, err
	}

	f, now, err := Read(ctx, s, v)
	var refused *release.Refused
	if err != nil && !errors.As(err, &refused) {
		return Last{}, err
	}
	if err != nil || f == nil || len(p.Signers) == 0 {
		return Last{Version: v}, nil
	}
	verified, err := p.policy().Verify(f)
	if err != nil {
		p.Log.Warn("the remote holds a release that your signers do not vouch for; it is ignored", "error", err)
		return Last{Version: v}, nil
	}

	last := Last{Version: v, Release: verified, Frame: f}
	if now.IsZero() {
		now = time.Now()
	}
	if err := p.policy().Check(verified, verified.Accepted(), now); errors.As(err, &refused) && refused.Reason == release.ReasonExpired {
		last.Expired = err
	}
	last.Progress, last.Unvouched = p.policy().VerifyProgress(f, verified)

	return last, nil
}

const (
	mostVersions = 100       // that newest reads
	aheadOfStore = time.Hour // a publisher's clock, at most: hosts refuse more
)

// newest returns the publish with the highest serial of those that the store has kept, and the furthest step of its
// rollout; last itself where the store keeps no versions, or does not list them. Unread says which version can be a
// later one, and cannot be read. A version that was written more than aheadOfStore before a release's serial cannot have
// a later one, so those are not read.
func (p *Publisher) newest(ctx context.Context, s Store, last Last) (top Past, unread, err error) {
	h := History{Releases: []Past{{[]store.Version{last.Version}, last.Release, last.Progress}}}
	kept, more, err := s.Versions(ctx, mostVersions)
	if err != nil {
		if !errors.Is(err, store.ErrNoVersions) {
			p.Log.Warn("whether the remote holds an older release that was put back is not known", "error", err)
		}
		return h.Releases[0], nil, nil
	}
	for _, k := range kept {
		top = h.top()
		if !k.Modified.After(time.UnixMilli(top.Release.Serial).Add(-aheadOfStore)) {
			return top, unread, nil
		}
		if k.Deleted || k.ETag == last.Version.ETag {
			continue
		}
		past, omitted := p.past(ctx, s, k.Version)
		switch {
		case omitted == nil:
			h.add(past)
		case omitted.Unread && unread == nil:
			unread = fmt.Errorf("the version %s of %s cannot be read, and may be a newer release: %s", k.ID, k.Modified.UTC().Format(time.RFC3339), omitted.Why)
		}
	}
	if more {
		return Past{}, nil, fmt.Errorf("%d versions were written since the release with serial %d was signed, so whether it is the last one is not known; npcnix history shows them, "+
			"and npcnix rollback --to publishes one again", mostVersions, h.top().Release.Serial)
	}

	return h.top(), unread, nil
}

// top is the publish with the highest serial.
func (h History) top() Past {
	top := h.Releases[0]
	for _, p := range h.Releases {
		if p.Release.Serial > top.Release.Serial {
			top = p
		}
	}

	return top
}

// Read reads the frame at the end of one version of a remote's object, and the store's time; nil if it has
// none.
func Read(ctx context.Context, s interface {
	Tail(ctx context.Context, v store.Version, n int64) (store.Tail, error)
}, v store.Version) (*release.Frame, time.Time, error) {
	var now time.Time
	f, err := release.Read(func(n int64) ([]byte, error) {
		tail, err := s.Tail(ctx, v, n)
		now = tail.Now
		return tail.Data, err
	})

	return f, now, err
}
