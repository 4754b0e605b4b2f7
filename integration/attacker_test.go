package integration

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/nixtest"
	"github.com/npcnix/npcnix/store/release"
)

// attacked is a host with signers, whose bucket and cache an attacker writes.
type attacked struct {
	*host
	*forger
	good     []byte          // a packed flake of what the host runs
	cache    string          // folder of the cache
	programs string          // folder of the host's nix, if that is not the installed one
	told     map[string]bool // messages of what was refused, without the keys that they name
}

// An attacker who may write the bucket and the cache, but has no key, gets nothing run on a host with signers. What
// a holder of the key signs by mistake is refused too. After each try, the host takes the next good release.
func TestAnAttackerWithoutAKeyRunsNothing(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, "")
	a.tries(t, append(a.forgeries(), a.forgedCaches()...))
}

// nix alone can tell what a cache forges: another nix does so too.
func TestAForgedCacheAndAnotherNix(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, nixtest.Newer(t))
	a.tries(t, a.forgedCaches())
}

// newAttacked starts a host that runs the version "one".
func newAttacked(t *testing.T, programs string) *attacked {
	t.Helper()
	w := newFakeWorld(t)
	if programs != "" {
		w.settings = []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
	}
	queue, _ := w.queue("npcnix-web1", 6)
	h := newHost(w, "web1")
	archive := func(version string) []byte {
		h.pack(nixtest.System{Version: version})
		return h.read("flake.npcnix")
	}
	a := &attacked{h, newForger(t, archive("two"), archive("evil")), archive("one"), h.path("cache"), programs, map[string]bool{}}
	a.require(1)
	h.configure(map[string]any{
		"remote": remote, "configuration": "web1", "queue_url": queue, "signers": a.signers(), "retry_delays_secs": []int{1},
	})
	a.nixConfig = "trusted-public-keys = " + a.cacheKey("attacker-1")
	a.start()

	two := a.archive
	a.archive = a.good
	a.publishGood("the first release")
	a.publishGood("the first release again")
	a.archive = two
	return a
}

// tries has the attacker try each, and publishes the next version then.
func (a *attacked) tries(t *testing.T, all []forgery) {
	t.Helper()
	two := a.archive
	for _, try := range all {
		t.Run(try.what, func(sub *testing.T) {
			a.world.t, a.forger.t = sub, sub
			defer func() { a.world.t, a.forger.t = t, t }()
			a.require(max(try.required, 1))
			a.await("the host requires that", func() bool { return max(a.record().SignersRequired, 1) == max(try.required, 1) })
			a.refused(sub, try.object(), try.says)
			a.archive = a.good
			a.publishGood("the good release after it")
			a.archive = two
		})
	}
	a.nothingRan(t)

	a.publishGood("the next version")
	if a.marker() != "two" {
		t.Errorf("the host runs %q", a.marker())
	}
}

func (h *host) read(name string) []byte {
	h.t.Helper()
	data, err := os.ReadFile(h.path(name))
	h.must(err)
	return data
}

func (a *attacked) require(n int) { a.configure(map[string]any{"signers_required": n}) }

// put writes the remote's object, as who may write the bucket can.
func (a *attacked) put(object []byte) (etag string) {
	a.host.t.Helper()
	out, err := a.s3.PutObject(a.host.t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(object)})
	a.must(err)
	a.configure(nil) // the agent looks at once, and need not wait for the event
	return strings.Trim(*out.ETag, `"`)
}

// recorded waits for the record of an object.
func (a *attacked) recorded(what, etag string, status record.Status) record.Record {
	a.host.t.Helper()
	var last record.Record
	a.await(fmt.Sprintf("%s is %s", what, status), func() bool {
		last = a.record()
		return last.Version.ETag == etag && last.Status == status
	})
	return last
}

// refused puts a forgery, and fails unless the host says why it refuses it, in words of its own.
func (a *attacked) refused(t *testing.T, object []byte, says string) {
	t.Helper()
	rec := a.recorded("the forgery", a.put(object), record.Rejected)
	if !strings.Contains(rec.Error, says) {
		t.Errorf("record says %q, want %q", rec.Error, says)
	}
	message := fingerprints.ReplaceAllString(rec.Error, "KEY")
	if a.told[message] {
		t.Errorf("record says %q, as of another forgery", message)
	}
	a.told[message] = true
}

var fingerprints = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]+`)

// publishGood publishes a release of the packed flake that is to be run, signed as required.
func (a *attacked) publishGood(what string) {
	a.host.t.Helper()
	manifest := a.plain()
	a.recorded(what, a.put(a.by(manifest, a.forger.key, a.second)), record.Applied)
	a.before, a.current = a.current, manifest
}

func (a *attacked) nothingRan(t *testing.T) {
	t.Helper()
	if a.marker() != "one" || a.switches() != 1 {
		t.Errorf("the host runs %q after %d switches", a.marker(), a.switches())
	}
}

// cacheKey makes a key of a binary cache, the secret one in the file name, and returns the public one.
func (a *attacked) cacheKey(name string) string {
	a.host.t.Helper()
	a.tool("nix-store", "--generate-binary-cache-key", name, a.path(name), a.path(name+".pub"))
	return strings.TrimSpace(string(a.read(name + ".pub")))
}

// tool runs a program as the host's root would.
func (a *attacked) tool(name string, args ...string) []byte {
	a.host.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = a.nixEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		a.host.t.Fatalf("%s %s: %v\n%s", name, args, err, &stderr)
	}
	return out
}

// prebuild fills the cache with a new system, signed by a key, and returns the manifest's members that name both.
// The host's store, which is the publisher's too, loses the system.
func (a *attacked) prebuild(version, cacheKey string) func(*release.Manifest) {
	a.host.t.Helper()
	a.must(os.RemoveAll(a.cache))
	a.must(nixtest.Flake(a.path("prebuilt"), a.salt, map[string]nixtest.System{"web1": {Version: version}}))
	a.tool(npcnix, "pack", "--src", a.path("prebuilt"), "--dst", a.path("prebuilt.npcnix"), "--for", remote,
		"--prebuild", "--cache", "file://"+a.cache, "--cache-key", a.path(cacheKey))
	frame, err := release.ParseFrame(a.read("prebuilt.npcnix"))
	a.must(err)
	m, err := release.Parse(frame.Manifest)
	a.must(err)
	nixtest.Delete(a.host.t, a.nixEnv(), m.Systems["web1"].Toplevel)
	return func(n *release.Manifest) { n.Systems, n.Caches = m.Systems, m.Caches }
}

// forgedCaches are releases of a trusted key whose cache the attacker has changed. nix.conf trusts the attacker's
// key, as it may for other things.
func (a *attacked) forgedCaches() []forgery {
	a.cacheKey("cache-1")
	const says = "not signed by a trusted key of the cache"
	return []forgery{
		{what: "a closure signed by an untrusted cache key", says: says, object: func() []byte {
			prebuilt := a.prebuild("unsigned", "attacker-1")
			return a.by(a.manifest(func(m *release.Manifest) {
				prebuilt(m)
				m.Caches[0].Keys = []string{strings.TrimSpace(string(a.read("cache-1.pub")))}
			}), a.forger.key)
		}},
		{what: "forged content for the signed path, signed by a key that nix.conf trusts", says: says, object: func() []byte {
			prebuilt := a.manifest(a.prebuild("replaced", "cache-1"))
			m, err := release.Parse(prebuilt)
			a.must(err)
			a.forgeContent(m.Systems["web1"].Toplevel)
			return a.by(prebuilt, a.forger.key)
		}},
	}
}

// forgeContent puts another content into the cache for a store path, signed by the attacker's key. A host that
// asked nix.conf for the trusted keys would take it: that is tried.
func (a *attacked) forgeContent(path string) {
	a.host.t.Helper()
	script := a.path("forged", "bin", "switch-to-configuration")
	a.must(os.MkdirAll(filepath.Dir(script), 0o755))
	a.must(os.WriteFile(script, []byte("#!/bin/sh\necho evil >\"$NPCNIX_ROOT/marker\"\n"), 0o755))
	nar := a.tool("nix-store", "--dump", a.path("forged"))
	sum := sha256.Sum256(nar)
	hash := "sha256:" + strings.TrimSpace(string(a.tool("nix-hash", "--type", "sha256", "--to-base32", hex.EncodeToString(sum[:]))))
	name, secret, _ := strings.Cut(strings.TrimSpace(string(a.read("attacker-1"))), ":")
	private, err := base64.StdEncoding.DecodeString(secret)
	a.must(err)
	signature := ed25519.Sign(private, fmt.Appendf(nil, "1;%s;%s;%d;", path, hash, len(nar)))

	id, _, _ := strings.Cut(filepath.Base(path), "-")
	a.must(os.WriteFile(filepath.Join(a.cache, "nar", "forged.nar"), nar, 0o644))
	a.must(os.WriteFile(filepath.Join(a.cache, id+".narinfo"), fmt.Appendf(nil,
		"StorePath: %s\nURL: nar/forged.nar\nCompression: none\nFileHash: %s\nFileSize: %d\nNarHash: %s\nNarSize: %d\nReferences: \nSig: %s:%s\n",
		path, hash, len(nar), hash, len(nar), name, base64.StdEncoding.EncodeToString(signature)), 0o644))

	a.tool(filepath.Join(a.programs, "nix-store"), "--realise", path, "--option", "substituters", "file://"+a.cache)
	nixtest.Delete(a.host.t, a.nixEnv(), path)
}

// Whoever may write the bucket can plant a serial that leaves no room above it, systems, and a plan of waves. Nothing
// of that is signed with the next publish, and a renewal signs nothing at all.
func TestAPublisherSignsNothingThatWasPlanted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	object, keyFile, at := filepath.Join(dir, "dev.npcnix"), filepath.Join(dir, "key"), "file://"+filepath.Join(dir, "dev.npcnix")
	f := newForger(t, []byte("a packed flake"), nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(nixtest.Flake(filepath.Join(dir, "flake"), "salt", map[string]nixtest.System{"web1": {Version: "one"}}))
	must(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keyFile).Run())
	planted := f.by(f.manifest(func(m *release.Manifest) {
		m.Remote, m.Serial = strings.TrimPrefix(at, "file://"), 1<<63-2
		m.Systems = map[string]release.System{"web1": {Kind: release.KindNixOS, Toplevel: "/nix/store/00000000000000000000000000000000-evil", Platform: "x86_64-linux"}}
		m.Rollout = &release.Plan{Waves: [][]string{{"web1"}, {"100%"}}}
	}), f.stranger)
	must(os.WriteFile(object, planted, 0o644))

	if out, err := exec.Command(npcnix, "release", "renew", "--remote", at, "--sign-key", keyFile).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "holds no release that your signers vouch for") {
		t.Errorf("renew: %v\n%s", err, out)
	}
	if now, err := os.ReadFile(object); err != nil || !bytes.Equal(now, planted) {
		t.Errorf("renew published something: %v", err)
	}

	out, err := exec.Command(npcnix, "push", "--src", filepath.Join(dir, "flake"), "--remote", at, "--sign-key", keyFile, "--check=none").CombinedOutput()
	if err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	published, err := os.ReadFile(object)
	must(err)
	frame, err := release.ParseFrame(published)
	must(err)
	m, err := release.Parse(frame.Manifest)
	must(err)
	if limit := time.Now().Add(time.Minute).UnixMilli(); m.Serial > limit || len(m.Systems) != 0 || m.Rollout != nil {
		t.Errorf("signed: %+v", m)
	}
}

// A publisher whose clock was wrong has left a serial that no other can follow. The next one says so, and signs nothing.
func TestAPublisherFollowsNoSerialFromTheFuture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	object, keyFile, at := filepath.Join(dir, "dev.npcnix"), filepath.Join(dir, "key"), "file://"+filepath.Join(dir, "dev.npcnix")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keyFile).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	key, _, err := release.OpenKey(t.Context(), keyFile)
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(t, []byte("a packed flake"), nil)
	ahead := f.by(f.manifest(func(m *release.Manifest) { m.Remote, m.Serial = object, math.MaxInt64 }), key)
	if err := os.WriteFile(object, ahead, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := nixtest.Flake(filepath.Join(dir, "flake"), "salt", map[string]nixtest.System{"web1": {Version: "one"}}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"push", "--src", filepath.Join(dir, "flake"), "--remote", at, "--sign-key", keyFile, "--check=none"},
		{"release", "renew", "--remote", at, "--sign-key", keyFile},
	} {
		out, err := exec.Command(npcnix, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "serial 9223372036854775807, more than an hour ahead") ||
			!strings.Contains(string(out), "delete that release") {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
		if now, err := os.ReadFile(object); err != nil || !bytes.Equal(now, ahead) {
			t.Errorf("%s published something: %v", args[0], err)
		}
	}
}
