package release

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const (
	// Namespace is what signatures of manifests are made for: `ssh-keygen -Y sign -n npcnix-release`.
	Namespace = "npcnix-release"
	// RolloutNamespace is what signatures of a rollout's progress are made for.
	RolloutNamespace = "npcnix-rollout"

	userPresent = 0x01 // in the flags of a security key's signature (OpenSSH, PROTOCOL.u2f)
)

// ErrSign is in the errors of keys that do not sign.
var ErrSign = errors.New("sign")

// Sign returns key's armoured SSHSIG of message.
func Sign(message []byte, key ssh.Signer, namespace string) (string, error) {
	signature, err := sshsig.Sign(bytes.NewReader(message), key, sshsig.HashSHA512, namespace)
	if err != nil {
		return "", fmt.Errorf("%w with %s: %w", ErrSign, ssh.FingerprintSHA256(key.PublicKey()), err)
	}

	return string(sshsig.Armor(signature)), nil
}

// signedBy returns the fingerprints of the distinct trusted keys that signed message, and what was wrong
// with the signatures that do not count.
func signedBy(message []byte, armoured []string, trusted Signers, namespace string) (keys []string, faults error) {
	valid := map[string]bool{}
	for _, text := range armoured {
		key, err := verifySignature(message, text, trusted, namespace)
		if err != nil {
			faults = errors.Join(faults, err)
			continue
		}
		fingerprint := ssh.FingerprintSHA256(key)
		if valid[fingerprint] {
			faults = errors.Join(faults, fmt.Errorf("signed twice by %s, which counts once", fingerprint))
			continue
		}
		valid[fingerprint] = true
		keys = append(keys, fingerprint)
	}

	return keys, faults
}

func verifySignature(message []byte, armoured string, trusted Signers, namespace string) (ssh.PublicKey, error) {
	signature, err := sshsig.Unarmor([]byte(armoured))
	if err != nil {
		return nil, fmt.Errorf("a signature cannot be read: %w", err)
	}

	key, fingerprint := signature.PublicKey, ssh.FingerprintSHA256(signature.PublicKey)
	if !slices.Contains(keyTypes, key.Type()) {
		return nil, fmt.Errorf("signed by %s, a key of the type %s that no host accepts", fingerprint, key.Type())
	}
	if !trusted.has(key) {
		return nil, fmt.Errorf("signed by %s, which is none of this host's signers", fingerprint)
	}
	if signature.Namespace != namespace {
		return nil, fmt.Errorf("signed by %s for the namespace %q, not %q", fingerprint, signature.Namespace, namespace)
	}
	// Neither the library nor ssh-keygen refuses a signature that was made without a touch.
	if rest := signature.Signature.Rest; key.Type() == ssh.KeyAlgoSKED25519 && (len(rest) == 0 || rest[0]&userPresent == 0) {
		return nil, fmt.Errorf("signed by the security key %s without a person's presence", fingerprint)
	}
	if err := sshsig.Verify(bytes.NewReader(message), signature, key, signature.HashAlgorithm, namespace); err != nil {
		return nil, fmt.Errorf("the signature by %s is not one of these bytes: %w", fingerprint, err)
	}

	return key, nil
}

func (s Signers) has(key ssh.PublicKey) bool {
	for _, k := range s {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			return true
		}
	}

	return false
}
