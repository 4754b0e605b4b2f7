package store_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/store"
)

// answers is an S3 that gives the same answer to everything, and its trace.
func answers(t *testing.T, status int, header map[string]string, body string) *gate {
	return newGate(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, body)
		}
	}))
}

func s3Error(code string) string {
	return `<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>so it is</Message></Error>`
}

func TestS3AnswersBecomeErrorsWithAHint(t *testing.T) {
	awsEnv(t)
	other := map[string]string{"X-Amz-Bucket-Region": "eu-north-1"}
	for _, c := range []struct {
		name   string
		status int
		header map[string]string
		code   string
		want   error // of all calls; nil: none of the sentinels
		head   string
		get    string
		put    string
	}{
		{"forbidden", 403, nil, "AccessDenied", store.ErrForbidden,
			"it may also be missing (S3 says 403 for a missing key without s3:ListBucket)",
			"it may also be missing (S3 says 403 for a missing key without s3:ListBucket)", "s3:PutObject"},
		{"no such key", 404, nil, "NoSuchKey", store.ErrNotFound, "npcnix push", "npcnix push", "npcnix push"},
		{"no such bucket", 404, nil, "NoSuchBucket", store.ErrNotFound, "", "no bucket b", "no bucket b"},
		{"changed", 412, nil, "PreconditionFailed", store.ErrChanged, "", "", ""},
		{"moved to a region", 301, other, "PermanentRedirect", nil, "?region=eu-north-1", "?region=eu-north-1", "?region=eu-north-1"},
		{"moved to an unknown region", 301, nil, "PermanentRedirect", nil, "?region=REGION", "not in region us-east-1", "?region="},
		{"signed for the wrong region", 400, other, "AuthorizationHeaderMalformed", nil, "?region=eu-north-1", "?region=eu-north-1", "?region=eu-north-1"},
		{"signed wrongly", 400, nil, "AuthorizationHeaderMalformed", nil, "?region=REGION", "?region=REGION", "?region=REGION"},
		{"credentials expired", 400, nil, "ExpiredToken", store.ErrForbidden, "credentials have expired", "credentials have expired", "credentials have expired"},
		{"access key unknown", 403, nil, "InvalidAccessKeyId", store.ErrForbidden, "does not know this access key", "belongs to another store than http://", "does not know"},
		{"secret key wrong", 403, nil, "SignatureDoesNotMatch", store.ErrForbidden, "secret key is wrong", "secret key is wrong", "secret key is wrong"},
		{"clock wrong", 403, nil, "RequestTimeTooSkewed", store.ErrForbidden, "clock of this machine", "clock of this machine", "clock of this machine"},
		{"KMS key disabled", 400, nil, "KMS.DisabledException", nil, "KMS key must exist", "kms:Decrypt", "kms:GenerateDataKey"},
		{"archived", 403, nil, "InvalidObjectState", nil, "archive storage class", "restore it or publish again", "archive"},
		{"too large for the store", 400, nil, "EntityTooLarge", nil, "", "", "takes no object of this size"},
		{"no room", 507, nil, "XMinioStorageFull", nil, "", "", "no room left"},
		{"over the quota", 403, nil, "QuotaExceeded", nil, "", "", "raise the quota"},
		{"something unheard of", 400, nil, "WeirdError", nil, "WeirdError: so it is", "WeirdError: so it is", "WeirdError: so it is"},
		{"something unheard of with 403", 403, nil, "WeirdRefusal", store.ErrForbidden, "WeirdRefusal: so it is", "WeirdRefusal: so it is", "WeirdRefusal: so it is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := answers(t, c.status, c.header, s3Error(c.code))
			remote := open(t, s3URL("b", "k", g.url))
			_, head := remote.Latest(t.Context(), store.Version{})
			get := remote.Fetch(t.Context(), store.Version{ETag: "x"}, filepath.Join(t.TempDir(), "x"))
			_, put := remote.Publish(t.Context(), strings.NewReader("abc"), 3)
			for call, got := range map[string]struct {
				err  error
				text string
			}{"head": {head, c.head}, "get": {get, c.get}, "put": {put, c.put}} {
				if got.err == nil || !strings.Contains(got.err.Error(), got.text) {
					t.Errorf("%s: got %v, want %q in it", call, got.err, got.text)
				}
				for _, sentinel := range []error{store.ErrNotFound, store.ErrChanged, store.ErrForbidden, store.ErrUnsafe} {
					if c.want != nil && errors.Is(got.err, sentinel) != (c.want == sentinel) {
						t.Errorf("%s: %v is %v", call, got.err, sentinel)
					}
				}
			}
		})
	}
}

func TestS3WithoutCredentialsSaysWhereTheyComeFrom(t *testing.T) {
	awsEnv(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	g := answers(t, 200, nil, "")
	_, err := open(t, s3URL("b", "k", g.url)).Latest(t.Context(), store.Version{})
	if !errors.Is(err, store.ErrCredentials) || !strings.HasSuffix(err.Error(), "no AWS credentials: on EC2 attach a role to the instance; "+
		"elsewhere sign in with `aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID") {
		t.Errorf("got %v", err)
	}
	if n := len(g.take()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestS3Client(t *testing.T) {
	t.Run("the region comes from the URL, then the options, then the chain", s3Region)
	t.Run("a bucket without a host of its own hints at path style", s3PathStyle)
	t.Run("checksums suit the store, unless something else is set", s3Checksums)
}

func s3Region(t *testing.T) {
	for _, c := range []struct{ name, inURL, inOptions, inEnv, want string }{
		{"URL over all", "eu-west-1", "eu-west-2", "eu-west-3", "eu-west-1"},
		{"options over the chain", "", "eu-west-2", "eu-west-3", "eu-west-2"},
		{"chain", "", "", "eu-west-3", "eu-west-3"},
		{"none, with an endpoint", "", "", "", "us-east-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			awsEnv(t)
			if c.inEnv != "" {
				t.Setenv("AWS_REGION", c.inEnv)
			}
			g := answers(t, 404, nil, "")
			query := url.Values{"endpoint": {g.url}}
			if c.inURL != "" {
				query.Set("region", c.inURL)
			}
			remote, err := store.Open(t.Context(), "s3://b/k?"+query.Encode(), store.Options{Region: c.inOptions})
			if err != nil {
				t.Fatal(err)
			}
			_, err = remote.Latest(t.Context(), store.Version{})
			wantError(t, err, store.ErrNotFound, "")
			if got := g.take()[0].Header.Get("Authorization"); !strings.Contains(got, "/"+c.want+"/s3/") {
				t.Errorf("signed as %s, want region %s", got, c.want)
			}
		})
	}
	t.Run("none at all", func(t *testing.T) {
		awsEnv(t)
		_, err := store.Open(t.Context(), "s3://b/k", store.Options{})
		if err == nil || !strings.Contains(err.Error(), "?region=") {
			t.Errorf("got %v", err)
		}
	})
}

func TestS3RequestsGoWhereTheEndpointSays(t *testing.T) {
	for _, c := range []struct {
		name, variable string
	}{
		{"the URL's", ""},
		{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL"},
		{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_S3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			awsEnv(t)
			g := answers(t, 404, nil, "")
			remoteURL := s3URL("bucket", "dir/k", g.url)
			if c.variable != "" {
				t.Setenv(c.variable, g.url)
				remoteURL = "s3://bucket/dir/k"
			}
			_, err := open(t, remoteURL).Latest(t.Context(), store.Version{})
			wantError(t, err, store.ErrNotFound, "")
			if req := g.take()[0]; req.URL.Path != "/bucket/dir/k" {
				t.Errorf("went to %s", req.URL)
			}
		})
	}
}

func TestS3ErrorsQuoteAndDoNotGuess(t *testing.T) {
	awsEnv(t)
	for _, code := range []string{"WeirdError", "InvalidRequest"} {
		g := answers(t, 400, nil, s3Error(code))
		_, err := open(t, s3URL("b", "k", g.url)).Publish(t.Context(), strings.NewReader("abc"), 3)
		if err == nil || strings.Contains(err.Error(), "region=REGION") || strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// A proxy or firewall before the store answers in its own words.
func TestS3RefusalThatNoStoreExplains(t *testing.T) {
	awsEnv(t)
	for _, body := range []string{"<html><body>Blocked</body></html>", ""} {
		g := answers(t, 403, nil, body)
		remote := open(t, s3URL("b", "k", g.url))
		_, err := remote.Publish(t.Context(), strings.NewReader("abc"), 3)
		wantError(t, err, store.ErrForbidden, "a proxy or firewall can have refused it; or else these credentials lack s3:PutObject")
		_, err = remote.Latest(t.Context(), store.Version{})
		wantError(t, err, store.ErrForbidden, "a proxy or firewall can have refused it; or else it may also be missing")
	}
}

func TestS3RegionThatTheMessageNamesIsFilledIn(t *testing.T) {
	awsEnv(t)
	g := answers(t, 400, nil, `<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-3'</Message></Error>`)
	_, err := open(t, s3URL("b", "k", g.url)).Latest(t.Context(), store.Version{})
	if err == nil || !strings.Contains(err.Error(), "?region=eu-west-3") {
		t.Errorf("got %v", err)
	}
}

func s3PathStyle(t *testing.T) {
	awsEnv(t)
	_, err := open(t, s3URL("fleet", "k", "http://store.invalid")).Latest(t.Context(), store.Version{})
	if err == nil || !strings.Contains(err.Error(), "add path-style=true") {
		t.Errorf("got %v", err)
	}
}

func TestS3ExpiredSSOSessionNamesTheCommand(t *testing.T) {
	awsEnv(t)
	os.Unsetenv("AWS_ACCESS_KEY_ID")
	os.Unsetenv("AWS_SECRET_ACCESS_KEY")
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte(`[profile work]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = admin
region = eu-west-1
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.awsapps.com/start
`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONFIG_FILE", config)
	t.Setenv("AWS_PROFILE", "work")
	g := answers(t, 200, nil, "")
	_, err := open(t, s3URL("b", "k", g.url)).Latest(t.Context(), store.Version{})
	wantError(t, err, store.ErrCredentials, "aws sso login --profile work")
}

func s3Checksums(t *testing.T) {
	awsEnv(t)
	endpoint := moto.Start(t)
	createBucket(t, endpoint, "bucket")
	for _, c := range []struct {
		name, query, env string
		want             bool
	}{
		{"none are sent to stores other than AWS", "", "", false},
		{"the URL switches them off", "&checksum=when-required", "", false},
		{"the SDK's variables switch them on", "", "when_supported", true},
		{"the URL takes precedence over the variables", "&checksum=when-supported", "when_required", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("AWS_REQUEST_CHECKSUM_CALCULATION", c.env)
				t.Setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", c.env)
			}
			g := newGate(t, proxyTo(t, endpoint))
			remote := open(t, s3URL("bucket", "k", g.url)+"&path-style=true"+c.query)
			wantFetch(t, remote, publish(t, remote, packed(t, "one")), "one")
			for _, req := range g.take() {
				sent := req.Header.Get("X-Amz-Checksum-Crc32") != "" || req.Header.Get("X-Amz-Trailer") != ""
				asked := req.Header.Get("X-Amz-Checksum-Mode") == "ENABLED"
				if req.Method == http.MethodPut && sent != c.want || req.Method == http.MethodGet && asked != c.want {
					t.Errorf("%s: sent %v, asked for %v, want %v\n%v", req.Method, sent, asked, c.want, req.Header)
				}
			}
		})
	}
}

func TestS3BodyThatFailsItsChecksumIsNotFetched(t *testing.T) {
	awsEnv(t)
	archive := packed(t, "one")
	g := answers(t, 200, map[string]string{"ETag": `"x"`, "X-Amz-Checksum-Crc32": "AAAAAA=="}, string(archive))
	err := open(t, s3URL("b", "k", g.url)+"&checksum=when-supported").Fetch(t.Context(), store.Version{ETag: "x"}, filepath.Join(t.TempDir(), "x"))
	if err == nil || !strings.Contains(err.Error(), "checksum") || errors.Is(err, store.ErrUnsafe) {
		t.Errorf("got %v", err)
	}
}

func TestS3StoreThatIgnoresIfMatchIsCaught(t *testing.T) {
	awsEnv(t)
	g := answers(t, 200, map[string]string{"ETag": `"new"`}, "anything")
	err := open(t, s3URL("b", "k", g.url)).Fetch(t.Context(), store.Version{ETag: "old"}, filepath.Join(t.TempDir(), "x"))
	wantError(t, err, store.ErrChanged, "it is new by now, not old")
	if got := g.take()[0].Header.Get("If-Match"); got != `"old"` {
		t.Errorf("If-Match was %s", got)
	}
}

func TestS3VersionHoldsWhatTheHeaderSays(t *testing.T) {
	awsEnv(t)
	g := answers(t, 200, map[string]string{
		"ETag":             `"5d41402abc4b2a76b9719d911017c592-2"`,
		"X-Amz-Version-Id": "3sL4kqtJlcpXroDTDmJ",
		"Content-Length":   "7",
		"Last-Modified":    "Mon, 02 Jan 2006 15:04:05 GMT",
	}, "")
	v := latest(t, open(t, s3URL("b", "k", g.url)))
	if v.ETag != "5d41402abc4b2a76b9719d911017c592-2" || v.ID != "3sL4kqtJlcpXroDTDmJ" || v.Size != 7 || v.Modified.Unix() != 1136214245 {
		t.Errorf("got %+v", v)
	}
}

func TestS3IsAskedAgainAfterAnErrorOfItsOwn(t *testing.T) {
	awsEnv(t)
	failures := 2
	archive := packed(t, "one")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodHead {
			w.Header().Set("ETag", `"x"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
			return
		}
		if failures--; failures >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if !bytes.Equal(body, archive) {
			t.Errorf("the last try sent %d bytes of %d", len(body), len(archive))
		}
		w.Header().Set("ETag", `"x"`)
	}))
	defer srv.Close()
	if v := publish(t, open(t, s3URL("b", "k", srv.URL)), archive); v.ETag != "x" {
		t.Errorf("got %+v", v)
	}
}
