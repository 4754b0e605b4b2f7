package integration

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/store/release"
)

// forger makes objects that a host must refuse, and the good ones between them.
type forger struct {
	t               testing.TB
	key, second     ssh.Signer // trusted
	touch           ssh.Signer // trusted, a security key that nobody touches
	stranger, rsa   ssh.Signer // trusted by nobody
	archive, evil   []byte     // packed flakes: the next version, and the attacker's
	serial          int64      // of the last manifest
	before, current []byte     // the last two good manifests
}

func newForger(t testing.TB, archive, evil []byte) *forger {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &forger{
		t: t, key: newSSHKey(t), second: newSSHKey(t), touch: newSecurityKey(t), stranger: newSSHKey(t), rsa: sshSigner(t, rsaKey),
		archive: archive, evil: evil,
	}
}

// signers are the lines of the keys that hosts trust.
func (f *forger) signers() (lines []string) {
	for _, k := range []ssh.Signer{f.key, f.second, f.touch} {
		lines = append(lines, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))))
	}
	return lines
}

// manifest is one of the next version, later than all before, with a change.
func (f *forger) manifest(change func(*release.Manifest)) []byte {
	f.t.Helper()
	sum, _ := release.HashArchive(bytes.NewReader(f.archive))
	f.serial = max(f.serial+1, time.Now().UnixMilli())
	m := &release.Manifest{Remote: bucket + "/" + key, Serial: f.serial, Created: time.Now().UTC().Truncate(time.Second), Archive: sum}
	change(m)
	data, err := m.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	return data
}

// plain is a manifest that is as it should be.
func (f *forger) plain() []byte { return f.manifest(func(*release.Manifest) {}) }

// text is a manifest by other means, in which a text is replaced.
func (f *forger) text(old, new string) []byte {
	f.t.Helper()
	data := f.plain()
	if !bytes.Contains(data, []byte(old)) {
		f.t.Fatalf("no %q in %s", old, data)
	}
	return bytes.Replace(data, []byte(old), []byte(new), 1)
}

// frame is that of the manifest, signed by the keys.
func (f *forger) frame(manifest []byte, keys ...ssh.Signer) []byte {
	f.t.Helper()
	return f.frameFor(release.Namespace, manifest, keys...)
}

func (f *forger) frameFor(namespace string, manifest []byte, keys ...ssh.Signer) []byte {
	f.t.Helper()
	frame := release.Frame{Manifest: manifest}
	for _, k := range keys {
		signature, err := release.Sign(manifest, k, namespace)
		if err != nil {
			f.t.Fatal(err)
		}
		frame.Signatures = append(frame.Signatures, signature)
	}
	data, err := frame.Encode()
	if err != nil {
		f.t.Fatal(err)
	}
	return data
}

// by is the next version's packed flake with the manifest, signed by the keys.
func (f *forger) by(manifest []byte, keys ...ssh.Signer) []byte {
	return append(bytes.Clone(f.archive), f.frame(manifest, keys...)...)
}

// forgery is an object that a host refuses, and what it says.
type forgery struct {
	what     string
	object   func() []byte // made when its turn comes, since serials grow
	says     string
	required int // how many signers the host requires; 0: one
}

// forgeries are all that an attacker with the bucket can try, and what a holder of the key can sign by mistake or
// with other tools.
func (f *forger) forgeries() []forgery {
	return append(f.frames(), append(f.signatures(), f.manifests()...)...)
}

// frames are those whose end is not one frame of this archive.
func (f *forger) frames() []forgery {
	footer := func(change func(footer []byte)) []byte {
		object := f.by(f.plain(), f.key)
		change(object[len(object)-release.FooterLen:])
		return object
	}
	return []forgery{
		{what: "no frame", object: func() []byte { return f.evil }, says: "the object is not signed"},
		{what: "the frame of another archive", object: func() []byte { return append(bytes.Clone(f.evil), f.frame(f.plain(), f.key)...) }, says: "the packed flake is not the one that was signed"},
		{what: "an archive with appended bytes", object: func() []byte {
			return append(append(bytes.Clone(f.archive), f.evil...), f.frame(f.plain(), f.key)...)
		}, says: "bytes that nobody signed follow the packed flake"},
		{what: "truncated", object: func() []byte { o := f.by(f.plain(), f.key); return o[:len(o)-1] }, says: "in the middle of a release's frame"},
		{what: "two frames", object: func() []byte { o := f.by(f.plain(), f.key); return append(o, f.frame(f.plain(), f.key)...) }, says: "the object ends in two frames"},
		{what: "a frame over 4 MiB", object: func() []byte {
			text := append([]byte(`{"manifest":"`), bytes.Repeat([]byte("A"), release.MaxPayload)...)
			o := binary.LittleEndian.AppendUint32(bytes.Clone(f.archive), 0x184D2A5B)
			o = binary.LittleEndian.AppendUint32(o, uint32(len(text)+release.FooterLen))
			return append(binary.LittleEndian.AppendUint32(append(o, text...), uint32(len(text))), "NPCNIX01"...)
		}, says: "at most 4194292 are allowed"},
		{what: "a footer that lies about its length", object: func() []byte {
			return footer(func(end []byte) { binary.LittleEndian.PutUint32(end, 3) })
		}, says: "the frame does not begin where its end says"},
		{what: "a footer longer than the object", object: func() []byte {
			return footer(func(end []byte) { binary.LittleEndian.PutUint32(end, 1<<20) })
		}, says: "longer than the object"},
	}
}

// signatures are those that too few trusted keys have signed.
func (f *forger) signatures() []forgery {
	return []forgery{
		{what: "a stranger's key", object: func() []byte { return f.by(f.plain(), f.stranger) }, says: ssh.FingerprintSHA256(f.stranger.PublicKey()) + ", which is none of this host's signers"},
		{what: "the right key, another namespace", object: func() []byte {
			return append(bytes.Clone(f.archive), f.frameFor("file", f.plain(), f.key)...)
		}, says: `for the namespace "file"`},
		{what: "an RSA key", object: func() []byte { return f.by(f.plain(), f.rsa) }, says: ssh.FingerprintSHA256(f.rsa.PublicKey()) + ", a key of the type ssh-rsa"},
		{what: "a security key that nobody touched", object: func() []byte { return f.by(f.plain(), f.touch) }, says: "without a person's presence"},
		{what: "the signature of another manifest", object: func() []byte {
			var frame release.Frame
			signed := f.frame(f.plain(), f.key)
			if err := json.Unmarshal(signed[8:len(signed)-release.FooterLen], &frame); err != nil {
				f.t.Fatal(err)
			}
			frame.Manifest = f.plain()
			data, err := frame.Encode()
			if err != nil {
				f.t.Fatal(err)
			}
			return append(bytes.Clone(f.archive), data...)
		}, says: "is not one of these bytes"},
		{what: "one of two required", object: func() []byte { return f.by(f.plain(), f.key) }, says: "signed by 1 of the 2 keys", required: 2},
		{what: "the same key twice", object: func() []byte { return f.by(f.plain(), f.second, f.second) }, says: "which counts once", required: 2},
	}
}

// manifests are those that a trusted key has signed, and that hosts refuse all the same.
func (f *forger) manifests() []forgery {
	changed := func(change func(*release.Manifest)) func() []byte {
		return func() []byte { return f.by(f.manifest(change), f.key) }
	}
	last := func() (m release.Manifest) { // that the host has accepted
		if err := json.Unmarshal(f.current, &m); err != nil {
			f.t.Fatal(err)
		}
		return m
	}
	const toplevel = "/nix/store/00000000000000000000000000000000-nixos-system-web1"
	return []forgery{
		{what: "an older serial", object: func() []byte { return f.by(f.before, f.key) }, says: "an older release was put back"},
		{what: "an equal serial, other content", object: changed(func(m *release.Manifest) { m.Serial = last().Serial }), says: "was accepted before: publish again"},
		{what: "serial 2^63-2", object: changed(func(m *release.Manifest) { m.Serial = 1<<63 - 2 }), says: "serial 9223372036854775806 is more than an hour ahead"},
		{what: "another remote's name", object: changed(func(m *release.Manifest) { m.Remote = bucket + "/npcnix/remotes/prod.npcnix" }), says: `is for the remote "fleet/npcnix/remotes/prod.npcnix"`},
		{what: "the same last element in another bucket", object: changed(func(m *release.Manifest) { m.Remote = "staging/" + key }), says: `is for the remote "staging/npcnix/remotes/dev.npcnix"`},
		{what: "no remote", object: changed(func(m *release.Manifest) { m.Remote = "" }), says: "does not say which remote it is for"},
		{what: "created a day ahead", object: changed(func(m *release.Manifest) { m.Created = m.Created.Add(24 * time.Hour) }), says: "more than an hour ahead of the store's time"},
		{what: "expired", object: changed(func(m *release.Manifest) { m.Expires = m.Created.Add(-time.Hour) }), says: "the release expired at"},
		{what: "duplicate members", object: func() []byte { return f.by(f.text(`"serial":`, `"serial":1,"serial":`), f.key) }, says: "duplicate"},
		{what: "SERIAL for serial", object: func() []byte { return f.by(f.text(`"serial":`, `"SERIAL":`), f.key) }, says: "SERIAL"},
		{what: "a release that is not what the members give", object: func() []byte {
			return f.by(f.text(`"release":"`, `"release":"0000`), f.key)
		}, says: "its members give"},
		{what: "a toplevel outside the store", object: func() []byte {
			data := f.manifest(func(m *release.Manifest) {
				m.Systems = map[string]release.System{"web1": {Kind: release.KindNixOS, Toplevel: toplevel, Platform: "x86_64-linux"}}
			})
			return f.by(bytes.Replace(data, []byte(toplevel), []byte("/tmp/evil"), 1), f.key)
		}, says: `"/tmp/evil", which is no path of the Nix store`},
	}
}

func newSSHKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshSigner(t, private)
}

func sshSigner(t testing.TB, private any) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// securityKey signs as a FIDO key does that nobody touches (OpenSSH, PROTOCOL.u2f).
type securityKey struct {
	public  ssh.PublicKey
	private ed25519.PrivateKey
}

const application = "ssh:"

func newSecurityKey(t testing.TB) ssh.Signer {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(public), application}))
	if err != nil {
		t.Fatal(err)
	}
	return securityKey{line, private}
}

func (k securityKey) PublicKey() ssh.PublicKey { return k.public }

func (k securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := []byte{0, 0, 0, 0, 7} // no flags, a counter
	blob := append(append(app[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, blob), Rest: rest}, nil
}
