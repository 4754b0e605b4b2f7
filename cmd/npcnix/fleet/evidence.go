package fleet

import (
	"errors"
	"net"

	"github.com/npcnix/npcnix/store"
)

// replaced reports whether the remote surely holds another version by now: it shows one that is not
// older, and does so again. Caches and stores that copy with a delay show older ones for a while.
func (w *wait) replaced() bool {
	if w.holds() || w.looks < 2 {
		return false
	}
	if !w.version.Modified.IsZero() {
		return !w.now.Modified.Before(w.version.Modified)
	}
	cached := w.now.Same(w.Before) && w.now.Modified.Equal(w.Before.Modified)
	return !cached && !w.now.Modified.Before(w.Before.Modified)
}

// mentioned reports whether a host's record is about the version.
func (w *wait) mentioned() bool {
	for _, e := range w.records.known {
		if e.record != nil && e.record.Version.ETag == w.version.ETag {
			return true
		}
	}
	return false
}

// hopeless reports whether asking again cannot help. Once the fleet was seen, nothing is: what worked
// then comes back. A store that answered a moment ago has a name, and takes these credentials.
func (w *wait) hopeless(err error) bool {
	switch {
	case errors.Is(err, store.ErrURL), errors.Is(err, store.ErrNoListing):
		return true
	case w.rounds > 0:
		return false
	case w.answered && !errors.Is(err, store.ErrForbidden) && !errors.Is(err, errQueue):
		return false
	}
	return permanent(err)
}

// permanent reports whether an error that comes first is the caller's mistake, or lasts.
func permanent(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrForbidden) ||
		errors.Is(err, store.ErrCredentials) || errors.Is(err, store.ErrURL) || errors.Is(err, store.ErrNoListing) ||
		errors.Is(err, errQueue)
}
