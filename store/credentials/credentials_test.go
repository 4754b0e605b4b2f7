package credentials

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	cfg, err := Load(t.Context(), config.WithRegion("us-east-1"))
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle, o.BaseEndpoint = true, &server.URL })
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

// Wherever credentials come from, other ones are used once AWS has refused those before.
func TestARefusalLoadsTheChainAgain(t *testing.T) {
	const role = "arn:aws:iam::123456789012:role/host"
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T) (give func(key string)) // makes a source of credentials, which gives those of a key
		watched bool                                       // a change is seen before AWS refuses anything
	}{
		// What a credential_process gives without a date of expiry is kept for ever by the SDK.
		{"of a credential_process", func(t *testing.T) func(string) {
			answer := filepath.Join(t.TempDir(), "answer")
			replace(t, os.Getenv("AWS_CONFIG_FILE"), "[default]\ncredential_process = cat "+answer+"\n")
			return func(key string) {
				replace(t, answer, fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": "secret"}`, key))
			}
		}, false},
		{"of a named profile", func(t *testing.T) func(string) {
			t.Setenv("AWS_PROFILE", "web")
			return func(key string) {
				replace(t, os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), keyOf("OTHER")+strings.Replace(keyOf(key), "default", "web", 1))
			}
		}, true},
		{"of a named profile in the configuration file", func(t *testing.T) func(string) {
			t.Setenv("AWS_PROFILE", "web")
			return func(key string) {
				replace(t, os.Getenv("AWS_CONFIG_FILE"), keyOf("OTHER")+strings.Replace(keyOf(key), "default", "profile web", 1))
			}
		}, true},
		{"of a web identity", func(t *testing.T) func(string) {
			token := filepath.Join(t.TempDir(), "token")
			serve(t, "AWS_ENDPOINT_URL_STS", func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("Action") == "AssumeRoleWithWebIdentity" && r.FormValue("RoleArn") == role {
					fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId>`+
						`<SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>`+
						`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, r.FormValue("WebIdentityToken"))
				}
			})
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
			t.Setenv("AWS_ROLE_ARN", role)
			return func(key string) { replace(t, token, key) }
		}, false},
		{"of an SSO cache", func(t *testing.T) func(string) {
			const start = "https://sso.example.com/start"
			serve(t, "AWS_ENDPOINT_URL_SSO", func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, `{"roleCredentials": {"accessKeyId": %q, "secretAccessKey": "secret", "sessionToken": "token", "expiration": 4102444800000}}`,
					r.Header.Get("x-amz-sso_bearer_token"))
			})
			home := t.TempDir()
			t.Setenv("HOME", home)
			replace(t, os.Getenv("AWS_CONFIG_FILE"), "[default]\nsso_start_url = "+start+"\nsso_region = us-east-1\nsso_account_id = 123456789012\nsso_role_name = host\n")
			cache := filepath.Join(home, ".aws", "sso", "cache")
			if err := os.MkdirAll(cache, 0o700); err != nil {
				t.Fatal(err)
			}
			return func(key string) {
				replace(t, filepath.Join(cache, fmt.Sprintf("%x.json", sha1.Sum([]byte(start)))), fmt.Sprintf(`{"accessToken": %q, "expiresAt": "2100-01-01T00:00:00Z"}`, key))
			}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			environment(t)
			give := c.prepare(t)
			wantFollowed(t, give, c.watched)
		})
	}
}

// wantFollowed fails the test if a client does not use the credentials that a source gives after AWS has refused those
// before. Of a watched source it does so too if nothing was refused.
func wantFollowed(t *testing.T, give func(key string), watched bool) {
	t.Helper()
	give("OLD")
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
	give("NEW")
	if err := get(t, c); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	if !watched {
		return
	}
	give("NEWER")
	s.key.Store("NEWER")
	if err := get(t, c); err != nil {
		t.Errorf("after a change: %v", err)
	}
}

// serve has a server in the place of the one that a variable names to the SDK.
func serve(t *testing.T, variable string, answer http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	t.Setenv(variable, server.URL)
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
