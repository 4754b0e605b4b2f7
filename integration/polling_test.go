package integration

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/versity"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The whole chain without events, on an S3 that nobody here wrote, over TLS: push, poll, nix, switch,
// record, hosts, wait.
func TestPollingAnotherMakersS3OverTLS(t *testing.T) {
	t.Parallel()
	w := versityWorld(t)
	h := newHost(w, "web1")
	h.configure(map[string]any{
		"remote": remote, "configuration": "web1", "min_sleep_secs": 1, "max_sleep_secs": 1, "retry_delays_secs": []int{1},
	})
	h.start()
	f := &watched{world: w, remote: remote, flake: h.path("flake")}
	// push publishes a system for the host and waits for it.
	push := func(s nixtest.System, settings ...string) *gate {
		t.Helper()
		w.must(nixtest.Flake(f.flake, h.salt, map[string]nixtest.System{"web1": s}))
		return f.gate(settings, "push", "--src", f.flake, "--remote", remote, "--wait", "--host", "web1")
	}

	push(nixtest.System{Version: "one"}).ends(0, "passed: ", "1 of 1 done", "publish to applied, 1 host")
	if h.marker() != "one" {
		t.Errorf("the host runs %q", h.marker())
	}
	one := w.etag()
	if listed := w.run("hosts", "--remote", remote); !strings.Contains(listed, "web1") || !strings.Contains(listed, "applied") {
		t.Errorf("hosts prints:\n%s", listed)
	}

	push(nixtest.System{Version: "two", BuildFails: true}).ends(3, "web1 failed")
	if h.marker() != "one" {
		t.Errorf("the host runs %q after a version that does not build", h.marker())
	}

	push(nixtest.System{Version: "three"}).ends(0, "passed: ")
	if h.marker() != "three" {
		t.Errorf("the host runs %q", h.marker())
	}
	f.gate(nil, "wait", "--remote", remote, "--host", "web1").ends(0, "1 of 1 done")
	f.gate(nil, "wait", "--remote", remote, "--host", "web1", "--etag", one).ends(1, "no host's record mentions "+one)

	// The server checks signatures and its certificate is checked.
	push(nixtest.System{Version: "four"}, "AWS_SECRET_ACCESS_KEY=wrong").ends(1, "the secret key is wrong")
	push(nixtest.System{Version: "four"}, "AWS_CA_BUNDLE=").ends(1, "certificate")
	if h.marker() != "three" {
		t.Errorf("the host runs %q", h.marker())
	}
}

// versityWorld is a versitygw with the bucket of the remote.
func versityWorld(t *testing.T) *world {
	t.Helper()
	server := versity.StartTLS(t)
	pem, err := os.ReadFile(server.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}
	w := worldAt(t, server.URL)
	w.settings = []string{"AWS_CA_BUNDLE=" + server.CA}
	cfg := awsfake.Config(server.URL)
	cfg.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	w.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err = w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	w.must(err)
	return w
}
