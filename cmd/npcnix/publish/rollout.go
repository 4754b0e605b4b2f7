package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Remote is what a rollout's steps ask of a remote. *store.Remote serves.
type Remote interface {
	Store
	Copier
	PublishOver(ctx context.Context, archive io.ReadSeeker, size int64, over store.Version) (store.Version, error)
}

// Base is the release to go back to from one that follows l: what l has all hosts run. Nil: there is none. It is an
// error, unless forced, if that is not known for certain: the plan would have hosts go back to an older release.
func (l Last) Base(force bool) (*release.Base, error) {
	if why := cmp.Or(l.PutBack, l.Expired, l.Unread, l.Unvouched); why != nil && !force {
		return nil, fmt.Errorf("the release to go back to is not certain: %w; --force begins the rollout all the same", why)
	}
	switch {
	case l.Release == nil:
		return nil, nil
	case l.Unfinished():
		return l.Release.Rollout.Base, nil
	}

	return &release.Base{Release: l.Release.Release, Systems: l.Release.Systems}, nil
}

// Unfinished reports whether l has a plan of waves that is not complete.
func (l Last) Unfinished() bool {
	return l.Release != nil && l.Release.Rollout != nil && (l.Progress == nil || l.Progress.State != release.Complete)
}

// progress signs a step of the manifest's plan.
func (p *Publisher) progress(f *release.Frame, m *release.Manifest, step release.Progress) error {
	keys := p.rolloutKeys
	if len(keys) == 0 {
		keys = p.keys
	}
	if len(keys) == 0 {
		return errors.New("no key to sign the rollout's progress with: give --rollout-key FILE")
	}
	step.Release, step.Serial = m.Release, m.Serial
	data, err := step.Encode(m)
	if err != nil {
		return err
	}
	f.Progress, f.ProgressSignatures = data, nil
	for _, key := range keys {
		signature, err := release.Sign(data, key, release.RolloutNamespace)
		if err != nil {
			return err
		}
		f.ProgressSignatures = append(f.ProgressSignatures, signature)
	}

	return nil
}

// Step publishes the release that l has with the next step of its progress, if the remote still holds l;
// otherwise the error wraps store.ErrChanged. The packed flake, the manifest and its signatures stay what they are.
// Where no progress is known, the step is the time in Unix milliseconds: hosts can have accepted any lower one.
func (p *Publisher) Step(ctx context.Context, s Remote, l Last, admitted int, state release.Rollout) (Last, error) {
	step := release.Progress{Step: time.Now().UnixMilli(), Admitted: admitted, State: state}
	if l.Progress != nil {
		step.Step = l.Progress.Step + 1
	}
	m, frame := l.Release.Manifest, *l.Frame
	if err := p.progress(&frame, m, step); err != nil {
		return Last{}, err
	}
	end, err := frame.Encode()
	if err != nil {
		return Last{}, err
	}

	file, err := os.CreateTemp("", "npcnix-rollout-*")
	if err != nil {
		return Last{}, fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := s.CopyArchive(ctx, l.Version, store.Archive{SHA256: m.Archive.SHA256, Size: m.Archive.Size}, file); err != nil {
		return Last{}, err
	}
	if _, err := file.Write(end); err != nil {
		return Last{}, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	if l.Version, err = s.PublishOver(ctx, file, m.Archive.Size+int64(len(end)), l.Version); err != nil {
		return Last{}, err
	}
	l.Frame = &frame
	if l.Progress, err = p.policy().VerifyProgress(&frame, l.Release); err != nil {
		return Last{}, fmt.Errorf("the progress that was just published does not verify: %w", err)
	}

	return l, nil
}
