package integration

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
	"github.com/npcnix/npcnix/store/release"
)

const cacheBucket = "cache"

// A cache in S3, as nix itself writes and reads it: a push builds and copies, and a host that evaluates nothing
// fetches. Debian's nix has no S3 before 2.34.
func TestACacheInS3(t *testing.T) {
	t.Parallel()
	programs := nixWithS3(t)
	endpoint := moto.Start(t)
	w := newWorld(t, endpoint)
	_, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(cacheBucket)})
	w.must(err)
	// nix sends no credentials to moto: the bucket is everybody's.
	_, err = w.s3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: aws.String(cacheBucket), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::cache","arn:aws:s3:::cache/*"]}]}`)})
	w.must(err)
	w.settings = []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
	h := newHost(w, "web1")
	cache := "s3://" + cacheBucket + "?endpoint=" + endpoint + "&region=us-east-1"
	tool := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(h.nixEnv(), "XDG_CACHE_HOME="+h.path("publisher"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
	}
	tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.path("key"))
	tool(filepath.Join(programs, "nix-store"), "--generate-binary-cache-key", "cache-1", h.path("cache.sec"), h.path("cache.pub"))
	w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: "one"}}))
	tool(npcnix, "push", "--src", h.path("flake"), "--remote", remote, "--sign-key", h.path("key"),
		"--prebuild", "--cache", cache, "--cache-key", h.path("cache.sec"))
	tool(npcnix, "cache", "gc", "--cache", cache, "--remote", remote)
	roots, err := w.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(cacheBucket), Prefix: aws.String("npcnix/roots/")})
	w.must(err)
	if len(roots.Contents) != 1 {
		t.Errorf("%d notes of one push", len(roots.Contents))
	}

	toplevel := h.published().Systems["web1"].Toplevel
	id, _, _ := strings.Cut(filepath.Base(toplevel), "-")
	if _, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(cacheBucket), Key: aws.String(id + ".narinfo")}); err != nil {
		t.Errorf("the system in the cache: %v", err)
	}
	tool(filepath.Join(programs, "nix-store"), "--delete", toplevel)
	h.configure(map[string]any{
		"remote": remote, "configuration": "web1", "evaluation": "never", "signers": []string{strings.TrimSpace(string(h.read("key.pub")))},
	})
	h.start()
	h.await("the prebuilt system is applied", func() bool { return h.record().Status == record.Applied })
	if h.marker() != "one" || h.record().System != toplevel {
		t.Errorf("the host runs %q, %+v", h.marker(), h.record())
	}
}

// published is the manifest of what the remote holds.
func (h *host) published() *release.Manifest {
	h.t.Helper()
	out, err := h.s3.GetObject(h.t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	h.must(err)
	defer out.Body.Close()
	object, err := io.ReadAll(out.Body)
	h.must(err)
	frame, err := release.ParseFrame(object)
	h.must(err)
	m, err := release.Parse(frame.Manifest)
	h.must(err)
	return m
}

// nixWithS3 is the folder of a nix that reads and writes s3:// stores.
func nixWithS3(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("NPCNIX_NIX_NEXT")
	if folder == "" {
		t.Skip("NPCNIX_NIX_NEXT is not set: Debian's nix before 2.34 is built without S3, and make newest has another")
	}
	programs, err := filepath.Abs(filepath.Join(folder, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(programs, "nix"), "--extra-experimental-features", "nix-command", "store", "ping", "--store", "s3://x?endpoint=http://127.0.0.1:1")
	if out, err := cmd.CombinedOutput(); len(out) == 0 || strings.Contains(string(out), "don't know how to open Nix store") {
		t.Fatalf("%s has no nix with S3: %v\n%s", folder, err, out)
	}
	return programs
}

// What neither the remote's versions nor its hosts need is deleted from a cache in S3: one that nix wrote into a
// directory, copied to a bucket. nix still finds all of the present release there.
func TestSweepOfACacheInS3(t *testing.T) {
	t.Parallel()
	need(t, "nix")
	endpoint := moto.Start(t)
	w := newWorld(t, endpoint)
	_, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(cacheBucket)})
	w.must(err)
	_, err = w.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(bucket), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	w.must(err)
	h := newHost(w, "web1")
	tool := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(h.nixEnv(), "XDG_CACHE_HOME="+h.path("publisher"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	var toplevels []string
	for _, version := range []string{"one", "two"} {
		w.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{"web1": {Version: version}}))
		tool(npcnix, "push", "--src", h.path("flake"), "--remote", remote, "--prebuild", "--cache", "file://"+h.path("cache"))
		toplevels = append(toplevels, h.published().Systems["web1"].Toplevel)
	}
	w.must(os.RemoveAll(h.path("cache", "npcnix"))) // its pushes are long ago
	w.must(os.CopyFS(h.path("copy"), os.DirFS(h.path("cache"))))
	w.each(h.path("copy"), func(name string, content []byte) {
		_, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(cacheBucket), Key: &name, Body: bytes.NewReader(content)})
		w.must(err)
	})
	gc := func(flags ...string) string {
		t.Helper()
		return tool(npcnix, append([]string{"cache", "gc", "--cache", "s3://" + cacheBucket + "?compression=zstd", "--remote", remote, "--keep", "1"}, flags...)...)
	}
	narinfo := func(path string) bool {
		id, _, _ := strings.Cut(filepath.Base(path), "-")
		_, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(cacheBucket), Key: aws.String(id + ".narinfo")})
		return err == nil
	}

	if out := gc(); !strings.Contains(out, "0 paths deleted, 0.0 KiB; 0 wait for --grace") {
		t.Errorf("the remote held the first release a moment ago:\n%s", out)
	}
	versions, err := w.s3.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: aws.String(bucket), Prefix: aws.String(key)})
	w.must(err)
	for _, v := range versions.Versions { // as the bucket's lifecycle does
		if aws.ToString(v.Key) == key && !aws.ToBool(v.IsLatest) {
			_, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: v.Key, VersionId: v.VersionId})
			w.must(err)
		}
	}
	if out := gc(); !strings.Contains(out, "0 paths deleted, 0.0 KiB; 1 wait for --grace") {
		t.Errorf("the first run that finds it:\n%s", out)
	}
	w.backdate(cacheBucket, "npcnix/unmarked.json")
	if out := gc("--dry-run"); !strings.Contains(out, toplevels[0]) || !strings.Contains(out, "1 paths to delete") || !narinfo(toplevels[0]) {
		t.Errorf("a dry run says:\n%s", out)
	}
	if out := gc(); !strings.Contains(out, toplevels[0]) || !strings.Contains(out, "1 paths deleted") {
		t.Errorf("the run a day later says:\n%s", out)
	}
	if narinfo(toplevels[0]) || !narinfo(toplevels[1]) {
		t.Errorf("there: the first %v, the second %v", narinfo(toplevels[0]), narinfo(toplevels[1]))
	}
	left := w.down(cacheBucket, h.path("left"))
	tool("nix", "--extra-experimental-features", "nix-command", "store", "verify", "--recursive", "--no-trust", "--store", "file://"+left, toplevels[1])
}

// each calls do with each file below a directory.
func (w *world) each(dir string, do func(name string, content []byte)) {
	w.t.Helper()
	w.must(filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		do(strings.TrimPrefix(path, dir+"/"), content)
		return err
	}))
}

// down copies a bucket to a directory.
func (w *world) down(bucket, dir string) string {
	w.t.Helper()
	all, err := w.s3.ListObjectsV2(w.t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	w.must(err)
	for _, o := range all.Contents {
		name := filepath.Join(dir, *o.Key)
		w.must(os.MkdirAll(filepath.Dir(name), 0o755))
		w.must(os.WriteFile(name, w.content(bucket, *o.Key), 0o644))
	}
	return dir
}

func (w *world) content(bucket, key string) []byte {
	w.t.Helper()
	out, err := w.s3.GetObject(w.t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	w.must(err)
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	w.must(err)
	return content
}

// backdate has what a run of npcnix cache gc remembers be known for years.
func (w *world) backdate(bucket, key string) {
	w.t.Helper()
	old := regexp.MustCompile(`"since":"[0-9]{4}`).ReplaceAll(w.content(bucket, key), []byte(`"since":"2019`))
	_, err := w.s3.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(old)})
	w.must(err)
}
