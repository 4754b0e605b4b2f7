package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/verify"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
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

func TestWhatCannotBeLookedAtIsLookedAtAgain(t *testing.T) {
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
		{"there is no time to watch units", 3 * time.Second, 0, 0, nil, "units did not settle in the time for verification: make verify_timeout_secs larger"},
		{"nor for those that failed", 3 * time.Second, 0, 0, []activation.Failing{{Failed: []string{"web.service"}}}, "units did not settle in the time for verification; failed that ran before: web.service"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &unsure{&fakeHost{trace: &trace{}, running: "/s"}, &fakeMachine{trace: &trace{}, failing: c.failing}, c.current, c.units, time.Now()}
				ctx, cancel := context.WithTimeout(t.Context(), c.confirm)
				defer cancel()
				v := verify.Verifier{Host: u, Units: u, Config: config.Default(), Log: slog.New(slog.DiscardHandler)}
				err := v.Verify(ctx, activation.Journal{System: "/s", Ran: []string{"web.service"}})
				if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
					t.Errorf("error %v, want %q", err, c.why)
				}
			})
		})
	}
}
