package release

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentPrefix begins the name of a key that ssh-agent holds.
const agentPrefix = "agent:"

// OpenKey returns the key to sign releases with: the OpenSSH private key in a file; as "agent:SHA256:…",
// the key with that fingerprint that ssh-agent holds (SSH_AUTH_SOCK); or, as "awskms:ARN", the key in AWS
// KMS, which signs while ctx lasts. Close ends what it holds open.
func OpenKey(ctx context.Context, name string) (key ssh.Signer, closeKey func() error, err error) {
	closeKey = func() error { return nil }
	if fingerprint, inAgent := strings.CutPrefix(name, agentPrefix); inAgent {
		key, closeKey, err = agentKey(fingerprint)
	} else if arn, inKMS := strings.CutPrefix(name, kmsPrefix); inKMS {
		key, err = openKMS(ctx, arn)
	} else {
		key, err = fileKey(name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("signing key %s: %w", name, err)
	}

	if !slices.Contains(keyTypes, key.PublicKey().Type()) {
		_ = closeKey() // the error below matters more
		return nil, nil, fmt.Errorf("signing key %s is of type %s: hosts accept %s; make one with `ssh-keygen -t ed25519`",
			name, key.PublicKey().Type(), strings.Join(keyTypes, ", "))
	}

	return key, closeKey, nil
}

func fileKey(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	key, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, errors.New("it is protected by a passphrase: add it to ssh-agent with `ssh-add`, and name it as agent:FINGERPRINT (`ssh-keygen -lf FILE` prints that)")
	case err != nil:
		return nil, fmt.Errorf("it is no OpenSSH private key: %w", err)
	}

	return key, nil
}

func agentKey(fingerprint string) (ssh.Signer, func() error, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, nil, errors.New("SSH_AUTH_SOCK is not set: start ssh-agent and add the key with `ssh-add`")
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, nil, fmt.Errorf("ssh-agent does not answer: %w", err)
	}

	keys, err := agent.NewClient(conn).Signers()
	if err == nil {
		for _, key := range keys {
			if ssh.FingerprintSHA256(key.PublicKey()) == fingerprint {
				return key, conn.Close, nil
			}
		}
		err = errors.New("ssh-agent holds no such key: see `ssh-add -l`")
	}

	return nil, nil, errors.Join(err, conn.Close())
}
