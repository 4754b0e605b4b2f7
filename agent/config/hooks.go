package config

import "github.com/npcnix/npcnix/nix/jsonfile"

// Hooks are the operator's commands, a program and its arguments each, that run around an
// activation: once for an attempt. A hook after it that was interrupted runs again, with the same
// NPCNIX_ACTIVATION_ID.
type Hooks struct {
	// PreActivate vetoes the activation by ending with another status than 0. The attempt has failed
	// then, and is repeated as others are. If the hook is interrupted the attempt ends with it, and
	// the next attempt has another id.
	PreActivate []string `json:"pre_activate,omitempty"`
	// PostActivate runs when the new system was committed.
	PostActivate []string `json:"post_activate,omitempty"`
	// OnFailure runs when an attempt failed: in building, by a veto, or rolled back.
	OnFailure []string `json:"on_failure,omitempty"`

	// PassCredentials lets hooks have the agent's AWS credentials in their environment.
	PassCredentials bool `json:"pass_credentials,omitempty"`

	rest jsonfile.Unknown
}

func (h *Hooks) UnmarshalJSON(data []byte) error {
	type plain Hooks
	var p plain
	rest, err := jsonfile.Decode(data, &p)
	*h = Hooks(p)
	if len(rest) > 0 {
		h.rest = rest
	}
	return err
}

func (h Hooks) MarshalJSON() ([]byte, error) {
	type plain Hooks
	return jsonfile.Encode(plain(h), h.rest)
}

// IsZero reports whether there is nothing to write.
func (h Hooks) IsZero() bool {
	return len(h.PreActivate)+len(h.PostActivate)+len(h.OnFailure)+len(h.rest) == 0 && !h.PassCredentials
}
