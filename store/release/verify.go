package release

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// aheadOfStore is how far a release's times may be ahead of the store's clock.
const aheadOfStore = time.Hour

// Policy is what a reader of a remote demands of its releases.
type Policy struct {
	// Remote is the "bucket/key" that the release must be for.
	Remote string
	// Signers are the trusted keys; without any, every object is accepted that is well-formed.
	Signers Signers
	// Required is how many distinct keys must have signed; 0 means 1.
	Required int
	// RolloutSigners are the keys that a rollout's progress is accepted from; without any, Signers.
	RolloutSigners Signers
}

// Accepted is what is remembered of a remote's releases: no older one is accepted again.
type Accepted struct {
	Serial  int64     `json:"serial"`
	Digest  string    `json:"digest"` // of the manifest's bytes
	Created time.Time `json:"created,omitzero"`
	// Step and Progress are the last accepted step of this publish's rollout, and the digest of its bytes.
	Step     int64  `json:"step,omitempty"`
	Progress string `json:"progress,omitempty"`
}

// Verified is a release that enough trusted keys have signed.
type Verified struct {
	*Manifest
	Digest string   // lower-case hex SHA-256 of the manifest's bytes
	Keys   []string // fingerprints of the trusted keys that signed it
}

// Accepted is what to remember of v.
func (v *Verified) Accepted() Accepted {
	return Accepted{Serial: v.Serial, Digest: v.Digest, Created: v.Created}
}

// Verify checks who signed the frame, and only then parses its manifest and checks that it is meant for
// the policy's remote. frame is nil for an object that has none. The result is nil, without an error,
// for an object without a frame where no signers are set. Every error is a [*Refused].
func (p Policy) Verify(frame *Frame) (*Verified, error) {
	if frame == nil {
		if len(p.Signers) > 0 {
			return nil, refuse(ReasonUnsigned, "the object is not signed, and this host has signers: publish it with `npcnix push --sign-key FILE`")
		}
		return nil, nil
	}

	keys, faults := signedBy(frame.Manifest, frame.Signatures, p.Signers, Namespace)
	if required := max(p.Required, 1); len(p.Signers) > 0 && len(keys) < required {
		if faults == nil {
			return nil, refuse(ReasonSignature, "the release is signed by %d of the %d keys that are required", len(keys), required)
		}
		return nil, refuse(ReasonSignature, "the release is signed by %d of the %d keys that are required: %s", len(keys), required,
			strings.ReplaceAll(faults.Error(), "\n", "; "))
	}

	m, err := Parse(frame.Manifest)
	if err != nil {
		return nil, err
	}
	if err := p.meant(m); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(frame.Manifest)

	return &Verified{m, hex.EncodeToString(sum[:]), keys}, nil
}

// meant checks that the manifest is for the policy's remote.
func (p Policy) meant(m *Manifest) error {
	switch {
	case m.Remote == "" && len(p.Signers) == 0, m.Remote == p.Remote:
		return nil
	case m.Remote == "":
		return refuse(ReasonRemote, "the release does not say which remote it is for: sign it with `--for %s`", p.Remote)
	case strings.HasPrefix(m.Remote, "/") && strings.HasSuffix(p.Remote, m.Remote):
		return nil
	}

	return refuse(ReasonRemote, "the release is for the remote %q, and this one is %q", m.Remote, p.Remote)
}

// Check tells whether v may be used at now, by the store's clock, after the last accepted release.
// An error is a [*Refused], and may be over with time: a release that is ahead of its time becomes valid.
func (p Policy) Check(v *Verified, last Accepted, now time.Time) error {
	if now.Before(last.Created) {
		now = last.Created // a clock that was set back
	}

	switch limit := now.Add(aheadOfStore); {
	case v.Serial < last.Serial:
		return refuse(ReasonSerial, "the release has serial %d, and this host has accepted %d: an older release was put back", v.Serial, last.Serial)
	case v.Serial == last.Serial && v.Digest != last.Digest:
		return refuse(ReasonSerial, "another release with serial %d was accepted before: publish again", v.Serial)
	case v.Serial > limit.UnixMilli():
		return refuse(ReasonSerial, "the release's serial %d is more than an hour ahead of the store's time: the publisher's clock is wrong", v.Serial)
	case v.Created.After(limit):
		return refuse(ReasonSerial, "the release was created at %s, more than an hour ahead of the store's time: the publisher's clock is wrong", v.Created.UTC().Format(time.RFC3339))
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		return refuse(ReasonExpired, "the release expired at %s: publish again, or `npcnix release renew`", v.Expires.UTC().Format(time.RFC3339))
	}

	return nil
}
