// Package cache sweeps a binary cache: it deletes what nothing needs.
//
// It promises to delete nothing that a kept release, a running host or a push under way needs. A push notes in the
// cache that it copies, and a sweep deletes nothing while one does. A sweep notes that it deletes, and a push that
// begins meanwhile waits for its end. So each sees the other, whoever comes first. What was copied without a note is
// only safe for a while: a file must be unmarked in two runs a grace period apart.
package cache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Files are those of a binary cache. *store.Cache serves.
type Files interface {
	// List lists the files whose names begin with the prefix, in any order.
	List(ctx context.Context, prefix string) ([]store.CacheFile, error)
	// Read returns a file and its version, or store.ErrNotFound. ReadAny is the same without the version.
	Read(ctx context.Context, name string) ([]byte, store.Version, error)
	ReadAny(ctx context.Context, name string) ([]byte, error)
	// Write replaces a file, or, with over, only that version of it (zero: none), else store.ErrChanged.
	Write(ctx context.Context, name string, body []byte, over *store.Version) error
	// Delete deletes files in their order. What is not there is no error.
	Delete(ctx context.Context, names []string) error
	// Now is the time by the clock of the files' own times.
	Now(ctx context.Context) (time.Time, error)
}

// Names of the files that are not nix's.
const (
	rootsFolder  = "npcnix/roots/"
	unmarkedFile = "npcnix/unmarked.json"
	sweepFile    = "npcnix/sweep.json"
)

// look is how often a push looks whether a sweep has ended.
const look = 2 * time.Second

// root notes what a publish needs of the cache.
type root struct {
	Remote  string   `json:"remote"`            // that it is for
	Copying bool     `json:"copying,omitempty"` // what it needs is not known yet
	Systems []string `json:"systems,omitempty"` // toplevels
}

// Note is a publish's note in the cache. No sweep deletes what it needs.
type Note struct {
	files Files
	name  string
	root  root
}

// Begin notes that systems are copied to the cache for a remote, and waits until no sweep deletes: told is told the
// time until which one can. End the note with Copied or Failed.
func Begin(ctx context.Context, files Files, remote string, told func(until time.Time)) (*Note, error) {
	return begin(ctx, files, root{Remote: remote, Copying: true}, told)
}

// Keep notes that a publish for a remote needs systems which the cache has, and waits until no sweep deletes. Look
// whether the cache still has them afterwards; if not, end the note with Failed.
func Keep(ctx context.Context, files Files, remote string, systems []string, told func(until time.Time)) (*Note, error) {
	return begin(ctx, files, root{Remote: remote, Systems: systems}, told)
}

func begin(ctx context.Context, files Files, r root, told func(until time.Time)) (*Note, error) {
	n := &Note{files, rootsFolder + time.Now().UTC().Format("20060102T150405Z-") + rand.Text()[:10] + ".json", r}
	if err := n.write(ctx); err != nil {
		return nil, err
	}
	if err := awaitSweep(ctx, files, told); err != nil {
		return nil, errors.Join(err, n.Failed(ctx))
	}

	return n, nil
}

// Again writes the note again, so that it does not age during long work.
func (n *Note) Again(ctx context.Context) error { return n.write(ctx) }

// Copied notes that the cache has these systems, each with all that it needs.
func (n *Note) Copied(ctx context.Context, systems []string) error {
	n.root.Copying, n.root.Systems = false, systems
	return n.write(ctx)
}

// Failed notes that nothing is needed any more. It works when ctx has ended.
func (n *Note) Failed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()

	return n.Copied(ctx, nil)
}

func (n *Note) write(ctx context.Context) error {
	data, err := json.Marshal(n.root)
	if err != nil {
		return err
	}
	if err := n.files.Write(ctx, n.name, data, nil); err != nil {
		return fmt.Errorf("note in the cache what must not be swept: %w", err)
	}

	return nil
}

// sweep notes that files are deleted.
type sweep struct {
	Until time.Time `json:"until"` // by the cache's clock; nothing is deleted later
}

// readSweep returns the sweep that is noted, and the note's version; both zero without one.
func readSweep(ctx context.Context, files Files) (s sweep, v store.Version, err error) {
	data, v, err := files.Read(ctx, sweepFile)
	if errors.Is(err, store.ErrNotFound) {
		return sweep{}, store.Version{}, nil
	}
	if err != nil {
		return sweep{}, store.Version{}, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return sweep{}, store.Version{}, fmt.Errorf("%s of the cache cannot be understood: %w; delete it if no npcnix cache gc runs", sweepFile, err)
	}

	return s, v, nil
}

func awaitSweep(ctx context.Context, files Files, told func(until time.Time)) error {
	for first := true; ; first = false {
		s, _, err := readSweep(ctx, files)
		replaced := errors.Is(err, store.ErrChanged)
		if err != nil && !replaced {
			return fmt.Errorf("whether the cache is being swept is not known: %w", err)
		}
		if s.Until.IsZero() && !replaced {
			return nil
		}
		now, err := files.Now(ctx)
		if err != nil {
			return err
		}
		if !now.Before(s.Until) && !replaced {
			return nil
		}
		if first && told != nil {
			told(s.Until)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
}
