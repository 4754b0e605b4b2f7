package credentials

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// strict is a store that knows one access key.
type strict struct {
	key      atomic.Value
	requests atomic.Int64
}

var signedBy = regexp.MustCompile(`Credential=([^/]+)/`)

func (s *strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if m := signedBy.FindStringSubmatch(r.Header.Get("Authorization")); m == nil || m[1] != s.key.Load() {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Error><Code>InvalidAccessKeyId</Code></Error>`)
	}
}

func (s *strict) client(t *testing.T) *s3.Client {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	cfg, err := Load(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
}

func TestRedirectsAreBounded(t *testing.T) {
	environment(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Location", r.URL.String())
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	cfg, err := Load(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(server.URL), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t, s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })); err == nil {
		t.Error("no error")
	}
	if n := requests.Load(); n != maxRedirects+1 {
		t.Errorf("%d requests, want %d", n, maxRedirects+1)
	}
}

func get(t *testing.T, c *s3.Client) error {
	t.Helper()
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key")})
	if err == nil {
		out.Body.Close()
	}
	return err
}

// environment is one without credentials but those of the file at the path that it returns.
func environment(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "config"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return path
}

// replace replaces a file as an operator's tool does, by renaming.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func keyOf(name string) string {
	return fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = secret\n", name)
}

func TestChangedCredentialsFileIsUsed(t *testing.T) {
	path := environment(t)
	replace(t, path, keyOf("OLD"))
	s := &strict{}
	s.key.Store("OLD")
	c := s.client(t)
	if err := get(t, c); err != nil {
		t.Fatal(err)
	}

	s.key.Store("NEW")
	if err := get(t, c); err == nil {
		t.Fatal("the store takes the old credentials")
	}
	replace(t, path, "[default]\naws_acc") // half written
	if err := get(t, c); err == nil {
		t.Fatal("half of a file has worked")
	}
	replace(t, path, keyOf("NEW"))
	if err := get(t, c); err != nil {
		t.Errorf("after the file was replaced: %v", err)
	}
}

func TestAFileThatWasNotThereAtFirstIsFound(t *testing.T) {
	path := environment(t)
	s := &strict{}
	s.key.Store("NEW")
	c := s.client(t)
	if err := get(t, c); err == nil {
		t.Fatal("there are no credentials yet")
	}
	replace(t, path, keyOf("NEW"))
	if err := get(t, c); err != nil {
		t.Errorf("after the file was made: %v", err)
	}
}

// What a credential_process gives without a date of expiry is kept for ever by the SDK.
func TestARefusalLoadsTheChainAgain(t *testing.T) {
	environment(t)
	dir := t.TempDir()
	answer := filepath.Join(dir, "answer")
	replace(t, answer, `{"Version": 1, "AccessKeyId": "OLD", "SecretAccessKey": "secret"}`)
	if err := os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte("[default]\ncredential_process = cat "+answer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &strict{}
	s.key.Store("OLD")
	c := s.client(t)
	if err := get(t, c); err != nil {
		t.Fatal(err)
	}

	replace(t, answer, `{"Version": 1, "AccessKeyId": "NEW", "SecretAccessKey": "secret"}`)
	s.key.Store("NEW")
	if err := get(t, c); err == nil {
		t.Fatal("the store takes the old credentials")
	}
	if err := get(t, c); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
}

func TestRefusalsLoadTheChainAtMostOnceInHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		never := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no credentials")
		})
		f := &fresh{chain: never, load: func(context.Context) (aws.CredentialsProvider, error) {
			loads++
			return never, nil
		}}
		for range 600 { // ten minutes
			if _, err := f.Retrieve(t.Context()); err == nil {
				t.Fatal("there are credentials")
			}
			time.Sleep(time.Second)
		}
		if loads != 20 {
			t.Errorf("the chain was loaded %d times in ten minutes", loads)
		}
	})
}
