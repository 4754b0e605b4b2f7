package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix/activation"
)

// unitLook is the time between two looks at the units.
const unitLook = time.Second

// watched is the time for which units are watched after a switch, and what was seen of them so far.
type watched struct {
	looks
	until time.Time
}

// watchUnits has the units watched from now on, for settle_secs.
func (v Verifier) watchUnits(ctx context.Context, j activation.Journal) watched {
	q := watched{until: time.Now().Add(v.Config.SettleTime())}
	if v.watches(j) {
		now, err := v.Units.NewlyFailing(ctx, j, v.Config.ExemptUnits)
		q.add(ctx, now, err)
	}

	return q
}

func (v Verifier) watches(j activation.Journal) bool { return v.Units != nil && len(j.Ran) > 0 } // there is systemd

// unitsSettle waits until settle_secs are over: no unit that ran before may have failed then. A unit that is not
// up, or restarted again and again, has until ctx ends to stay up for settle_secs. The warning is what is worth
// telling of them.
func (v Verifier) unitsSettle(ctx context.Context, j activation.Journal, q watched) (warning string, err error) {
	if !v.watches(j) {
		return v.verdict(j, activation.Failing{})
	}

	pause := time.Until(q.until)
	for {
		select {
		case <-time.After(min(pause, unitLook)):
		case <-ctx.Done():
			return "", q.timeUp()
		}

		over := !time.Now().Before(q.until)
		now, err := v.Units.NewlyFailing(ctx, j, v.Config.ExemptUnits)
		if q.add(ctx, now, err) {
			over = false
			q.until = time.Now().Add(v.Config.SettleTime())
		}
		if err == nil && over {
			return v.verdict(j, now)
		}

		pause = time.Until(q.until)
		if over {
			pause = unitLook // this look failed
		}
	}
}

// verdict is what the units say at the end of the settle_secs: an error, or what is worth telling of a system that
// is verified.
func (v Verifier) verdict(j activation.Journal, now activation.Failing) (warning string, err error) {
	if len(now.Failed) > 0 {
		return "", fmt.Errorf("units failed that ran before: %s", strings.Join(now.Failed, " "))
	}
	if len(now.New) > 0 {
		v.Log.Warn("units fail that did not run before; the system is committed all the same", "units", strings.Join(now.New, " "))
	}

	return worthTelling(j, now), nil
}

// worthTelling says which units fail that did not run before the switch, and whether NixOS found any, and which mounts
// stay; "" where there are none.
func worthTelling(j activation.Journal, now activation.Failing) string {
	var said []string
	switch {
	case len(now.New) > 0:
		said = append(said, "units fail that did not run before: "+strings.Join(now.New, " "))
	case j.UnitsFailed():
		said = append(said, "switch-to-configuration reported failed units")
	}
	if len(now.Left) > 0 {
		said = append(said, "mounts that the new system does not have are busy and stay: "+strings.Join(now.Left, " "))
	}

	return strings.Join(said, "; ")
}

// looks is what was seen of the units so far.
type looks struct {
	last     activation.Failing
	restless []string // restarted when last looked at
	err      error    // of the last look
}

// add takes note of a look, and reports whether units were restarted since the one before.
func (l *looks) add(ctx context.Context, now activation.Failing, err error) bool {
	if err == nil || ctx.Err() == nil {
		l.err = err // not that of the end of ctx
	}
	if err != nil {
		return false
	}

	again := restarted(l.last, now)
	l.last = now
	if len(again) == 0 {
		return false
	}
	l.restless = again

	return true
}

// timeUp is why the system is not verified when its time is up.
func (l *looks) timeUp() error {
	switch {
	case l.err != nil:
		return fmt.Errorf("units could not be looked at: %w", l.err)
	case len(l.restless) > 0:
		return fmt.Errorf("units that ran before do not stay up: %s", strings.Join(l.restless, " "))
	case len(l.last.Failed) > 0:
		return fmt.Errorf("units did not settle in the time for verification; failed that ran before: %s", strings.Join(l.last.Failed, " "))
	}

	return errors.New("units did not settle in the time for verification: make verify_timeout_secs larger, or settle_secs smaller")
}

// restarted returns the units that ran before the switch and wait to be restarted, or were restarted
// between two looks.
func restarted(before, now activation.Failing) []string {
	again := slices.Clone(now.Restarting)
	for name, times := range now.Restarts {
		if was, seen := before.Restarts[name]; seen && was != times && !slices.Contains(again, name) {
			again = append(again, name)
		}
	}
	slices.Sort(again)

	return again
}
