package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/ssh"
)

const (
	remote   = "fleet/npcnix/remotes/dev.npcnix"
	toplevel = "/nix/store/00000000000000000000000000000000-nixos-system-web1"
)

var (
	now     = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	archive = packed("a packed flake")
)

func packed(text string) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll([]byte(text), nil)
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, private)
}

func signerOf(t *testing.T, private any) ssh.Signer {
	t.Helper()
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func manifest() *Manifest {
	sum, _ := HashArchive(bytes.NewReader(archive))
	return &Manifest{
		Remote: remote, Serial: now.UnixMilli(), Created: now, Expires: now.Add(24 * time.Hour), Archive: sum,
		Systems: map[string]System{"web1": {Kind: KindNixOS, Toplevel: toplevel, Platform: "x86_64-linux", ClosureSize: 1 << 20}},
		Caches:  []Cache{{URL: "s3://cache", Keys: []string{"cache:key"}}},
		Source:  Source{Rev: "abc", Message: "a message"},
	}
}

// signed is the object of m, signed by keys.
func signed(t *testing.T, m *Manifest, keys ...ssh.Signer) []byte {
	t.Helper()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return object(t, frameOf(t, data, keys...))
}

func frameOf(t *testing.T, data []byte, keys ...ssh.Signer) Frame {
	t.Helper()
	f := Frame{Manifest: data}
	for _, key := range keys {
		text, err := Sign(data, key, Namespace)
		if err != nil {
			t.Fatal(err)
		}
		f.Signatures = append(f.Signatures, text)
	}
	return f
}

func object(t *testing.T, f Frame) []byte {
	t.Helper()
	end, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(archive), end...)
}

// read does what a host does with an object.
func read(p Policy, last Accepted, object []byte) (*Verified, error) {
	f, err := ParseFrame(object)
	if err != nil {
		return nil, err
	}
	v, err := p.Verify(f)
	if err != nil || v == nil {
		return v, err
	}
	if err := p.Check(v, last, now); err != nil {
		return nil, err
	}
	size, err := FrameSize(object)
	if err != nil {
		return nil, err
	}
	sum, err := HashArchive(bytes.NewReader(object[:len(object)-size]))
	if err != nil {
		return nil, err
	}
	if sum != v.Archive {
		return v, refuse(ReasonArchive, "the packed flake has SHA-256 %s", sum.SHA256)
	}
	return v, nil
}

func TestASignedReleaseIsReadAsItWasWritten(t *testing.T) {
	key := newKey(t)
	want := manifest()
	v, err := read(Policy{Remote: remote, Signers: Signers{key.PublicKey()}}, Accepted{}, signed(t, want, key))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, v.Manifest); diff != "" {
		t.Error(diff)
	}
	if len(v.Keys) != 1 || v.Keys[0] != ssh.FingerprintSHA256(key.PublicKey()) {
		t.Errorf("signed by %q", v.Keys)
	}
}

func TestReleaseName(t *testing.T) {
	m := manifest()
	name := m.Digest()

	t.Run("does not change with who publishes it, and when", func(t *testing.T) {
		again := manifest()
		again.Serial, again.Created, again.Source.Rev, again.Remote = 5, now.Add(time.Hour), "def", "elsewhere"
		if again.Digest() != name {
			t.Error("it does")
		}
	})
	t.Run("is what other tools compute", func(t *testing.T) {
		script := `printf 'npcnix release 1\n%s\nweb1\0nixos\0%s\0x86_64-linux\n' "$1" "$2" | sha256sum | cut -d' ' -f1`
		out, err := exec.Command("sh", "-c", script, "sh", m.Archive.SHA256, toplevel).Output()
		if err != nil || strings.TrimSpace(string(out)) != name {
			t.Errorf("sha256sum gives %s (%v), want %s", out, err, name)
		}
	})
	for what, change := range map[string]func(*Manifest){
		"archive":       func(m *Manifest) { m.Archive.SHA256 = strings.Repeat("0", 64) },
		"toplevel":      func(m *Manifest) { s := m.Systems["web1"]; s.Toplevel += "x"; m.Systems["web1"] = s },
		"configuration": func(m *Manifest) { m.Systems["web2"] = m.Systems["web1"] },
	} {
		t.Run("changes with the "+what, func(t *testing.T) {
			m := manifest()
			change(m)
			if m.Digest() == name {
				t.Error("it does not")
			}
		})
	}
}

func TestForgeriesAreRefused(t *testing.T) {
	key, second, stranger := newKey(t), newKey(t), newKey(t)
	good := signed(t, manifest(), key)
	policy := Policy{Remote: remote, Signers: Signers{key.PublicKey(), second.PublicKey()}}
	last := Accepted{Serial: manifest().Serial - 10, Digest: "before", Created: now.Add(-time.Hour)}
	encoded := func(change func(*Manifest)) []byte {
		m := manifest()
		change(m)
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	text := func(old, new string) []byte { // of a manifest that a holder of the key wrote by other means
		data := encoded(func(*Manifest) {})
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("no %q in %s", old, data)
		}
		return bytes.Replace(data, []byte(old), []byte(new), 1)
	}
	by := func(data []byte, keys ...ssh.Signer) []byte { return object(t, frameOf(t, data, keys...)) }
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short := bytes.Clone(good)
	binary.LittleEndian.PutUint32(short[len(short)-footerLen:], 3)
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint32(huge[len(huge)-footerLen:], MaxPayload)
	size, _ := FrameSize(good)
	other := append(packed("another flake"), good[len(good)-size:]...)
	doubled := append(bytes.Clone(good), good[len(good)-size:]...)
	otherNamespace, err := Sign(manifestBytes(t), key, "file")
	if err != nil {
		t.Fatal(err)
	}

	told := map[string]string{} // what was refused with a message
	for _, c := range []struct {
		what   string
		object []byte
		reason Reason
		says   string
	}{
		{"no frame", archive, ReasonUnsigned, "not signed"},
		{"frame of another archive", other, ReasonArchive, "packed flake"},
		{"archive with inserted bytes", append([]byte("x"), good...), ReasonArchive, "packed flake"},
		{"bytes after the frame", append(bytes.Clone(good), 'x'), ReasonUnsigned, "not signed"},
		{"truncated", good[:len(good)-1], ReasonFrame, "in the middle of a release's frame"},
		{"truncated in its archive", good[:len(archive)-1], ReasonUnsigned, "not signed"},
		{"two frames", doubled, ReasonFrame, "two frames"},
		{"footer that lies about its length", short, ReasonFrame, "does not begin"},
		{"footer that says more than is allowed", huge, ReasonFrame, "at most"},
		{"footer alone", []byte("\xff\x00\x00\x00" + footer), ReasonFrame, "longer than the object"},
		{"nobody's signature", by(manifestBytes(t)), ReasonSignature, "0 of the 1"},
		{"stranger's key", by(manifestBytes(t), stranger), ReasonSignature, "none of this host's signers"},
		{"other namespace", object(t, Frame{Manifest: manifestBytes(t), Signatures: []string{otherNamespace}}), ReasonSignature, `"file"`},
		{"RSA key", by(manifestBytes(t), signerOf(t, rsaKey)), ReasonSignature, "a key of the type ssh-rsa that no host accepts"},
		{"signature of another manifest", object(t, Frame{Manifest: encoded(func(m *Manifest) { m.Serial++ }), Signatures: frameOf(t, manifestBytes(t), key).Signatures}), ReasonSignature, "not one of these bytes"},
		{"garbage for a signature", object(t, Frame{Manifest: manifestBytes(t), Signatures: []string{"x"}}), ReasonSignature, "cannot be read"},
		{"older serial", by(encoded(func(m *Manifest) { m.Serial = last.Serial - 1 }), key), ReasonSerial, "put back"},
		{"equal serial, other content", by(encoded(func(m *Manifest) { m.Serial = last.Serial }), key), ReasonSerial, "another release"},
		{"serial 2^63-2", by(encoded(func(m *Manifest) { m.Serial = 1<<63 - 2 }), key), ReasonSerial, "ahead"},
		{"created a day ahead", by(encoded(func(m *Manifest) { m.Created = now.Add(24 * time.Hour) }), key), ReasonSerial, "created"},
		{"expired", by(encoded(func(m *Manifest) { m.Expires = now }), key), ReasonExpired, "expired"},
		{"another remote", by(encoded(func(m *Manifest) { m.Remote = "fleet/npcnix/remotes/prod.npcnix" }), key), ReasonRemote, "prod"},
		{"same last element in another bucket", by(encoded(func(m *Manifest) { m.Remote = "staging/npcnix/remotes/dev.npcnix" }), key), ReasonRemote, "staging"},
		{"suffix that begins within a name", by(encoded(func(m *Manifest) { m.Remote = "ev.npcnix" }), key), ReasonRemote, "ev.npcnix"},
		{"no remote", by(encoded(func(m *Manifest) { m.Remote = "" }), key), ReasonRemote, "--for"},
		{"duplicate member", by(text(`"serial":`, `"serial":1,"serial":`), key), ReasonMalformed, "duplicate"},
		{"SERIAL for serial", by(text(`"serial":`, `"SERIAL":`), key), ReasonMalformed, "SERIAL"},
		{"unknown member", by(text(`"serial":`, `"surprise":1,"serial":`), key), ReasonMalformed, "surprise"},
		{"other schema", by(text(`"schema":1`, `"schema":2`), key), ReasonMalformed, "schema 2"},
		{"release that the members do not give", by(text(`"release":"`+manifest().Digest()[:8], `"release":"00000000`), key), ReasonMalformed, "its members give"},
		{"toplevel outside the store", by(text(toplevel, "/tmp/evil"), key), ReasonMalformed, "/tmp/evil"},
		{"text after the manifest", by(append(manifestBytes(t), "{}"...), key), ReasonMalformed, "JSON"},
	} {
		t.Run(c.what, func(t *testing.T) {
			v, err := read(policy, last, c.object)
			var refused *Refused
			if !errors.As(err, &refused) {
				t.Fatalf("accepted: %+v, %v", v, err)
			}
			if refused.Reason != c.reason || !strings.Contains(err.Error(), c.says) {
				t.Errorf("refused as %q: %v\nwant %q, with %q", refused.Reason, err, c.reason, c.says)
			}
			if other, same := told[err.Error()]; same && c.reason != ReasonUnsigned {
				t.Errorf("refused as is %s: %v", other, err)
			}
			told[err.Error()] = c.what
		})
	}

	t.Run("and the good one is accepted after them", func(t *testing.T) {
		if _, err := read(policy, last, good); err != nil {
			t.Error(err)
		}
	})
}

func manifestBytes(t *testing.T) []byte {
	t.Helper()
	data, err := manifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A packed flake that holds a part of a release, such as a fixture of a test, is no release that was cut off.
func TestAFlakeWithAPartOfARelease(t *testing.T) {
	good := signed(t, manifest(), newKey(t))
	for _, part := range [][]byte{good, good[:len(good)-1], good[len(archive) : len(archive)+40]} {
		object := append(append(bytes.Clone(archive), part...), make([]byte, 2*footerLen)...)
		if f, err := ParseFrame(object); f != nil || err != nil {
			t.Errorf("%d bytes: %v, %v", len(part), f, err)
		}
	}
}

func TestTwoKeysAreRequired(t *testing.T) {
	a, b := newKey(t), newKey(t)
	policy := Policy{Remote: remote, Signers: Signers{a.PublicKey(), b.PublicKey()}, Required: 2}

	for what, keys := range map[string][]ssh.Signer{"1 of the 2 keys that are required": {a}, "signed twice by": {a, a}} {
		if v, err := read(policy, Accepted{}, signed(t, manifest(), keys...)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, %v, want %q", v, err, what)
		}
	}
	if v, err := read(policy, Accepted{}, signed(t, manifest(), a, b)); err != nil || len(v.Keys) != 2 {
		t.Errorf("both: %v", err)
	}
}

func TestSecurityKeysNeedAPersonsPresence(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const application = "ssh:"
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(public), application}))
	if err != nil {
		t.Fatal(err)
	}

	for flags, want := range map[byte]bool{0: false, userPresent: true} {
		sk := securityKey{key, private, application, flags}
		_, err := read(Policy{Remote: remote, Signers: Signers{key}}, Accepted{}, signed(t, manifest(), sk))
		if (err == nil) != want {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}

func TestWithoutSignersAllIsAccepted(t *testing.T) {
	policy := Policy{Remote: remote}
	if v, err := read(policy, Accepted{}, archive); v != nil || err != nil {
		t.Errorf("no frame: %v, %v", v, err)
	}
	if v, err := read(policy, Accepted{}, signed(t, manifest())); err != nil || v.Source.Rev != "abc" {
		t.Errorf("unsigned frame: %v", err)
	}
	m := manifest()
	m.Remote = ""
	if _, err := read(policy, Accepted{}, signed(t, m)); err != nil {
		t.Errorf("for no remote: %v", err)
	}
}

func TestClocks(t *testing.T) {
	key := newKey(t)
	policy := Policy{Remote: remote, Signers: Signers{key.PublicKey()}}
	v, err := policy.Verify(mustFrame(t, signed(t, manifest(), key)))
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a clock at 1970 counts as the time of the last release", func(t *testing.T) {
		last := Accepted{Serial: v.Serial - 1, Created: now.Add(-time.Minute)}
		if err := policy.Check(v, last, time.Unix(0, 0)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a new release becomes valid as time passes", func(t *testing.T) {
		if err := policy.Check(v, Accepted{}, now.Add(-2*time.Hour)); err == nil {
			t.Error("accepted two hours early")
		}
		if err := policy.Check(v, Accepted{}, now.Add(-time.Minute)); err != nil {
			t.Error(err)
		}
	})
	t.Run("the same release is accepted again", func(t *testing.T) {
		if err := policy.Check(v, v.Accepted(), now); err != nil {
			t.Error(err)
		}
	})
}

func mustFrame(t *testing.T, object []byte) *Frame {
	t.Helper()
	f, err := ParseFrame(object)
	if err != nil || f == nil {
		t.Fatal(f, err)
	}
	return f
}

func TestNextSerial(t *testing.T) {
	ms := now.UnixMilli()
	for _, c := range []struct {
		name       string
		last, want int64 // want 0: refused
	}{
		{"the first", 0, ms},
		{"after an older one", ms - 5, ms},
		{"in the same millisecond", ms, ms + 1},
		{"after a clock that is a little fast", ms + 1000, ms + 1001},
		{"after one that hosts refuse", now.Add(time.Hour).UnixMilli(), 0},
		{"after the last that there is", math.MaxInt64, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := NextSerial(c.last, now)
			if got != c.want || (err != nil) != (c.want == 0) {
				t.Fatalf("%d, %v, want %d", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "set this machine's clock") {
				t.Error(err)
			}
		})
	}
}

func TestSigners(t *testing.T) {
	key := newKey(t).PublicKey()
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecdsaLine := string(ssh.MarshalAuthorizedKey(signerOf(t, p256).PublicKey()))

	t.Run("key, comment, principal, comments and empty lines", func(t *testing.T) {
		got, err := ParseSigners("# ours\n\n" + line + "\n" + line + " a comment\nrelease@example.org " + line + "\n" + ecdsaLine)
		if err != nil || len(got) != 4 || len(got.Fingerprints()) != 2 {
			t.Errorf("%d keys, %v", len(got), err)
		}
	})
	for text, says := range map[string]string{
		`namespaces="npcnix-release" ` + line: "option",
		"a@b cert-authority " + line:          "option",
		"cert-authority " + line:              "option",
		`valid-before="20300101" ` + line:     "option",
		"hello":                               "no key",
		"ssh-ed25519":                         "missing",
		"ssh-ed25519 AAAA":                    "cannot be read",
		"ok@example.org " + line + "\nssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQDa": "line 2",
	} {
		if _, err := ParseSigners(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func TestSSHKeygen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	run(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
	private, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	data := manifestBytes(t)

	t.Run("verifies what is signed here", func(t *testing.T) {
		signature, err := Sign(data, key, Namespace)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "sig"), signature)
		write(t, filepath.Join(dir, "allowed"), "ci "+string(ssh.MarshalAuthorizedKey(key.PublicKey())))
		run(t, data, "ssh-keygen", "-Y", "verify", "-f", filepath.Join(dir, "allowed"), "-I", "ci", "-n", Namespace, "-s", filepath.Join(dir, "sig"))
	})
	t.Run("signs what is verified here", func(t *testing.T) {
		armoured := run(t, data, "ssh-keygen", "-Y", "sign", "-q", "-f", file, "-n", Namespace)
		policy := Policy{Remote: remote, Signers: Signers{key.PublicKey()}}
		if _, err := read(policy, Accepted{}, object(t, Frame{Manifest: data, Signatures: []string{string(armoured)}})); err != nil {
			t.Error(err)
		}
	})
}

func TestOtherReadersOfZstdPassOverTheFrame(t *testing.T) {
	out := run(t, signed(t, manifest(), newKey(t)), "zstd", "-d")
	if string(out) != "a packed flake" {
		t.Errorf("zstd -d gives %q", out)
	}
}

func FuzzParse(f *testing.F) {
	data, err := manifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.ReplaceAll(data, []byte("serial"), []byte("SERIAL")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("parsed, but cannot be encoded: %v", err)
		}
		if m2, err := Parse(again); err != nil || m2.Digest() != m.Release {
			t.Fatalf("not the same when read again: %v", err)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	end, err := Frame{Manifest: []byte("{}"), Signatures: []string{"x"}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(bytes.Clone(archive), end...))
	f.Add(append(bytes.Clone(end), end...))
	f.Add([]byte(footer))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseFrame(data)
		size, sizeErr := FrameSize(data)
		switch {
		case err != nil:
		case got == nil && (size != 0 || sizeErr != nil):
			t.Fatalf("no frame, and yet a size of %d (%v)", size, sizeErr)
		case got != nil && (size <= headerLen+footerLen || size > len(data) || len(got.Manifest) == 0):
			t.Fatalf("a frame of %d bytes in %d: %+v", size, len(data), got)
		}
	})
}

// securityKey signs as a FIDO key does (OpenSSH, PROTOCOL.u2f).
type securityKey struct {
	public      ssh.PublicKey
	private     ed25519.PrivateKey
	application string
	flags       byte
}

func (k securityKey) PublicKey() ssh.PublicKey { return k.public }

func run(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr.Bytes())
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadAsksOnceAndAgainForALargeFrame(t *testing.T) {
	key := newKey(t)
	for systems, want := range map[int]int{1: 1, 600: 2} {
		m := manifest()
		for i := range systems {
			m.Systems[fmt.Sprintf("host%d", i)] = m.Systems["web1"]
		}
		data := signed(t, m, key)
		asked := 0
		f, err := Read(func(n int64) ([]byte, error) {
			asked++
			return data[max(0, int64(len(data))-n):], nil
		})
		if err != nil || f == nil {
			t.Fatalf("%d systems: %v", systems, err)
		}
		if v, err := (Policy{Remote: remote, Signers: Signers{key.PublicKey()}}).Verify(f); err != nil || len(v.Systems) != systems+1 || asked != want {
			t.Errorf("%d systems: asked %d times, want %d; %v", systems, asked, want, err)
		}
	}
}
