package store

import (
	"context"
	"fmt"
	"time"
)

// Latest returns the object's present version in one conditional request: have
// itself when nothing changed. Give the zero Version when there is none to compare
// with: then caches on the way are asked to look at the store too.
func (r *Remote) Latest(ctx context.Context, have Version) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	v, err := r.backend.head(ctx, "", have)
	if err != nil {
		return Version{}, fmt.Errorf("look at %s: %w", r.url, err)
	}
	r.remember(v)
	if v.Same(have) {
		return have, nil
	}
	return v, nil
}

// namedPauses are made while the store does not show a version that was announced.
var namedPauses = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second}

// LatestAnnounced is Latest for a caller who was told that the object became the
// version with this ETag at a time by the store's clock (zero: unknown). A cache may
// still answer with an older one: then it looks again, without a condition, until it
// sees that version or one that is not older, or for 23 s in all. What it saw last it
// returns without an error. It does not look again without an ETag.
func (r *Remote) LatestAnnounced(ctx context.Context, have Version, etag string, at time.Time) (Version, error) {
	v, err := r.Latest(ctx, have)
	if err != nil || etag == "" || v.ETag == etag {
		return v, err
	}
	if v, err = r.Latest(ctx, Version{}); err != nil {
		return v, err
	}
	for _, pause := range namedPauses {
		// Stores tell whole seconds.
		if v.ETag == etag || !at.IsZero() && !v.Modified.Before(at.Truncate(time.Second)) {
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return Version{}, fmt.Errorf("look at %s: %w", r.url, err)
		}
		if v, err = r.Latest(ctx, Version{}); err != nil {
			return Version{}, err
		}
	}
	if v.Same(have) {
		return have, nil
	}
	return v, nil
}

// remember keeps a version that the store showed, for its size.
func (r *Remote) remember(v Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.Size > 0 {
		r.shown = v
	}
}

func (r *Remote) last() Version {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown
}
