// Package publish makes a release of a packed flake: its prebuilt systems in a cache, the manifest, and the
// signatures.
//
// It promises that nothing which an untrusted object says gets into what is signed: the last release counts
// only if it verifies under the publisher's own signers. A cache has all of a system before a release names
// it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/cmd/npcnix/cache"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Options of a release. Without keys and systems there is none: a packed flake is published as it is.
type Options struct {
	Remote   string   // that it is for: bucket/key
	KeyNames []string // to sign with: files, agent:FINGERPRINT, or awskms:ARN
	Signers  release.Signers
	Required int               // how many of Signers must have signed the last release; 0: one
	Systems  map[string]string // toplevels that were built elsewhere, by configuration
	Caches   []release.Cache   // that have the systems

	Prebuild       bool
	Configurations []string // to prebuild; none: all
	CacheKey       string   // file with the secret key that the cache's paths are signed by

	// Plan has hosts take the release in waves; nil: all at once.
	Plan            *release.Plan
	RolloutKeyNames []string // to sign the plan's progress with; none: KeyNames
	// RolloutSigners may have signed the progress of the last release's rollout, besides Signers and the keys.
	RolloutSigners release.Signers

	Source  release.Source
	Expires time.Duration // 0: never

	Nix *nix.Host // that builds; needed with Prebuild and Systems
	Log *slog.Logger
}

// Wanted reports whether the options ask for a release.
func (o Options) Wanted() bool { return len(o.KeyNames) > 0 || o.Prebuild || len(o.Systems) > 0 }

// A Publisher makes releases. Close it.
type Publisher struct {
	Options
	keys, rolloutKeys []ssh.Signer
	closes            []func() error
	note              *cache.Note // in the cache, while systems are copied to it; nil: it takes none
}

// Open opens the keys, which sign while ctx lasts. The publisher's own keys are among its signers.
func Open(ctx context.Context, o Options) (*Publisher, error) {
	if o.Prebuild && len(o.Caches) == 0 {
		return nil, errors.New("--prebuild needs a cache that the hosts can fetch from: give --cache URL")
	}
	p := &Publisher{Options: o}
	var err error
	if p.keys, err = p.open(ctx, o.KeyNames); err == nil {
		p.rolloutKeys, err = p.open(ctx, o.RolloutKeyNames)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	for _, key := range p.keys {
		p.Signers = append(p.Signers, key.PublicKey())
	}
	if len(p.Signers) == 0 { // of a command that only takes a rollout on, by the one key that there is
		for _, key := range p.rolloutKeys {
			p.Signers = append(p.Signers, key.PublicKey())
		}
	}

	return p, nil
}

func (p *Publisher) open(ctx context.Context, names []string) (keys []ssh.Signer, err error) {
	for _, name := range names {
		key, closeKey, err := release.OpenKey(ctx, name)
		if err != nil {
			return nil, err
		}
		keys, p.closes = append(keys, key), append(p.closes, closeKey)
	}

	return keys, nil
}

// policy is what the publisher demands of an object before it takes anything from it.
func (p *Publisher) policy() release.Policy {
	rollout := append(slices.Clone(p.Signers), p.RolloutSigners...)
	for _, key := range p.rolloutKeys {
		rollout = append(rollout, key.PublicKey())
	}

	return release.Policy{Remote: p.Remote, Signers: p.Signers, Required: p.Required, RolloutSigners: rollout}
}

// Close closes what the keys hold open.
func (p *Publisher) Close() error {
	var errs []error
	for _, c := range p.closes {
		errs = append(errs, c())
	}

	return errors.Join(errs...)
}

// Published reports whether the remote holds the release m already, vouched for by all of the publisher's keys, and
// with the packed flake that was signed. A release that has expired does not count, as no host takes it, and neither does
// one that may have replaced a newer one. One that never expires is not the one that is to expire, and one of another
// revision is published again, so that no slower publish of an older revision follows it.
func (p *Publisher) Published(ctx context.Context, s Copier, last Last, m *release.Manifest) (bool, error) {
	if last.Release == nil || last.Release.Release != m.Release || last.Unfinished() || last.Expired != nil || last.Unread != nil {
		return false, nil
	}
	if p.Source.Rev != "" && last.Release.Source.Rev != p.Source.Rev {
		return false, nil
	}
	if last.Release.Expires.IsZero() && (!m.Expires.IsZero() || p.Expires > 0) {
		return false, nil
	}
	for _, key := range p.keys {
		if !slices.Contains(last.Release.Keys, ssh.FingerprintSHA256(key.PublicKey())) {
			return false, nil
		}
	}
	err := s.CopyArchive(ctx, last.Version, store.Archive{SHA256: last.Release.Archive.SHA256, Size: last.Release.Archive.Size}, io.Discard)
	if errors.Is(err, store.ErrNotSigned) {
		p.Log.Warn("the remote holds the manifest of this release, but not the packed flake that was signed")
		return false, nil
	}

	return err == nil, err
}

// Frame makes the frame of the packed flake in file, which follows a release whose serial was last, and
// appends it to the file.
func (p *Publisher) Frame(ctx context.Context, file *os.File, last int64) (*release.Manifest, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	archive, err := release.HashArchive(file)
	if err != nil {
		return nil, err
	}
	systems, err := p.systems(ctx, file)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC() // when all is built, so that it is close to the publish
	serial, err := release.NextSerial(last, now)
	if err != nil {
		return nil, err
	}
	m := &release.Manifest{
		Remote: p.Remote, Serial: serial, Created: now.Truncate(time.Second), Archive: archive,
		Caches: p.Caches, Source: p.Source, Rollout: p.Plan, Systems: systems,
	}
	if p.Expires > 0 {
		m.Expires = now.Add(p.Expires)
	}

	frame, err := p.sign(m)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if _, err := file.Write(frame); err != nil {
		return nil, fmt.Errorf("write %s: %w", file.Name(), err)
	}

	return m, nil
}

func (p *Publisher) sign(m *release.Manifest) ([]byte, error) {
	data, err := m.Encode()
	if err != nil {
		return nil, err
	}
	f := release.Frame{Manifest: data}
	for _, key := range p.keys {
		signature, err := release.Sign(data, key, release.Namespace)
		if err != nil {
			return nil, err
		}
		f.Signatures = append(f.Signatures, signature)
	}
	if err := p.check(&f); err != nil {
		return nil, err
	}
	if m.Rollout != nil {
		if err := p.progress(&f, m, release.Progress{Step: 1, Admitted: 1, State: release.Running}); err != nil {
			return nil, err
		}
	}

	return f.Encode()
}

// check verifies what the keys have signed, as hosts will: a security key may sign without a touch, and a key
// that is elsewhere can be another one than it was taken for.
func (p *Publisher) check(f *release.Frame) error {
	for _, key := range p.keys {
		policy := release.Policy{Remote: p.Remote, Signers: release.Signers{key.PublicKey()}}
		if _, err := policy.Verify(f); err != nil {
			return fmt.Errorf("hosts would refuse what is signed: %w", err)
		}
	}

	return nil
}

// Short names a release, or a version without one, for people.
func Short(m *release.Manifest) string {
	name := m.Release[:12]
	if m.Source.Rev != "" {
		name += " (" + strings.TrimSpace(m.Source.Rev) + ")"
	}

	return name
}
