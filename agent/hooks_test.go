package agent

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
)

func TestHooks(t *testing.T) {
	t.Run("a long error is told in part", func(t *testing.T) {
		// Not in a bubble: a hook is a process.
		r := newRig(t)
		out := r.dir.Path("told")
		r.configure(func(c *config.Config) {
			c.RetryDelaysSecs = []int64{}
			c.Hooks.OnFailure = []string{"/bin/sh", "-c", `printf %s "$NPCNIX_ERROR" >"$0"`, out}
		})
		r.opts.Once, r.opts.Queue = OnceAny, nil
		r.host.activate = func() error { return errors.New("check web: " + strings.Repeat("é", 300_000)) }
		r.start()
		<-r.done
		r.stop()
		told, err := os.ReadFile(out)
		if err != nil || !strings.Contains(string(told), "check web: é") || !strings.HasSuffix(string(told), "é…") || len(told) > 16<<10 {
			t.Errorf("told %d bytes: %.100s, %v", len(told), told, err)
		}
	})
}

func TestHooksHaveNoCredentials(t *testing.T) {
	// The names are those of the AWS SDK and systemd, and not the program's own list.
	names := []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "CREDENTIALS_DIRECTORY",
	}
	for _, name := range names {
		t.Setenv(name, "/hunter2-"+name)
	}
	t.Setenv("AWS_REGION", "eu-west-1")
	for _, pass := range []bool{false, true} {
		r := newRig(t)
		out := r.dir.Path("told")
		r.configure(func(c *config.Config) {
			c.Hooks.PostActivate, c.Hooks.PassCredentials = []string{"/bin/sh", "-c", `env >"$0"`, out}, pass
		})
		r.opts.Once, r.opts.Queue = OnceAny, nil
		r.start()
		<-r.done
		r.stop()
		told, err := os.ReadFile(out)
		if err != nil || !strings.Contains(string(told), "AWS_REGION=eu-west-1\n") {
			t.Errorf("with pass_credentials %v, the hook has no region: %v", pass, err)
		}
		for _, name := range names {
			if has := strings.Contains(string(told), "/hunter2-"+name+"\n"); has != pass {
				t.Errorf("with pass_credentials %v, the hook has %s: %v", pass, name, has)
			}
		}
	}
}
