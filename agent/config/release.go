package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/npcnix/npcnix/store/release"
)

// When a host evaluates a flake.
const (
	EvaluateFallback = "fallback" // only a configuration that the release has not prebuilt
	EvaluateRescue   = "rescue"   // that too, and one that the caches have not given for the time of all retries
	EvaluateNever    = "never"
	EvaluateAlways   = "always"
)

// EvaluationMode is the setting in force.
func (c Config) EvaluationMode() string {
	if c.Evaluation != "" {
		return c.Evaluation
	}
	return must("evaluation").Default.(string)
}

// Policy is what this host demands of the releases of a remote, which is named as bucket/key.
func (c Config) Policy(remote string) release.Policy {
	return release.Policy{
		Remote: remote, Signers: keysOf(c.Signers), Required: int(c.integer("signers_required")), RolloutSigners: keysOf(c.RolloutSigners),
	}
}

// keysOf reads keys that Validate has found readable.
func keysOf(lines []string) release.Signers {
	keys, _ := release.ParseSigners(strings.Join(lines, "\n"))
	return keys
}

func (c Config) checkSigners() error {
	for name, lines := range map[string][]string{"signers": c.Signers, "rollout_signers": c.RolloutSigners} {
		for i, line := range lines {
			keys, err := release.ParseSigners(line)
			if err == nil && (len(keys) != 1 || strings.Contains(line, "\n")) {
				err = fmt.Errorf("%q: want one key", line)
			}
			if err != nil {
				return fmt.Errorf("%s[%d]: %w", name, i, err)
			}
		}
	}
	if len(c.RolloutSigners) > 0 && len(c.Signers) == 0 {
		return errors.New("rollout_signers is set, but signers is not: whoever can write the store could leave the plan out; set signers, or first rollout_signers to []")
	}
	distinct := len(c.Policy("").Signers.Fingerprints())
	if required := c.integer("signers_required"); distinct > 0 && int(required) > distinct {
		return fmt.Errorf("signers_required is %d, but there are only %d distinct signers: no release could be accepted", required, distinct)
	}
	return nil
}
