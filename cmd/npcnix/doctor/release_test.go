package doctor_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/store/release"
)

// A release that was valid for four hours.
func TestReleaseExpires(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	for name, c := range map[string]struct {
		created time.Time
		verdict doctor.Verdict
		says    string
	}{
		"with time left":            {now.Add(-2 * time.Hour), doctor.OK, "it expires in"},
		"with under a quarter left": {now.Add(-3*time.Hour - 15*time.Minute), doctor.Warning, "it expires in"},
		"already":                   {now.Add(-5 * time.Hour), doctor.Wrong, "expired at"},
	} {
		t.Run(name, func(t *testing.T) {
			f := signedBy(t, c.created, c.created.Add(4*time.Hour))
			if f.Verdict != c.verdict || !strings.Contains(f.Found, c.says) || f.Verdict != doctor.OK && !strings.Contains(f.Fix, "npcnix release renew") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// signedBy is what the doctor finds of a release on a host that trusts its key.
func signedBy(t *testing.T, created, expires time.Time) (found doctor.Finding) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, secret, err := ed25519.GenerateKey(nil)
	must(err)
	key, err := ssh.NewSignerFromKey(secret)
	must(err)
	object, packed := filepath.Join(t.TempDir(), "dev.npcnix"), []byte("a packed flake")
	archive, err := release.HashArchive(bytes.NewReader(packed))
	must(err)
	m := release.Manifest{Remote: object, Serial: created.UnixMilli(), Created: created, Expires: expires, Archive: archive}
	data, err := m.Encode()
	must(err)
	signature, err := release.Sign(data, key, release.Namespace)
	must(err)
	frame, err := (&release.Frame{Manifest: data, Signatures: []string{signature}}).Encode()
	must(err)
	must(os.WriteFile(object, append(packed, frame...), 0o644))

	host := &doctor.Host{Dir: config.Dir(t.TempDir()), Config: config.Config{Signers: []string{string(ssh.MarshalAuthorizedKey(key.PublicKey()))}}}
	must(doctor.Run(t.Context(), doctor.Options{Remote: "file://" + object, Host: host}, func(f doctor.Finding) {
		if f.Link == "release" {
			found = f
		}
	}))
	return found
}
