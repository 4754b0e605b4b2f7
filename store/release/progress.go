package release

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// Rollout is the state of a rollout.
type Rollout string

const (
	Running  Rollout = "running"
	Paused   Rollout = "paused"   // by an operator
	Halted   Rollout = "halted"   // a wave failed
	Complete Rollout = "complete" // all hosts are admitted
	Reverted Rollout = "reverted" // all hosts take the base
)

// Rollouts are all states.
var Rollouts = []Rollout{Running, Paused, Halted, Complete, Reverted}

// Progress says how far a release's plan has come. It is signed apart from the manifest, as the exact bytes
// that [Progress.Encode] gave.
type Progress struct {
	Release string `json:"release"` // that it is for, as the serial
	Serial  int64  `json:"serial"`
	Step    int64  `json:"step"` // from 1; grows with each change
	// Admitted is how many waves are: the first ones.
	Admitted int     `json:"admitted"`
	State    Rollout `json:"state"`
}

// Admitting reports whether a host of the admitted waves can take the release. While the rollout stands still,
// only those keep it that run it.
func (p *Progress) Admitting() bool { return p.State == Running || p.State == Complete }

// Encode checks the members against the plan, and returns the bytes to sign.
func (p *Progress) Encode(m *Manifest) ([]byte, error) {
	if err := p.validate(m); err != nil {
		return nil, err
	}

	return json.Marshal(p, json.Deterministic(true))
}

// ParseProgress reads a progress of the manifest's plan as strictly as [Parse]. Call it on bytes that are
// trusted: see [Policy.VerifyProgress].
func ParseProgress(data []byte, m *Manifest) (*Progress, error) {
	var p Progress
	if err := json.Unmarshal(data, &p, json.RejectUnknownMembers(true)); err != nil {
		return nil, refuse(ReasonProgress, "the rollout's progress is malformed: %v", err)
	}

	return &p, p.validate(m)
}

func (p *Progress) validate(m *Manifest) error {
	switch {
	case m.Rollout == nil:
		return refuse(ReasonProgress, "the release has a rollout's progress and no plan")
	case p.Release != m.Release || p.Serial != m.Serial:
		return refuse(ReasonProgress, "the rollout's progress is for release %s with serial %d, and this is %s with serial %d",
			short(p.Release), p.Serial, short(m.Release), m.Serial)
	case p.Step < 1:
		return refuse(ReasonProgress, "the rollout's progress has step %d", p.Step)
	case p.Admitted < 0 || p.Admitted > len(m.Rollout.Waves):
		return refuse(ReasonProgress, "the rollout's progress admits %d waves, and the plan has %d", p.Admitted, len(m.Rollout.Waves))
	case !slices.Contains(Rollouts, p.State):
		return refuse(ReasonProgress, "the rollout's state is %q: this npcnix does not know it", p.State)
	case p.State == Complete && p.Admitted != len(m.Rollout.Waves):
		return refuse(ReasonProgress, "the rollout is complete, but admits %d of %d waves", p.Admitted, len(m.Rollout.Waves))
	case p.State == Reverted && m.Rollout.Base == nil:
		return refuse(ReasonProgress, "the rollout is reverted, and its plan has no base")
	}

	return nil
}

// VerifiedProgress is a progress that a trusted key has signed.
type VerifiedProgress struct {
	*Progress
	Digest string   // lower-case hex SHA-256 of its bytes
	Keys   []string // fingerprints of the trusted keys that signed it
}

// VerifyProgress checks who signed the progress of v, which came in frame, and only then parses it. It needs one
// of the policy's rollout signers, or without these one of its signers. The result is nil, without an error, for
// a release without a plan. Every error is a [*Refused].
func (p Policy) VerifyProgress(frame *Frame, v *Verified) (*VerifiedProgress, error) {
	switch {
	case v.Rollout == nil && len(frame.Progress) == 0:
		return nil, nil
	case len(frame.Progress) == 0:
		return nil, refuse(ReasonProgress, "the release has a plan of waves and no progress, so no host can take it: run `npcnix rollout resume`")
	}

	trusted := p.RolloutSigners
	if len(trusted) == 0 {
		trusted = p.Signers
	}
	keys, faults := signedBy(frame.Progress, frame.ProgressSignatures, trusted, RolloutNamespace)
	if len(trusted) > 0 && len(keys) == 0 {
		why := "it has no signature"
		if faults != nil {
			why = strings.ReplaceAll(faults.Error(), "\n", "; ")
		}
		return nil, refuse(ReasonProgress, "no trusted key has signed the rollout's progress: %s", why)
	}

	progress, err := ParseProgress(frame.Progress, v.Manifest)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(frame.Progress)

	return &VerifiedProgress{progress, hex.EncodeToString(sum[:]), keys}, nil
}

// CheckProgress tells whether p may be followed after the last accepted progress: of one publish, no older step is
// accepted again. An error is a [*Refused].
func CheckProgress(p *VerifiedProgress, last Accepted) error {
	switch {
	case p.Serial != last.Serial:
		return nil
	case p.Step < last.Step:
		return refuse(ReasonProgress, "the rollout is at step %d, and this host has accepted step %d: an older wave's object was put back", p.Step, last.Step)
	case p.Step == last.Step && p.Digest != last.Progress:
		return refuse(ReasonProgress, "another step %d of the rollout was accepted before: run `npcnix rollout resume`", p.Step)
	}

	return nil
}
