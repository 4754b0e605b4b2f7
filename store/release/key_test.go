package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestOpenKey(t *testing.T) {
	dir := t.TempDir()
	keygen := func(name, kind, passphrase string) (file, fingerprint string) {
		file = filepath.Join(dir, name)
		run(t, nil, "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", file)
		return file, strings.Fields(string(run(t, nil, "ssh-keygen", "-lf", file)))[1]
	}
	plain, fingerprint := keygen("plain", "ed25519", "")
	locked, _ := keygen("locked", "ed25519", "secret")
	rsaFile, _ := keygen("rsa", "rsa", "")

	t.Run("from a file", func(t *testing.T) {
		key, closeKey, err := OpenKey(t.Context(), plain)
		if err != nil {
			t.Fatal(err)
		}
		defer closeKey()
		if got := ssh.FingerprintSHA256(key.PublicKey()); got != fingerprint {
			t.Errorf("%s, want %s", got, fingerprint)
		}
	})

	t.Run("from ssh-agent", func(t *testing.T) {
		socket := filepath.Join(dir, "socket")
		agent := exec.Command("ssh-agent", "-D", "-a", socket)
		out, err := agent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
		if _, err := out.Read(make([]byte, 1)); err != nil { // it has its socket when it speaks
			t.Fatal(err)
		}
		t.Setenv("SSH_AUTH_SOCK", socket)
		run(t, nil, "ssh-add", "-q", plain)

		key, closeKey, err := OpenKey(t.Context(), "agent:"+fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		defer closeKey()
		data := manifestBytes(t)
		object := object(t, frameOf(t, data, key))
		if _, err := read(Policy{Remote: remote, Signers: Signers{key.PublicKey()}}, Accepted{}, object); err != nil {
			t.Error(err)
		}
		if _, _, err := OpenKey(t.Context(), "agent:SHA256:other"); err == nil || !strings.Contains(err.Error(), "no such key") {
			t.Errorf("another key: %v", err)
		}
	})

	t.Setenv("SSH_AUTH_SOCK", "")
	notAKey := filepath.Join(dir, "not-a-key")
	if err := os.WriteFile(notAKey, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{
		locked:                       "ssh-add",
		rsaFile:                      "ssh-keygen -t ed25519",
		notAKey:                      "no OpenSSH private key",
		filepath.Join(dir, "absent"): "no such file",
		"agent:SHA256:x":             "SSH_AUTH_SOCK",
	} {
		if _, _, err := OpenKey(t.Context(), name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
}
