package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Copier is what is asked of a remote to publish again what it holds. *store.Remote serves.
type Copier interface {
	CopyArchive(ctx context.Context, v store.Version, want store.Archive, w io.Writer) error
}

// Renew writes the last release into file once more: the same systems and packed flake, with a new serial, time and
// signatures. Without Expires it is valid for as long as the last one was. Only a release that the publisher's
// signers vouch for is renewed; and one that has expired, or may have replaced a newer one, only by force.
func (p *Publisher) Renew(ctx context.Context, s Copier, last Last, force bool, file *os.File) (*release.Manifest, error) {
	switch {
	case last.PutBack != nil:
		return nil, last.PutBack
	case last.Release == nil:
		return nil, errors.New("the remote holds no release that your signers vouch for: publish one with npcnix push")
	case last.Expired != nil && !force:
		return nil, fmt.Errorf("%w: if it is still the one that hosts are to run, --force renews it", last.Expired)
	case last.Unread != nil && !force:
		return nil, fmt.Errorf("%w: if the release that the remote holds is the newest one, --force renews it", last.Unread)
	case last.Unfinished():
		return nil, errors.New("the release's rollout is not complete: finish it first, see npcnix rollout status")
	}
	m := *last.Release.Manifest
	m.Rollout = nil

	return p.reissue(ctx, s, last.Version, m, m.Serial, file)
}

// Again writes old, which s has as version v, into file as a new release of the publisher's remote: the same systems
// and packed flake, with the publisher's plan, message and signatures. It follows a release with the serial after.
// Old must have been verified: this signs its content.
func (p *Publisher) Again(ctx context.Context, s Copier, v store.Version, old *release.Verified, after int64, file *os.File) (*release.Manifest, error) {
	m := *old.Manifest
	m.Remote, m.Rollout, m.Source.Message = p.Remote, p.Plan, p.Source.Message

	return p.reissue(ctx, s, v, m, after, file)
}

// reissue signs m with a new serial and time, and writes it behind its packed flake.
func (p *Publisher) reissue(ctx context.Context, s Copier, v store.Version, m release.Manifest, after int64, file *os.File) (*release.Manifest, error) {
	if err := s.CopyArchive(ctx, v, store.Archive{SHA256: m.Archive.SHA256, Size: m.Archive.Size}, file); err != nil {
		return nil, err
	}
	valid, now := p.Expires, time.Now().UTC()
	if valid == 0 && !m.Expires.IsZero() {
		valid = m.Expires.Sub(m.Created)
	}
	var err error
	if m.Serial, err = release.NextSerial(after, now); err != nil {
		return nil, err
	}
	m.Created = now.Truncate(time.Second)
	if valid > 0 {
		m.Expires = m.Created.Add(valid)
	}
	frame, err := p.sign(&m)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(frame); err != nil {
		return nil, fmt.Errorf("write %s: %w", file.Name(), err)
	}

	return &m, nil
}

// Reading returns a publisher that only reads another remote: of its objects, those count that these signers vouch
// for, or without them the publisher's own. As many of them are required.
func (p *Publisher) Reading(remote string, signers release.Signers) *Publisher {
	if len(signers) == 0 {
		signers = p.Signers
	}

	return &Publisher{Options: Options{Remote: remote, Signers: signers, Required: p.Required, RolloutSigners: p.policy().RolloutSigners, Log: p.Log}}
}
