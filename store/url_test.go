package store_test

import (
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

func TestURLsThatAreNoRemoteAreRefused(t *testing.T) {
	awsEnv(t)
	for _, c := range []struct{ name, url, text string }{
		{"empty", "", "no scheme"},
		{"a path", "/srv/dev.npcnix", "file:///PATH"},
		{"an unknown scheme", "ftp://host/dev.npcnix", `unknown scheme "ftp"`},
		{"what does not parse", "s3://b/%zz", "invalid URL escape"},
		{"what does not parse and may hold a password", "https://me:s3c%ret@host/x", "does not parse"},
		{"an S3 URL without bucket", "s3:///key", "no bucket"},
		{"an S3 URL without key", "s3://bucket", "no object"},
		{"an S3 URL of a directory", "s3://bucket/dir/", "no object"},
		{"an S3 URL with credentials", "s3://id:s3cret@bucket/key", "from the environment"},
		{"an S3 URL with a port", "s3://bucket:9000/key", "?endpoint=URL"},
		{"an S3 URL without slashes", "s3:bucket/key", "want // after s3:"},
		{"an unknown parameter", "s3://b/k?regoin=eu-west-1", `"regoin"`},
		{"an endpoint with a password", "s3://b/k?endpoint=https://me:s3cret@minio:9000", "from the environment"},
		{"an endpoint without scheme", "s3://b/k?endpoint=minio:9000", "want http://HOST"},
		{"a path-style neither true nor false", "s3://b/k?path-style=maybe", "want true or false"},
		{"an unknown checksum setting", "s3://b/k?checksum=no", "want when-required"},
		{"a query that does not parse", "s3://b/k?a=%zz", "query"},
		{"a web URL without host", "https:///x", "no host"},
		{"a web URL without path", "https://host", "no object"},
		{"a fragment", "https://host/x#y", "%23"},
		{"a relative file", "file:dev.npcnix", "want // after file:"},
		{"a file on another host", "file://srv/dev.npcnix", "three slashes"},
		{"a file with a query", "file:///srv/dev.npcnix?x", "%3F"},
		{"a directory", "file:///srv/", "no object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := store.Open(t.Context(), c.url, store.Options{Region: "us-east-1"})
			wantError(t, err, store.ErrURL, c.text)
			wantError(t, store.CheckURL(c.url), store.ErrURL, c.text)
			if strings.Contains(err.Error(), "s3c") {
				t.Errorf("shows the password: %v", err)
			}
		})
	}
}

func TestRemotesTellWhereTheyAre(t *testing.T) {
	awsEnv(t)
	for _, c := range []struct{ url, shown, bucket, key string }{
		{"s3://b/npcnix/remotes/dev.npcnix", "s3://b/npcnix/remotes/dev.npcnix", "b", "npcnix/remotes/dev.npcnix"},
		{"s3://b.with.dots/a%20b+c?region=eu-west-1", "s3://b.with.dots/a%20b+c?region=eu-west-1", "b.with.dots", "a b+c"},
		{"s3://b//k", "s3://b//k", "b", "/k"},
		{"file:///srv/x/../dev%20.npcnix", "file:///srv/x/../dev%20.npcnix", "", "/srv/dev .npcnix"},
		{"file://localhost/srv/x", "file://localhost/srv/x", "", "/srv/x"},
		{"https://me:pw@host:8443/x?sig=abc", "https://host:8443/x?sig=***", "", ""},
		{"http://host/x", "http://host/x", "", ""},
	} {
		remote, err := store.Open(t.Context(), c.url, store.Options{Region: "us-east-1"})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if err := store.CheckURL(c.url); err != nil {
			t.Error(err)
		}
		if remote.URL() != c.shown || remote.Bucket() != c.bucket || remote.Key() != c.key {
			t.Errorf("%s: shown as %q, bucket %q, key %q", c.url, remote.URL(), remote.Bucket(), remote.Key())
		}
	}
}

func TestPrintedRemoteHoldsNoSecret(t *testing.T) {
	for _, c := range []struct{ url, shown string }{
		{"http://user:s3cret@host/dev.npcnix?token=s3cret", "http://host/dev.npcnix?token=***"},
		{"https://host/x?a=1&X-Amz-Signature=s3cret", "https://host/x?a=***&X-Amz-Signature=***"},
		{"https://host/x?s3cret", "https://host/x?***"},
		{"https://s3cret@host/x", "https://host/x"},
		{"s3://b/k?region=eu-west-1&path-style=true&endpoint=https%3A%2F%2Fminio%3A9000", "s3://b/k?region=eu-west-1&path-style=true&endpoint=https%3A%2F%2Fminio%3A9000"},
		{"s3://b/k?endpoint=https://me:s3cret@minio", "s3://b/k?endpoint=***"},
		{"s3://b/k?regoin=s3cret", "s3://b/k?regoin=***"},
		{"file:///srv/x", "file:///srv/x"},
		{"https://me:s3cret%zz@host/x", "(not a URL)"},
		{"", ""},
	} {
		shown := store.Redact(c.url)
		if shown != c.shown || store.Redact(shown) != shown && shown != "(not a URL)" {
			t.Errorf("%s is printed as %s, want %s", c.url, shown, c.shown)
		}
		if store.CheckURL(c.url) == nil && !store.SameObject(c.url, shown) {
			t.Errorf("%s names another object", shown)
		}
		if _, err := store.Open(t.Context(), c.url, store.Options{Region: "us-east-1"}); err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("an error shows it: %v", err)
		}
	}
}

func TestVersionsAreTheSameByTheirETagsAlone(t *testing.T) {
	for _, c := range []struct {
		a, b store.Version
		want bool
	}{
		{store.Version{ETag: "x", ID: "1"}, store.Version{ETag: "x", Size: 7}, true},
		{store.Version{ETag: "x"}, store.Version{ETag: "y"}, false},
		{store.Version{}, store.Version{}, false},
		{store.Version{ETag: "x"}, store.Version{}, false},
	} {
		if got := c.a.Same(c.b); got != c.want {
			t.Errorf("%+v and %+v: %v", c.a, c.b, got)
		}
	}
}
