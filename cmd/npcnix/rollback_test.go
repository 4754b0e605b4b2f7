package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// TestNothingThatWasPlantedIsSigned has a writer without a key plant versions before a rollback. A rollback signs
// what verifies, and nothing else.
func TestNothingThatWasPlantedIsSigned(t *testing.T) {
	for kind, start := range map[string]func() string{
		"moto":    func() string { return moto.Start(t) },
		"awsfake": func() string { return startCloud(t).URL() },
	} {
		t.Run(kind, func(t *testing.T) { nothingPlantedIsSigned(t, start()) })
	}
}

func nothingPlantedIsSigned(t *testing.T, endpoint string) {
	b := bucketOfVersionsAt(t, endpoint)
	client, remote := b.Client, b.remote
	key, stranger := sshKey(t), sshKey(t)
	signers := filepath.Join(t.TempDir(), "signers")
	write(t, signers, publicKey(t, key))

	one := signed(t, key, "planted/dev.npcnix", "good-one", nil)
	two := signed(t, key, "planted/dev.npcnix", "good-two", nil)
	forged := signed(t, stranger, "planted/dev.npcnix", "evil-forged", func(m *release.Manifest) { m.Serial = 1<<62 + 1 })
	forged.frame.Signatures = one.frame.Signatures
	plan := &release.Plan{Waves: [][]string{{"evil-*"}, {"100%"}}, Base: &release.Base{Release: strings.Repeat("e", 64)}}
	other := one
	other.archive = bytes.Repeat([]byte("evil"), len(one.archive)/4+1)[:len(one.archive)]
	for _, o := range []object{
		one, two, forged, other,
		{archive: []byte("evil, unsigned")},
		signed(t, stranger, "planted/dev.npcnix", "evil-stranger", func(m *release.Manifest) { m.Serial = 1 << 62 }),
		signed(t, key, "planted/staging.npcnix", "evil-other-remote", nil),
		signed(t, stranger, "planted/dev.npcnix", "evil-plan", func(m *release.Manifest) { m.Rollout = plan }),
	} {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("planted"), Key: aws.String("dev.npcnix"), Body: bytes.NewReader(o.bytes(t)),
		}); err != nil {
			t.Fatal(err)
		}
	}

	out := command(t, nil, "history", "--remote", remote, "--signers", signers)
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "evil") && !strings.HasPrefix(line, "omitted: ") {
			t.Errorf("history offers %q", line)
		}
	}
	for _, to := range []string{"evil-forged", "evil-stranger", "evil-other-remote", "evil-plan", "4611686018427387905"} {
		out := command(t, errAny, "rollback", "--remote", remote, "--sign-key", key, "--yes", "--to", to)
		if !strings.Contains(out, "kept no release") {
			t.Errorf("rollback to %s: %s", to, out)
		}
	}
	command(t, nil, "rollback", "--remote", remote, "--sign-key", key, "--yes")
	wantHeld(t, client, key, two)
	command(t, nil, "rollback", "--remote", remote, "--sign-key", key, "--yes", "--to", "good-one")
	wantHeld(t, client, key, one)
}

// TestAReleaseIsPromotedAcrossRegions promotes between buckets of two regions, after a stranger has planted a release in
// staging, and a record's host has run it.
func TestAReleaseIsPromotedAcrossRegions(t *testing.T) {
	endpoint := moto.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	client := s3.NewFromConfig(awsfake.Config(endpoint), func(o *s3.Options) { o.UsePathStyle = true })
	for bucket, region := range map[string]string{"staging": "eu-central-1", "planted": ""} {
		in := &s3.CreateBucketInput{Bucket: aws.String(bucket)}
		if region != "" {
			in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(region)}
		}
		if _, err := client.CreateBucket(t.Context(), in, func(o *s3.Options) {
			if region != "" {
				o.Region = region
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	from := "s3://staging/dev.npcnix?region=eu-central-1&endpoint=" + url.QueryEscape(endpoint)
	to := "s3://planted/dev.npcnix?region=us-east-1&endpoint=" + url.QueryEscape(endpoint)
	key, stranger := sshKey(t), sshKey(t)
	staging, err := store.Open(t.Context(), from, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	runs := func(o object) {
		t.Helper()
		body := o.bytes(t)
		v, err := staging.Publish(t.Context(), bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := release.Parse(o.frame.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		version := record.Version{ETag: v.ETag, Release: m.Release}
		data, err := json.Marshal(record.Record{Schema: record.Schema, Host: "web1", Status: record.Applied, Version: version, Running: &version})
		if err != nil {
			t.Fatal(err)
		}
		if err := staging.PutRecord(t.Context(), "web1", data); err != nil {
			t.Fatal(err)
		}
	}

	runs(signed(t, stranger, "staging/dev.npcnix", "evil", nil))
	out := command(t, errAny, "promote", "--from", from, "--to", to, "--sign-key", key)
	if !strings.Contains(out, "holds no release that your signers vouch for") {
		t.Error(out)
	}
	good := signed(t, key, "staging/dev.npcnix", "good", nil)
	runs(object{bytes.Repeat([]byte("evil"), len(good.archive)/4+1)[:len(good.archive)], good.frame})
	out = command(t, errAny, "promote", "--from", from, "--to", to, "--sign-key", key)
	if !strings.Contains(out, "not the one that was signed") {
		t.Error(out)
	}
	runs(good)
	command(t, nil, "promote", "--from", from, "--to", to, "--sign-key", key)
	wantHeld(t, client, key, good)
}

// wantHeld fails the test unless the bucket holds the object as a new release without a plan.
func wantHeld(t *testing.T, client *s3.Client, key string, want object) {
	t.Helper()
	got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("planted"), Key: aws.String("dev.npcnix")})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(body, want.archive) || bytes.Contains(body, []byte("evil")) {
		t.Errorf("the packed flake is another one: %q", body)
	}
	frame, err := release.Read(func(n int64) ([]byte, error) { return body[max(0, len(body)-int(n)):], nil })
	if err != nil {
		t.Fatal(err)
	}
	keys, err := release.ParseSigners(publicKey(t, key))
	if err != nil {
		t.Fatal(err)
	}
	v, err := release.Policy{Remote: "planted/dev.npcnix", Signers: keys}.Verify(frame)
	if err != nil {
		t.Fatal(err)
	}
	old, err := release.Parse(want.frame.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if v.Rollout != nil || v.Release != old.Release || v.Source.Rev != old.Source.Rev || v.Serial <= old.Serial || v.Serial > time.Now().Add(time.Hour).UnixMilli() || len(frame.Progress) > 0 {
		t.Errorf("signed was %+v", v.Manifest)
	}
}

// object is what is put into a bucket.
type object struct {
	archive []byte
	frame   *release.Frame
}

func (o object) bytes(t *testing.T) []byte {
	t.Helper()
	if o.frame == nil {
		return o.archive
	}
	end, err := o.frame.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(o.archive), end...)
}

var published int64 // counts releases, so that no two have the same serial

// signed is a release of a flake that has the revision as its text.
func signed(t *testing.T, keyFile, remote, rev string, edit func(*release.Manifest)) object {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "flake.nix"), rev)
	var archive bytes.Buffer
	if err := store.Pack(t.Context(), dir, &archive, store.PackOptions{}); err != nil {
		t.Fatal(err)
	}
	sum, err := release.HashArchive(bytes.NewReader(archive.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	published++
	m := release.Manifest{Remote: remote, Serial: now.Add(-time.Minute).UnixMilli() + published, Created: now.Truncate(time.Second), Archive: sum, Source: release.Source{Rev: rev}}
	if edit != nil {
		edit(&m)
	}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key, closeKey, err := release.OpenKey(t.Context(), keyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer closeKey()
	signature, err := release.Sign(data, key, release.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	return object{archive.Bytes(), &release.Frame{Manifest: data, Signatures: []string{signature}}}
}

var errAny = errors.New("any error")

// command runs a command and returns all that it printed.
func command(t *testing.T, want error, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	err := execute(t.Context(), args, &out, &out)
	if (err == nil) != (want == nil) {
		t.Fatalf("npcnix %q: %v\n%s", args, err, &out)
	}
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String()
}

func sshKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, string(pem.EncodeToMemory(block)))
	return file
}

func publicKey(t *testing.T, file string) string {
	t.Helper()
	key, closeKey, err := release.OpenKey(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer closeKey()
	return string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyAYesIsTakenForOne(t *testing.T) {
	for answer, want := range map[string]error{"y\n": nil, "YES\n": nil, "\n": errDeclined, "": errDeclined, "no\n": errDeclined, "yesterday\n": errDeclined} {
		var out bytes.Buffer
		if err := ask(t.Context(), &out, strings.NewReader(answer), "Publish it?"); !errors.Is(err, want) {
			t.Errorf("%q: %v", answer, err)
		}
		if out.String() != "Publish it? [y/N] " {
			t.Errorf("it asks %q", &out)
		}
	}
}
