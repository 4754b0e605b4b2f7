package release

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Signers are the public keys of publishers that a host trusts.
type Signers []ssh.PublicKey

// keyTypes are those that signatures are accepted from. Signatures by a security key count only with a
// person's presence: see verifySignature.
var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256}

// ParseSigners reads public keys, one a line of exactly "[principal] type key [comment]". Empty lines
// and lines that begin with # are passed over. Options, as OpenSSH's allowed_signers has them, are an
// error: this package would not heed them.
func ParseSigners(text string) (Signers, error) {
	var keys Signers
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		keys = append(keys, key)
	}

	return keys, nil
}

func parseSigner(line string) (ssh.PublicKey, error) {
	words := strings.Fields(line)
	at := slices.IndexFunc(words, isKeyType)
	switch {
	case at < 0:
		return nil, fmt.Errorf("no key of a type that is accepted (%s)", strings.Join(keyTypes, ", "))
	case at > 1 || at == 1 && strings.ContainsAny(words[0], `="`) || at == 1 && words[0] == "cert-authority":
		return nil, fmt.Errorf("%q is an option: only `[principal] type key [comment]` is read, remove the option", words[at-1])
	case at+1 == len(words):
		return nil, fmt.Errorf("the key itself is missing after %q", words[at])
	}

	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(words[at] + " " + words[at+1]))
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %w", err)
	}
	if !slices.Contains(keyTypes, key.Type()) {
		return nil, fmt.Errorf("the key is of type %s: accepted are %s", key.Type(), strings.Join(keyTypes, ", "))
	}

	return key, nil
}

// isKeyType reports whether a word names a type of key that OpenSSH knows, accepted or not.
func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-sha2-") || strings.HasPrefix(word, "sk-")
}

// Fingerprints returns the keys' fingerprints as `ssh-keygen -l` prints them, sorted.
func (s Signers) Fingerprints() []string {
	var all []string
	for _, key := range s {
		all = append(all, ssh.FingerprintSHA256(key))
	}
	slices.Sort(all)

	return slices.Compact(all)
}
