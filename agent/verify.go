package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// unitLook is the time between looks at units.
const unitLook = time.Second

// Verifier is how a new system proves itself.
type Verifier struct {
	Host    Host
	Machine Machine                     // nil: units are not watched
	Reach   func(context.Context) error // connects anew to the store and the queue; nil: not asked for
	Config  config.Config               // settings of the proof
	Log     *slog.Logger
}

// Verify returns nil when the new system has proved itself: it is what runs, the store and the queue
// are reached from it anew, every check passes, and no unit is failing that ran before. What does not
// hold yet is looked at again until ctx ends.
func (v Verifier) Verify(ctx context.Context, act activation.Journal) error {
	var running nix.System
	err := until(ctx, func() (err error) {
		running, err = v.Host.Current(ctx)
		return err
	})
	switch {
	case err != nil:
		return err
	case running.Path == "":
		return fmt.Errorf("the switch to %s succeeded, but the link to the current system leads nowhere", act.System)
	case running.Path != act.System:
		return fmt.Errorf("the switch to %s succeeded, but %s runs", act.System, running.Path)
	}
	if v.Reach != nil {
		if err := until(ctx, func() error { return v.Reach(ctx) }); err != nil {
			return fmt.Errorf("from the new system, %w", err)
		}
	}
	for _, check := range v.Config.Checks {
		if err := until(ctx, func() error { return try(ctx, check) }); err != nil {
			return fmt.Errorf("check %s: %w", check, err)
		}
	}
	return v.unitsSettle(ctx, act)
}

// until calls what until it returns nil, and returns its last error when ctx ended before.
func until(ctx context.Context, what func() error) error {
	pause := newBackOff(500*time.Millisecond, 10*time.Second)
	var last error
	err := backoff.Retry(func() error {
		err := what()
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err // not that of the end of ctx, where there is another
		}
		return err
	}, backoff.WithContext(pause, ctx))
	if err != nil && last != nil {
		return last
	}
	return err
}

// unitsSettle watches the units for a while: none that ran before may have failed at its end. One
// that is started again and again has until ctx ends to stay up for as long.
func (v Verifier) unitsSettle(ctx context.Context, act activation.Journal) error {
	if v.Machine == nil || len(act.Ran) == 0 {
		return nil // there is no systemd, or it was another boot's
	}
	settled := time.NewTimer(v.Config.Settle())
	defer settled.Stop()
	tick := time.NewTicker(unitLook)
	defer tick.Stop()
	over := false
	var before activation.Failing
	var restless []string // started again when they were looked at last
	var last error        // of the last look
	for {
		now, err := v.Machine.NewlyFailing(ctx, act, v.Config.ExemptUnits)
		if err == nil || ctx.Err() == nil {
			last = err // not that of the end of ctx
		}
		if err == nil {
			if again := restarted(before, now); len(again) > 0 {
				restless, over = again, false
				settled.Reset(v.Config.Settle())
			}
			before = now
		}
		switch {
		case err == nil && over && len(now.Failed) > 0:
			return fmt.Errorf("units failed that ran before: %s", strings.Join(now.Failed, " "))
		case err == nil && over:
			if len(now.New) > 0 {
				v.Log.Warn("units are failing that did not run before; the system is confirmed all the same", "units", strings.Join(now.New, " "))
			}
			return nil
		}
		select {
		case <-settled.C:
			over = true
		case <-tick.C:
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("units could not be looked at: %w", last)
			}
			if len(restless) > 0 {
				return fmt.Errorf("units are restarted again and again that ran before: %s", strings.Join(restless, " "))
			}
			if len(before.Failed) > 0 {
				return fmt.Errorf("units did not settle in the time of the proof; failed that ran before: %s", strings.Join(before.Failed, " "))
			}
			return errors.New("units did not settle in the time of the proof: make verify_timeout_secs larger, or settle_secs smaller")
		}
	}
}

// restarted returns the units that ran before and wait to be started again, or were between two looks.
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
