package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// manyVersions is more than a bucket keeps of an object. Most are listed only, 1,000 by a request.
const manyVersions = 1_000_000

// Needed returns the toplevels of the release that the remote holds, of the newest keep releases that the store has kept,
// and of those that the remote held since a time; and those of their bases. Whoever signed them: what stays for a release
// that nobody vouches for costs no more than its room. If the publisher has signers, only what these vouch
// for counts as one of keep. A version that cannot be read is an error, as what it needs is not known.
func (p *Publisher) Needed(ctx context.Context, remote *store.Remote, keep int, since time.Time) ([]string, error) {
	versions, _, err := remote.Versions(ctx, manyVersions)
	if errors.Is(err, store.ErrNoVersions) {
		versions, err = present(ctx, remote)
	}
	if err != nil {
		return nil, err
	}
	var systems []string
	counted := map[string]bool{}
	replaced := time.Time{} // zero: not yet
	for _, v := range versions {
		if len(counted) >= keep && !replaced.IsZero() && replaced.Before(since) {
			break
		}
		replaced = v.Modified
		if v.Deleted {
			continue
		}
		m, vouched, err := p.manifest(ctx, remote, v.Version)
		if err != nil {
			return nil, fmt.Errorf("what version %s of %s needs is not known: %w", v.ID, remote.URL(), err)
		}
		if m == nil {
			continue
		}
		systems = append(systems, toplevels(m.Systems)...)
		if m.Rollout != nil && m.Rollout.Base != nil {
			systems = append(systems, toplevels(m.Rollout.Base.Systems)...)
		}
		if vouched {
			counted[m.Release] = true
		}
	}

	return systems, nil
}

// present is the version that a store without others has; none if nothing was published.
func present(ctx context.Context, remote *store.Remote) ([]store.Kept, error) {
	v, err := remote.Latest(ctx, store.Version{})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}

	return []store.Kept{{Version: v}}, err
}

// manifest reads the manifest of a version, nil for one without; and whether it counts.
func (p *Publisher) manifest(ctx context.Context, remote *store.Remote, v store.Version) (*release.Manifest, bool, error) {
	f, _, err := Read(ctx, remote.At(v), v)
	if errors.As(err, new(*release.Refused)) { // a damaged end, which no host takes
		return nil, false, nil
	}
	if err != nil || f == nil {
		return nil, false, err
	}
	m, err := release.Parse(f.Manifest)
	if err != nil {
		return nil, false, err
	}
	if len(p.Signers) == 0 {
		return m, true, nil
	}
	verified, err := p.policy().Verify(f)

	return m, err == nil && verified != nil, nil
}
