package integration

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

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
	for _, folder := range []string{os.Getenv("NPCNIX_NIX_NEXT"), "../.cache/nix-sid"} {
		programs, err := filepath.Abs(filepath.Join(folder, "bin"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(programs, "nix"), "--extra-experimental-features", "nix-command", "store", "ping", "--store", "s3://x?endpoint=http://127.0.0.1:1")
		if out, _ := cmd.CombinedOutput(); folder != "" && len(out) > 0 && !strings.Contains(string(out), "don't know how to open Nix store") {
			return programs
		}
	}
	t.Skip("no nix with S3: make newest has it")
	return ""
}
