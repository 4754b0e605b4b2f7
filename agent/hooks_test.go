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
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/hunter2")
	t.Setenv("CREDENTIALS_DIRECTORY", "/hunter2")
	t.Setenv("AWS_REGION", "eu-west-1")
	for pass, want := range map[bool]int{false: 0, true: 3} {
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
		if n := strings.Count(string(told), "hunter2"); err != nil || n != want || !strings.Contains(string(told), "AWS_REGION=eu-west-1") {
			t.Errorf("with pass_credentials %v, the hook has %d credentials, want %d: %v", pass, n, want, err)
		}
	}
}
