package release

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"path"
	"strconv"
	"strings"
)

const (
	maxWaves   = 64
	maxMembers = 1000 // of a wave
)

// Plan says in which waves hosts take a release. A host takes a release that has a plan only when its
// progress admits the host.
type Plan struct {
	// Waves are lists of patterns of host or configuration names, and of shares of the fleet, such as "web1",
	// "canary-*" and "10%". The last one is all hosts, "100%".
	Waves [][]string `json:"waves"`
	Soak  int64      `json:"soak,omitempty"` // seconds
	// Seed chooses the hosts of shares: with the same seed, the same hosts come first.
	Seed string `json:"seed,omitempty"`
	Base *Base  `json:"base,omitempty"`
}

// Base is the release to go back to. Hosts outside the admitted waves take it if they run none yet.
type Base struct {
	Release string            `json:"release"`
	Systems map[string]System `json:"systems,omitempty"`
}

// Admits reports whether the host is in one of the first waves.
func (p *Plan) Admits(waves int, host, configuration string) bool {
	wave := p.Wave(host, configuration)

	return wave > 0 && wave <= waves
}

// Wave is the number of the first wave, from 1, that the host is in; 0 if it is in none.
func (p *Plan) Wave(host, configuration string) int {
	at := p.place(host)
	for i, wave := range p.Waves {
		for _, member := range wave {
			if share, ok, _ := parseShare(member); ok && at < share || !ok && (matches(member, host) || matches(member, configuration)) {
				return i + 1
			}
		}
	}

	return 0
}

// millionths are the parts that shares are counted in.
const millionths = 1_000_000

// place is where the host stands in the fleet, in millionths: below a share, the share has it.
func (p *Plan) place(host string) uint64 {
	sum := sha256.Sum256([]byte(p.Seed + "\x00" + host))
	place, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), millionths) // divided by 2⁶⁴

	return place
}

func matches(pattern, name string) bool {
	ok, _ := path.Match(pattern, name) // validate has refused what is malformed

	return ok
}

// parseShare reads a share such as "10%" or "0.5%", in millionths; false if the member is no share.
func parseShare(member string) (share uint64, ok bool, err error) {
	number, ok := strings.CutSuffix(member, "%")
	if !ok {
		return 0, false, nil
	}
	whole, fraction, _ := strings.Cut(number, ".")
	const digits = 4 // of a fraction of a per cent
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", max(0, digits-len(fraction))), 10, 32)
	if err != nil || len(fraction) > digits || strings.HasSuffix(number, ".") || n == 0 || n > millionths {
		return 0, true, fmt.Errorf("%q is no share: it must be more than 0%% and at most 100%%, such as 10%% or 0.5%%", member)
	}

	return n, true, nil
}

// Validate returns an error that says what is wrong with the plan.
func (p *Plan) Validate() error {
	if len(p.Waves) == 0 || len(p.Waves) > maxWaves {
		return fmt.Errorf("the plan has %d waves: it must have 1 to %d", len(p.Waves), maxWaves)
	}
	for i, wave := range p.Waves {
		if err := validateWave(wave); err != nil {
			return fmt.Errorf("wave %d: %w", i+1, err)
		}
	}
	if last := p.Waves[len(p.Waves)-1]; len(last) != 1 || last[0] != "100%" {
		return fmt.Errorf("the last wave is %s: it must be 100%%, so that no host is left out", strings.Join(last, ","))
	}
	if p.Soak < 0 {
		return fmt.Errorf("the plan soaks for %d seconds", p.Soak)
	}
	if p.Base != nil && !hexDigest.MatchString(p.Base.Release) {
		return fmt.Errorf("the base is %q, which names no release", p.Base.Release)
	}

	return nil
}

func validateWave(wave []string) error {
	if len(wave) == 0 || len(wave) > maxMembers {
		return fmt.Errorf("it has %d members: it must have 1 to %d", len(wave), maxMembers)
	}
	for _, member := range wave {
		_, share, err := parseShare(member)
		switch {
		case err != nil:
			return err
		case share:
		case member == "":
			return fmt.Errorf("it has an empty name")
		default:
			if _, err := path.Match(member, "host"); err != nil {
				return fmt.Errorf("%q is no pattern: %w", member, err)
			}
		}
	}

	return nil
}
