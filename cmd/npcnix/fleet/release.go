package fleet

import (
	"context"
	"strings"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Release is what hosts run of a version, whoever published it and how often. The zero Release is that of a packed
// flake without a manifest.
type Release struct {
	ID, Rev, Message string
}

// identify finds out which release the remote holds. If it cannot be read, the version alone counts, and the next
// look asks again.
func (w *wait) identify(ctx context.Context) {
	if _, known := w.releases[w.now.ETag]; known || w.ReleaseOf == nil || w.ByQueue {
		return
	}
	if r, err := w.ReleaseOf(ctx, w.now); err == nil {
		w.releases[w.now.ETag] = r
	}
}

// release is that of the version which is waited for: by what the remote held, or by what a host's record says.
func (w *wait) release() Release {
	if r, known := w.releases[w.version.ETag]; known {
		return r
	}

	return w.records.release(w.version.ETag)
}

// release is what the hosts say of a version. What those say that took the base of its rollout does not count.
func (r *records) release(etag string) Release {
	for _, e := range r.known {
		if e.record == nil {
			continue
		}
		if v := e.record.Version; etag != "" && v.ETag == etag && v.Release != "" && !strings.HasPrefix(v.Message, record.BaseOf) {
			return Release{v.Release, v.Rev, v.Message}
		}
	}

	return Release{}
}

// holds reports whether the remote holds the version, or another publish of the same release.
func (w *wait) holds() bool {
	release := w.release().ID

	return w.now.ETag == w.version.ETag || release != "" && w.releases[w.now.ETag].ID == release
}

// name is a version in words: its ETag, and the revision and message of its release.
func (p Progress) name() string {
	return versionName(p.Version, p.Release)
}

func versionName(v store.Version, r Release) string {
	name := Short(v.ETag)
	switch {
	case r.Rev != "" && r.Message != "":
		name += " (" + clean(r.Rev) + ": " + firstLine(r.Message) + ")"
	case r.Rev != "" || r.Message != "":
		name += " (" + clean(r.Rev) + firstLine(r.Message) + ")"
	}

	return name
}
