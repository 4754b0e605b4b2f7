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

// announcedPauses are made while the store does not show a version that was announced.
var announcedPauses = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second}

// LatestAnnounced is Latest for a caller who was told that the object became the
// version with this ETag, at a time by the store's clock. While the store, or a cache
// before it, still shows what the caller has, and that is older, it looks again
// without a condition, for 23 s in all. Without an ETag or a time it looks once. A Modified before that time, of
// another ETag, is the answer of a store that still does not show it.
//
// The answer brings the end of a new version with it, if the store gives both at once. So Tail then costs no
// request, nor does Fetch of an object of up to 64 KiB.
func (r *Remote) LatestAnnounced(ctx context.Context, have Version, etag string, at time.Time) (Version, error) {
	v, err := r.look(ctx, have)
	if err != nil || etag == "" || at.IsZero() || v.ETag == etag || !v.Same(have) {
		return v, err
	}
	for i := 0; ; i++ {
		if v, err = r.Latest(ctx, Version{}); err != nil {
			return v, err
		}
		older := v.Modified.Before(at.Truncate(time.Second)) // stores tell whole seconds
		switch {
		case !v.Same(have), i == len(announcedPauses):
			return v, nil
		case !older:
			return have, nil
		}
		if err := sleep(ctx, announcedPauses[i]); err != nil {
			return Version{}, fmt.Errorf("look at %s: %w", r.url, err)
		}
	}
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
