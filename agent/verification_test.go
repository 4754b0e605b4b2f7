package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/verify"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// unsure answers with an error as long as it lasts, since verification began.
type unsure struct {
	Host
	Machine
	current, units time.Duration
	begun          time.Time
}

var errUnsure = errors.New("cannot fork")

func (u *unsure) Current(ctx context.Context) (nix.System, error) {
	if time.Since(u.begun) < u.current {
		return nix.System{}, errUnsure
	}
	return u.Host.Current(ctx)
}

func (u *unsure) NewlyFailing(ctx context.Context, act activation.Journal, exempt []string) (activation.Failing, error) {
	if time.Since(u.begun) < u.units {
		return activation.Failing{}, errUnsure
	}
	return u.Machine.NewlyFailing(ctx, act, exempt)
}

func TestVerification(t *testing.T) {
	t.Run("what cannot be looked at is looked at again", func(t *testing.T) {
		for _, c := range []struct {
			name           string
			confirm        time.Duration
			current, units time.Duration // that it cannot be told what runs, and what fails
			failing        []activation.Failing
			why            string // "": it is verified
		}{
			{"at once", time.Minute, 0, 0, nil, ""},
			{"what runs cannot be told for a while", time.Minute, 20 * time.Second, 0, nil, ""},
			{"nor ever", time.Minute, time.Hour, 0, nil, "cannot fork"},
			{"units cannot be looked at for a while", time.Minute, 0, 20 * time.Second, nil, ""},
			{"nor ever", time.Minute, 0, time.Hour, nil, "units could not be looked at: cannot fork"},
			{"a unit failed that could not be looked at", time.Minute, 0, 20 * time.Second, []activation.Failing{{Failed: []string{"web.service"}}}, "units failed that ran before: web.service"},
			{"a unit is started again and again", 10 * time.Second, 0, 0, []activation.Failing{{Restarting: []string{"web.service"}}}, "units that ran before do not stay up: web.service"},
			{"units change until the time is up", 3 * time.Second, 0, 0, nil, "units did not settle in the time for verification: make verify_timeout_secs larger"},
			{"so do those that failed", 3 * time.Second, 0, 0, []activation.Failing{{Failed: []string{"web.service"}}}, "units did not settle in the time for verification; failed that ran before: web.service"},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				u := &unsure{&fakeHost{trace: &trace{}, running: "/s"}, &fakeMachine{trace: &trace{}, failing: c.failing}, c.current, c.units, time.Now()}
				ctx, cancel := context.WithTimeout(t.Context(), c.confirm)
				defer cancel()
				v := verify.Verifier{Host: u, Units: u, Config: config.Default(), Log: slog.New(slog.DiscardHandler)}
				_, err := v.Verify(ctx, activation.Journal{System: "/s", Ran: []string{"web.service"}})
				if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
					t.Errorf("error %v, want %q", err, c.why)
				}
			})
		}
	})

	t.Run("units settle while the rest is verified", func(t *testing.T) {
		up := func(restarts string) activation.Failing {
			return activation.Failing{Restarts: map[string]string{"web.service": restarts}}
		}
		for _, c := range []struct {
			name     string
			reaching time.Duration
			failing  []activation.Failing // as it is at each look
			took     time.Duration
		}{
			{"at once", 0, []activation.Failing{up("0")}, 5 * time.Second},
			{"for a part of the time", 3 * time.Second, []activation.Failing{up("0")}, 5 * time.Second},
			{"for longer", time.Minute, []activation.Failing{up("0")}, time.Minute},
			{"for longer, as a unit is restarted", time.Minute, []activation.Failing{up("0"), up("1")}, time.Minute + 5*time.Second},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				begun := time.Now()
				u := &unsure{&fakeHost{trace: &trace{}, running: "/s"}, &fakeMachine{trace: &trace{}, failing: c.failing}, 0, 0, begun}
				v := verify.Verifier{Host: u, Units: u, Config: config.Default(), Log: slog.New(slog.DiscardHandler),
					Reach: func(context.Context) error { time.Sleep(c.reaching); return nil }}
				if _, err := v.Verify(t.Context(), activation.Journal{System: "/s", Ran: []string{"web.service"}}); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != c.took {
					t.Errorf("took %s, want %s", took, c.took)
				}
			})
		}
	})

	t.Run("of a verified system is told what fails", func(t *testing.T) {
		inBubble(t, "at the last look", func(t *testing.T) {
			sad := activation.Failing{New: []string{"new.service (failed)"}, Left: []string{"mnt.mount"}}
			u := &unsure{&fakeHost{trace: &trace{}, running: "/s"}, &fakeMachine{trace: &trace{}, failing: []activation.Failing{{}, sad}}, 0, 0, time.Now()}
			v := verify.Verifier{Host: u, Units: u, Config: config.Default(), Log: slog.New(slog.DiscardHandler)}
			warning, err := v.Verify(t.Context(), activation.Journal{System: "/s", Ran: []string{"web.service"}})
			if want := "units fail that did not run before: new.service (failed); mounts that the new system does not have are busy and stay: mnt.mount"; err != nil || warning != want {
				t.Errorf("%q, %v", warning, err)
			}
		})
	})

	t.Run("an outage of AWS's own is no fault of the version's", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			err    error
			change func(*config.Config) // that the new system makes of the settings
			rolls  bool                 // back
		}{
			{"the store answers 500", answered(500, "InternalError", "id"), nil, false},
			{"the queue answers 503", answered(503, "ServiceUnavailable", "id"), nil, false},
			{"the queue was deleted", answered(400, "QueueDoesNotExist", "id"), nil, false},
			{"the queue was deleted, by its older code", answered(400, "AWS.SimpleQueueService.NonExistentQueue", "id"), nil, false},
			{"the store does not know what is asked for", answered(501, "NotImplemented", "id"), nil, true},
			{"the store does not know the version of HTTP", answered(505, "HTTPVersionNotSupported", "id"), nil, true},
			{"a proxy answers 502", answered(502, "", ""), nil, true},
			{"the credentials are refused", answered(403, "InvalidAccessKeyId", "id"), nil, true},
			{"nobody answers", errors.New("connection refused"), nil, true},
			{"both answer 503", errors.Join(answered(503, "ServiceUnavailable", "id"), answered(503, "ServiceUnavailable", "id")), nil, false},
			{"the store answers 503, and nobody answers for the queue", errors.Join(answered(503, "ServiceUnavailable", "id"), errors.New("connection refused")), nil, true},
			{"the object is gone, and nobody answers for the queue", errors.Join(store.ErrNotFound, errors.New("connection refused")), nil, true},
			{"the region that it brings answers 500", answered(500, "InternalError", "id"), func(c *config.Config) { c.RemoteRegion = "eu-west-3" }, true},
			{"the credentials that it brings get a 500", answered(500, "InternalError", "id"), func(c *config.Config) { c.RemoteCredentialsFile = "/other" }, true},
			{"the store that it brings answers 500", answered(500, "InternalError", "id"), func(c *config.Config) { c.Remote = "s3://elsewhere/dev.npcnix" }, true},
			{"the queue that it brings is not there", answered(400, "QueueDoesNotExist", "id"), func(c *config.Config) { c.QueueURL = "https://elsewhere" }, true},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t)
				r.opts.Once, r.opts.Queue = OnceAny, nil
				r.opts.Reach = func(context.Context, config.Config, bool) error { return c.err }
				switched := false
				r.opts.Override = func(config config.Config) (config.Config, error) {
					if switched && c.change != nil {
						c.change(&config)
					}
					return config, nil
				}
				r.host.activate = func() error { switched = true; return nil }
				r.start()
				if err := <-r.done; (err != nil) != c.rolls {
					t.Errorf("error %v", err)
				}
				if s := r.state(); (s.Failure != nil && s.Failure.RolledBack) != c.rolls {
					t.Errorf("state: %+v", s)
				}
				r.stop()
			})
		}
	})

	t.Run("a system is verified by the settings that it brings", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			change func(*config.Config)
			reach  func(config.Config, bool) error
			why    string
		}{
			{"a check that it brings fails", func(c *config.Config) {
				c.VerifyTimeoutSecs = 10
				c.Checks = []config.Check{{Name: "own", Command: []string{"/bin/false"}}}
			}, nil, "check own: "},
			{"the remote that it brings cannot be reached", func(c *config.Config) { c.Remote = "s3://elsewhere/dev.npcnix" }, func(c config.Config, _ bool) error {
				if c.Remote != testRemote {
					return errors.New("no such bucket")
				}
				return nil
			}, "from the new system, no such bucket"},
			{"the queue that it brings cannot be reached", func(c *config.Config) { c.QueueURL = "https://elsewhere" }, func(c config.Config, queue bool) error {
				if queue && c.QueueURL != "" {
					return errors.New("no such queue")
				}
				return nil
			}, "from the new system, no such queue"},
		} {
			t.Run(c.name, func(t *testing.T) {
				// Not in a bubble: a check is a process.
				r := newRig(t)
				r.opts.Once, r.opts.Queue = OnceAny, nil
				r.opts.Reach = func(_ context.Context, config config.Config, queue bool) error {
					if c.reach == nil {
						return nil
					}
					return c.reach(config, queue)
				}
				settings := r.dir.Path("declared.json")
				r.opts.Override = func(config config.Config) (config.Config, error) {
					if _, err := os.Stat(settings); err == nil {
						c.change(&config)
						config.VerifyTimeoutSecs, config.SettleSecs = 1, new(int64)
					}
					return config, nil
				}
				r.configure(func(c *config.Config) { c.VerifyTimeoutSecs, c.SettleSecs = 1, new(int64) })
				r.host.activate = func() error { return os.WriteFile(settings, nil, 0o600) }
				r.start()
				if err := <-r.done; err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("error %v, want %q", err, c.why)
				}
				if s := r.state(); s.Failure == nil || !s.Failure.RolledBack || s.Applied != nil {
					t.Errorf("state: %+v", s)
				}
				r.stop()
			})
		}
	})
}

// answered is an error as the AWS SDK makes it of an answer.
func answered(status int, code, id string) error {
	return &awshttp.ResponseError{RequestID: id, ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
	}}
}
