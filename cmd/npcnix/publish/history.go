package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// readers is how many versions are read at a time.
const readers = 8

// History is what a store has kept of a remote's publishes.
type History struct {
	Releases []Past     // the highest serial first
	Omitted  []Omitted  // versions that are no release, the newest first
	More     bool       // the store has older versions that were not read
	Oldest   time.Time  // when the oldest one that was read was written
	Newest   store.Kept // the newest version, or the marker of a deletion; zero: there is none
}

// Past is one publish of a release that the publisher's signers vouch for. The steps of its rollout are versions of
// their own, and count as one publish.
type Past struct {
	Versions []store.Version // that have its frame, the newest first; the packed flake before it can be another one
	Release  *release.Verified
	// Progress of the release's plan; nil if it has none, or nobody vouches for it.
	Progress *release.VerifiedProgress
}

// Complete reports whether all hosts were to take the release in the end.
func (p Past) Complete() bool {
	return !Last{Release: p.Release, Progress: p.Progress}.Unfinished()
}

// Omitted is a version that counts for nothing.
type Omitted struct {
	Version store.Version
	Why     string
	// Unread says that the store did not give it out, so that it may be a release.
	Unread bool
}

// History reads the newest versions that the store has kept, at most limit. Nothing is taken from one that does
// not verify: whoever can write the object can plant versions.
func (p *Publisher) History(ctx context.Context, remote *store.Remote, limit int) (History, error) {
	kept, more, err := remote.Versions(ctx, limit)
	if err != nil {
		return History{}, err
	}
	h := History{More: more}
	if len(kept) > 0 {
		h.Newest, h.Oldest = kept[0], kept[len(kept)-1].Modified
	}
	kept = slices.DeleteFunc(kept, func(k store.Kept) bool { return k.Deleted })
	past, omitted := make([]Past, len(kept)), make([]*Omitted, len(kept))
	var wg sync.WaitGroup
	free := make(chan struct{}, readers)
	for i, k := range kept {
		free <- struct{}{}
		wg.Go(func() {
			past[i], omitted[i] = p.past(ctx, remote, k.Version)
			<-free
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return History{}, err
	}
	for i := range kept {
		if omitted[i] != nil {
			h.Omitted = append(h.Omitted, *omitted[i])
		} else {
			h.add(past[i])
		}
	}
	slices.SortStableFunc(h.Releases, func(a, b Past) int { return cmp.Compare(b.Release.Serial, a.Release.Serial) })

	return h, nil
}

// past reads one version, and says why it counts for nothing.
func (p *Publisher) past(ctx context.Context, remote Store, v store.Version) (Past, *Omitted) {
	f, _, err := Read(ctx, remote.At(v), v)
	if err != nil && !errors.As(err, new(*release.Refused)) {
		return Past{}, &Omitted{Version: v, Why: err.Error(), Unread: true}
	}
	var verified *release.Verified
	if err == nil {
		verified, err = p.policy().Verify(f)
	}
	if err == nil && verified == nil {
		err = errors.New("it is not signed")
	}
	if err != nil {
		return Past{}, &Omitted{Version: v, Why: err.Error()}
	}
	progress, _ := p.policy().VerifyProgress(f, verified) // nil: nobody vouches for it

	return Past{[]store.Version{v}, verified, progress}, nil
}

// add adds a version to the publish that it is of. Versions come newest first, but an old one can be put back: the
// furthest step of a rollout counts.
func (h *History) add(p Past) {
	for i, known := range h.Releases {
		if known.Release.Digest != p.Release.Digest {
			continue
		}
		if known.Progress == nil && p.Progress != nil || known.Progress != nil && p.Progress != nil && p.Progress.Step > known.Progress.Step {
			h.Releases[i].Progress = p.Progress
		}
		h.Releases[i].Versions = append(known.Versions, p.Versions...)
		return
	}
	h.Releases = append(h.Releases, p)
}

// Serial is the highest serial of all; 0 without releases. A release that hosts are to take needs a higher one.
func (h History) Serial() int64 {
	if len(h.Releases) == 0 {
		return 0
	}

	return h.Releases[0].Release.Serial
}

// Serial is the highest serial that a release of the remote is known to have had: hosts refuse one that is not above it. If
// the remote holds none, or one that was put back, it is that of the versions that the store has kept.
func (p *Publisher) Serial(ctx context.Context, remote *store.Remote, last Last) (int64, error) {
	if last.Release != nil {
		return last.Release.Serial, nil
	}
	if len(p.Signers) == 0 {
		return 0, nil
	}
	h, err := p.History(ctx, remote, mostVersions)
	if err != nil && !errors.Is(err, store.ErrNoVersions) && ctx.Err() == nil {
		p.Log.Warn("the serials of earlier releases are not known", "error", err)
	}

	return h.Serial(), ctx.Err()
}

// Previous is the release to go back to from the one that the remote holds, by its name; "" for none: the one with
// the highest serial below it that all hosts were to take. A version that was not read, or could not be, may be a later
// one, so it is an error.
func (h History) Previous(present string) (Past, error) {
	from := 0
	for i, p := range h.Releases {
		if p.Release.Release == present {
			from = i
			break
		}
	}
	for _, p := range h.Releases[from:] {
		if p.Release.Release == present || !p.Complete() {
			continue
		}
		for _, o := range h.Omitted {
			if first := p.Versions[len(p.Versions)-1]; o.Unread && o.Version.Modified.After(first.Modified) {
				return Past{}, fmt.Errorf("a later version, %s of %s, cannot be read, so which release is the previous one is unknown: %s", o.Version.ID, o.Version.Modified.UTC().Format(time.RFC3339), o.Why)
			}
		}
		if h.More && !h.Oldest.Before(time.UnixMilli(p.Release.Serial).Add(-aheadOfStore)) {
			return Past{}, errors.New("so many versions were written since the release was signed that may be the previous one that a later one can be among those that were not read: name the release by --to")
		}
		return p, nil
	}

	return Past{}, errors.New("the store has kept no earlier release that your signers vouch for and that all hosts were to take")
}

// Find returns the newest publish that name means: a serial, the beginning of a release's name of at least six
// characters, or of a revision.
func (h History) Find(name string) (Past, error) {
	var found []Past
	for _, p := range h.Releases {
		m := p.Release.Manifest
		if strconv.FormatInt(m.Serial, 10) == name {
			return p, nil
		}
		begins := len(name) >= shortest && (strings.HasPrefix(m.Release, name) || strings.HasPrefix(m.Source.Rev, name))
		known := slices.ContainsFunc(found, func(f Past) bool { return f.Release.Release == m.Release })
		if (begins || m.Source.Rev == name) && name != "" && !known {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return Past{}, fmt.Errorf("the store has kept no release %q that your signers vouch for: npcnix history shows what it has", name)
	case 1:
		return found[0], nil
	}

	return Past{}, fmt.Errorf("%q means %d releases, among them %s and %s: give more of its name, or its serial", name, len(found), Short(found[0].Release.Manifest), Short(found[1].Release.Manifest))
}

// shortest is how much of a name must be given.
const shortest = 6
