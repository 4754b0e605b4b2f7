package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Remote is what a rollout's steps ask of a remote. *store.Remote serves.
type Remote interface {
	Store
	Copier
	PublishOver(ctx context.Context, archive io.ReadSeeker, size int64, over store.Version) (store.Version, error)
}

// Base is the release to go back to from one that follows l: what l has all hosts run. Nil: there is none.
func (l Last) Base() *release.Base {
	switch {
	case l.Release == nil:
		return nil
	case l.Unfinished():
		return l.Release.Rollout.Base
	}

	return &release.Base{Release: l.Release.Release, Systems: l.Release.Systems}
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
func (p *Publisher) Step(ctx context.Context, s Remote, l Last, admitted int, state release.Rollout) (Last, error) {
	step := release.Progress{Step: 1, Admitted: admitted, State: state}
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
