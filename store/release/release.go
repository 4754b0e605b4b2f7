// Package release says what a published object is, and who vouches for it.
//
// An object is a packed flake, optionally followed by a [Frame]: a zstd skippable frame (RFC 8878,
// section 3.1.2) that every reader of zstd passes over. The frame carries a [Manifest], the exact bytes
// that publishers signed, and their signatures. A packed flake without a frame is an unsigned release
// that names no systems.
//
// The package promises that nothing of a manifest is parsed before enough trusted keys have signed it
// ([Policy.Verify]), that JSON has one meaning (no duplicate members, no names that differ in case, no
// unknown members), and that a release which is older than the last accepted one, or not yet valid, or
// expired, or meant for another remote is refused ([Policy.Check]). It reads no files and no clocks.
package release

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// Schema is the layout of manifests that this package writes and reads.
	Schema = 1
	// KindNixOS is the kind of a system whose toplevel has a switch-to-configuration.
	KindNixOS = "nixos"
)

// Manifest is what a publisher says about a release. It is signed as the exact bytes that [Manifest.Encode]
// gave, and never serialised again.
type Manifest struct {
	Schema int `json:"schema"`
	// Remote is the remote that the release is for: "bucket/key", or a suffix of it that begins at a
	// slash. Empty only where nobody signs.
	Remote string `json:"remote,omitempty"`
	// Release is the release's name: see [Manifest.Digest].
	Release string `json:"release"`
	// Serial grows with each publish to a remote: Unix time in milliseconds, or more.
	Serial  int64     `json:"serial"`
	Created time.Time `json:"created"`
	// Expires ends the time in which a host may begin to activate the release. Zero: never.
	Expires time.Time         `json:"expires,omitzero"`
	Archive Archive           `json:"archive"`
	Systems map[string]System `json:"systems,omitempty"` // by configuration
	// Caches replace those of the host's nix.conf when a host realises one of Systems.
	Caches  []Cache `json:"caches,omitempty"`
	Source  Source  `json:"source,omitzero"`
	Rollout *Plan   `json:"rollout,omitempty"`
}

// Archive names the packed flake that a manifest was signed for: the bytes before the frame.
type Archive struct {
	SHA256 string `json:"sha256"` // lower-case hex
	Size   int64  `json:"size"`   // bytes
}

// System is a configuration that was built before it was published.
type System struct {
	Kind        string `json:"kind"`     // KindNixOS
	Toplevel    string `json:"toplevel"` // store path
	Platform    string `json:"platform"` // as "x86_64-linux"
	ClosureSize int64  `json:"closure_size,omitempty"`
}

// Cache is a binary cache that has a release's systems.
type Cache struct {
	URL  string   `json:"url"`
	Keys []string `json:"keys,omitempty"` // public keys, as in nix.conf
}

// Source is where a release comes from, in words for people.
type Source struct {
	Rev     string `json:"rev,omitempty"`
	URL     string `json:"url,omitempty"`
	Message string `json:"message,omitempty"`
}

// Renew is when a quarter of the release's time is left, from which on it is told of; zero if it never expires.
func (m *Manifest) Renew() time.Time {
	if m.Expires.IsZero() {
		return time.Time{}
	}
	return m.Expires.Add(-m.Expires.Sub(m.Created) / 4)
}

// Digest computes the release's name from what hosts would run: lower-case hex SHA-256 of a line
// "npcnix release 1", a line with the archive's digest, and for each configuration in byte order its
// name, kind, toplevel and platform, each ended by NUL or the last by a line feed. Who publishes it
// again, and when, does not change it.
func (m *Manifest) Digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "npcnix release 1\n%s\n", m.Archive.SHA256)

	for _, name := range slices.Sorted(maps.Keys(m.Systems)) {
		s := m.Systems[name]
		fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\n", name, s.Kind, s.Toplevel, s.Platform)
	}

	return hex.EncodeToString(h.Sum(nil))
}

// Encode fills in schema and release, checks the members, and returns the bytes to sign.
func (m *Manifest) Encode() ([]byte, error) {
	m.Schema, m.Release = Schema, m.Digest()

	if err := m.validate(); err != nil {
		return nil, err
	}

	return json.Marshal(m, json.Deterministic(true))
}

// Parse reads a manifest strictly: duplicate, unknown and differently cased members are errors, as are
// members that contradict each other. Call it on bytes that are trusted: see [Policy.Verify].
func Parse(data []byte) (*Manifest, error) {
	var version struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, refuse(ReasonMalformed, "the manifest is not valid JSON: %v", err)
	}
	if version.Schema != Schema {
		return nil, refuse(ReasonMalformed, "the manifest has schema %d, this npcnix reads schema %d: upgrade npcnix on this host", version.Schema, Schema)
	}

	var m Manifest
	if err := json.Unmarshal(data, &m, json.RejectUnknownMembers(true)); err != nil {
		return nil, refuse(ReasonMalformed, "the manifest is malformed: %v", err)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}

	return &m, nil
}

var (
	hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// Nix' base-32 alphabet and the characters of names (nix manual, "Store Path"). A bound in the expression
	// would take a quarter of a megabyte.
	storePath = regexp.MustCompile(`^/nix/store/[0-9abcdfghijklmnpqrsvwxyz]{32}-[0-9A-Za-z+\-._?=]+$`)
)

const longestStorePath = len("/nix/store/") + 32 + len("-") + 211

func (m *Manifest) validate() error {
	switch {
	case !hexDigest.MatchString(m.Archive.SHA256) || m.Archive.Size < 0:
		return refuse(ReasonMalformed, "the manifest does not name the archive by a SHA-256 digest and a size")
	case m.Serial <= 0 || m.Created.IsZero():
		return refuse(ReasonMalformed, "the manifest has no serial or no time of creation")
	}

	if err := validateSystems(m.Systems); err != nil {
		return err
	}
	if m.Rollout != nil {
		if err := m.Rollout.Validate(); err != nil {
			return refuse(ReasonMalformed, "the manifest's rollout: %v", err)
		}
		if base := m.Rollout.Base; base != nil {
			if err := validateSystems(base.Systems); err != nil {
				return err
			}
		}
	}

	if digest := m.Digest(); m.Release != digest {
		return refuse(ReasonMalformed, "the manifest calls itself release %s, but its members give %s", short(m.Release), short(digest))
	}

	return nil
}

func validateSystems(systems map[string]System) error {
	for name, s := range systems {
		switch {
		case name == "" || strings.ContainsAny(name, "\x00\n"):
			return refuse(ReasonMalformed, "the manifest names a configuration %q", name)
		case s.Kind != KindNixOS:
			return refuse(ReasonMalformed, "configuration %q is of kind %q: this npcnix knows %q", name, s.Kind, KindNixOS)
		case !storePath.MatchString(s.Toplevel) || len(s.Toplevel) > longestStorePath:
			return refuse(ReasonMalformed, "the toplevel of configuration %q is %q, which is no path of the Nix store", name, s.Toplevel)
		case s.Platform == "" || strings.ContainsAny(s.Platform, "\x00\n"):
			return refuse(ReasonMalformed, "configuration %q names no platform", name)
		}
	}

	return nil
}

// HashArchive returns what a manifest says of the archive that r gives.
func HashArchive(r io.Reader) (Archive, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return Archive{}, fmt.Errorf("hash the archive: %w", err)
	}

	return Archive{SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}

// NextSerial is the serial of a publish at now that follows one with the serial last; 0 where there is none. One that
// every host would refuse, as it is ahead of its time, is an error.
func NextSerial(last int64, now time.Time) (int64, error) {
	if last >= now.Add(aheadOfStore).UnixMilli() {
		return 0, fmt.Errorf("the last release has serial %d, more than an hour ahead of this machine's time, and hosts refuse to go so far: set this machine's clock, "+
			"or delete that release from the store if its publisher's clock was wrong", last)
	}

	return max(last+1, now.UnixMilli()), nil
}

func short(digest string) string { return digest[:min(len(digest), 12)] }
