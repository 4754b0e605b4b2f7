package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// A bucketOfVersions is a bucket "planted" that keeps versions.
type bucketOfVersions struct {
	*s3.Client
	endpoint *url.URL
	remote   string // URL of its dev.npcnix
	t        *testing.T
}

func remoteAt(endpoint string) string {
	return "s3://planted/dev.npcnix?region=us-east-1&endpoint=" + url.QueryEscape(endpoint)
}

func newBucketOfVersions(t *testing.T) bucketOfVersions {
	t.Helper()
	return bucketOfVersionsAt(t, startCloud(t).URL())
}

func startCloud(t *testing.T) *awsfake.Cloud {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

func bucketOfVersionsAt(t *testing.T, endpoint string) bucketOfVersions {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	client := s3.NewFromConfig(awsfake.Config(endpoint), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("planted")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String("planted"), VersioningConfiguration: &s3types.VersioningConfiguration{Status: "Enabled"},
	}); err != nil {
		t.Fatal(err)
	}

	at, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return bucketOfVersions{client, at, remoteAt(endpoint), t}
}

func (b bucketOfVersions) put(o object) {
	b.t.Helper()
	if _, err := b.PutObject(b.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("planted"), Key: aws.String("dev.npcnix"), Body: bytes.NewReader(o.bytes(b.t)),
	}); err != nil {
		b.t.Fatal(err)
	}
}

func lastYear(m *release.Manifest) {
	m.Created = m.Created.AddDate(-1, 0, 0)
	m.Serial = m.Created.UnixMilli()
}

// TestAnOldReleaseIsNotSignedAgain has a writer without a key put back an old release that the publisher once signed.
func TestAnOldReleaseIsNotSignedAgain(t *testing.T) {
	b := newBucketOfVersions(t)
	key := sshKey(t)
	old := signed(t, key, "planted/dev.npcnix", "good-old", lastYear)
	now := signed(t, key, "planted/dev.npcnix", "good-new", nil)
	b.put(old)
	b.put(now)
	command(t, nil, "release", "renew", "--remote", b.remote, "--sign-key", key)
	wantHeld(t, b.Client, key, now)

	b.put(old)
	out := command(t, errAny, "release", "renew", "--remote", b.remote, "--sign-key", key)
	if !strings.Contains(out, "an older release was put back") {
		t.Error(out)
	}
	src := t.TempDir()
	write(t, filepath.Join(src, "flake.nix"), "good-old")
	push := []string{"push", "--src", src, "--remote", b.remote, "--sign-key", key, "--check=none", "--rev", "good-old"}
	if out := command(t, nil, push...); strings.Contains(out, "holds this release already") {
		t.Error(out)
	}
	wantHeld(t, b.Client, key, old)

	// as many copies that what was signed last is out of sight
	for i := range 100 {
		b.put(object{append(bytes.Clone(old.archive), byte(i)), old.frame})
	}
	b.put(old)
	out = command(t, errAny, "release", "renew", "--remote", b.remote, "--sign-key", key)
	if !strings.Contains(out, "100 versions") {
		t.Error(out)
	}
}

// TestAnOldStepIsNotFollowed has a writer without a key put an earlier step of a rollout back.
func TestAnOldStepIsNotFollowed(t *testing.T) {
	b := newBucketOfVersions(t)
	key := sshKey(t)
	plan := &release.Plan{Waves: [][]string{{"web1"}, {"100%"}}, Base: &release.Base{Release: strings.Repeat("b", 64)}}
	b.put(signed(t, key, "planted/dev.npcnix", "good", func(m *release.Manifest) { m.Rollout = plan }))
	step := func(want error, name string, args ...string) string {
		return command(t, want, append([]string{"rollout", name, "--remote", b.remote, "--rollout-key", key}, args...)...)
	}
	if out := step(errAny, "promote"); !strings.Contains(out, "--force") {
		t.Error(out)
	}
	step(nil, "promote", "--force")
	got, err := b.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("planted"), Key: aws.String("dev.npcnix")})
	if err != nil {
		t.Fatal(err)
	}
	first, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	step(nil, "pause")
	b.put(object{first, nil})
	if out := step(errAny, "pause"); !strings.Contains(out, "the rollout is paused") {
		t.Error(out)
	}
	step(nil, "abort")
}

func TestAnExpiredReleaseIsNotRenewed(t *testing.T) {
	key, dir := sshKey(t), t.TempDir()
	file := filepath.Join(dir, "dev.npcnix")
	remote, err := store.Open(t.Context(), "file://"+file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	expired := signed(t, key, remote.Name(), "good", func(m *release.Manifest) { lastYear(m); m.Expires = m.Created.Add(time.Hour) })
	write(t, file, string(expired.bytes(t)))
	out := command(t, errAny, "release", "renew", "--remote", "file://"+file, "--sign-key", key)
	if !strings.Contains(out, "the release expired") || !strings.Contains(out, "--force") {
		t.Error(out)
	}
	if held, err := os.ReadFile(file); err != nil || !bytes.Equal(held, expired.bytes(t)) {
		t.Error("something was published: " + strconv.Quote(string(held)))
	}
	command(t, nil, "release", "renew", "--remote", "file://"+file, "--sign-key", key, "--force")
}

// TestAnExpiredReleaseIsPublishedAgain publishes a flake whose release the remote holds, and that no host takes any more.
func TestAnExpiredReleaseIsPublishedAgain(t *testing.T) {
	b := newBucketOfVersions(t)
	key, src := sshKey(t), t.TempDir()
	expired := signed(t, key, "planted/dev.npcnix", "good", func(m *release.Manifest) { lastYear(m); m.Expires = m.Created.Add(time.Hour) })
	write(t, filepath.Join(src, "flake.nix"), "good")
	for _, args := range [][]string{
		{"push", "--src", src, "--check=none", "--rev", "good"},
		{"rollback", "--to", "good", "--yes"},
	} {
		b.put(expired)
		if out := command(t, nil, append(args, "--remote", b.remote, "--sign-key", key)...); strings.Contains(out, "nothing was published") {
			t.Errorf("%s: %s", args[0], out)
		}
		wantHeld(t, b.Client, key, expired)
		if _, err := b.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("planted"), Key: aws.String("dev.npcnix")}); err != nil {
			t.Fatal(err)
		}
	}

	b = newBucketOfVersions(t)
	b.put(signed(t, key, "planted/dev.npcnix", "good", nil))
	rollback := []string{"rollback", "--to", "good", "--yes", "--remote", b.remote, "--sign-key", key, "--expires", "2h"}
	if out := command(t, nil, rollback...); strings.Contains(out, "nothing was published") {
		t.Error("it never expires: " + out)
	}
	if out := command(t, nil, rollback...); !strings.Contains(out, "nothing was published") {
		t.Error(out)
	}
}

// withoutOldVersions is the bucket by a role that can list versions, and not read them.
func (b bucketOfVersions) withoutOldVersions() string {
	return b.behind(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("versionId") {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
				return
			}
			next.ServeHTTP(w, r)
		})
	})
}

// behind is the URL of the remote behind something that passes requests on.
func (b bucketOfVersions) behind(stands func(http.Handler) http.Handler) string {
	b.t.Helper()
	server := httptest.NewServer(stands(httputil.NewSingleHostReverseProxy(b.endpoint)))
	b.t.Cleanup(server.Close)

	return remoteAt(server.URL)
}

// TestNothingIsSignedOverWhatCannotBeRead has an old release put back over one that the publisher cannot read.
func TestNothingIsSignedOverWhatCannotBeRead(t *testing.T) {
	b, key := newBucketOfVersions(t), sshKey(t)
	old := signed(t, key, "planted/dev.npcnix", "good-old", lastYear)
	b.put(old)
	b.put(signed(t, key, "planted/dev.npcnix", "good-new", nil))
	b.put(old)
	remote := b.withoutOldVersions()
	src := t.TempDir()
	write(t, filepath.Join(src, "flake.nix"), "good-old")
	out := command(t, errAny, "release", "renew", "--remote", remote, "--sign-key", key)
	if !strings.Contains(out, "lack s3:GetObjectVersion") || !strings.Contains(out, "--force") {
		t.Error(out)
	}
	dry := []string{"push", "--src", src, "--remote", remote, "--sign-key", key, "--check=none", "--rev", "good-old", "--dry-run"}
	if out := command(t, nil, dry...); strings.Contains(out, "holds this release already") {
		t.Error(out)
	}
	wantSame(t, b, old)
	command(t, nil, "release", "renew", "--remote", remote, "--sign-key", key, "--force")
	wantHeld(t, b.Client, key, old)

	b = newBucketOfVersions(t)
	remote = b.withoutOldVersions()
	plan := &release.Plan{Waves: [][]string{{"web1"}, {"100%"}}}
	b.put(signed(t, key, "planted/dev.npcnix", "good", func(m *release.Manifest) { m.Rollout = plan }))
	command(t, nil, "rollout", "promote", "--remote", b.remote, "--rollout-key", key, "--force")
	out = command(t, errAny, "rollout", "pause", "--remote", remote, "--rollout-key", key)
	if !strings.Contains(out, "lack s3:GetObjectVersion") || !strings.Contains(out, "--force") {
		t.Error(out)
	}
	command(t, nil, "rollout", "pause", "--remote", remote, "--rollout-key", key, "--force")
}

func wantSame(t *testing.T, b bucketOfVersions, want object) {
	t.Helper()
	got, err := b.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("planted"), Key: aws.String("dev.npcnix")})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(body, want.bytes(t)) {
		t.Errorf("something was published: %q, %v", body, err)
	}
}

// TestASerialIsAboveAllEarlierOnes publishes over what is no release, with a clock that is behind that of the last
// publisher.
func TestASerialIsAboveAllEarlierOnes(t *testing.T) {
	b, key, src := newBucketOfVersions(t), sshKey(t), t.TempDir()
	ahead := signed(t, key, "planted/dev.npcnix", "good", func(m *release.Manifest) { m.Serial = time.Now().Add(40 * time.Minute).UnixMilli() })
	write(t, filepath.Join(src, "flake.nix"), "good")
	b.put(ahead)
	b.put(object{archive: []byte("no release")})
	command(t, nil, "push", "--src", src, "--remote", b.remote, "--sign-key", key, "--check=none", "--rev", "good")
	wantHeld(t, b.Client, key, ahead)
}
