// Package verify decides whether a new system works: it runs, the store and the queue are reached from
// it, the operator's checks pass, and no unit is worse off than before the switch.
package verify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// Host says which system runs. *activation.Coordinator serves.
type Host interface {
	// Current returns the system that runs; zero if that cannot be told.
	Current(ctx context.Context) (nix.System, error)
}

// Units says how systemd's units are. *activation.Coordinator serves.
type Units interface {
	// NewlyFailing returns the units that are failing and were not before an activation, but for those
	// that match one of the patterns of exempt.
	NewlyFailing(ctx context.Context, j activation.Journal, exempt []string) (activation.Failing, error)
}

// Verifier verifies a new system.
type Verifier struct {
	Host  Host
	Units Units                       // nil: units are not watched
	Reach func(context.Context) error // connects to the store and the queue with new connections; nil: not asked for
	// Trusted checks that the new system would accept its own release; nil: not asked for.
	Trusted func(context.Context) error
	Config  config.Config // has the checks and the bounds
	Log     *slog.Logger
}

// Verify returns no error when the system of j is verified, and what is worth telling of it. What does not hold yet is
// looked at again until ctx ends. The settle_secs begin at once: units settle while the rest is verified.
func (v Verifier) Verify(ctx context.Context, j activation.Journal) (warning string, err error) {
	if err := v.runs(ctx, j); err != nil {
		return "", err
	}
	units := v.watchUnits(ctx, j)

	if v.Reach != nil {
		if err := until(ctx, func() error { return v.Reach(ctx) }); err != nil {
			return "", fmt.Errorf("from the new system, %w", err)
		}
	}

	if v.Trusted != nil {
		if err := until(ctx, func() error { return v.Trusted(ctx) }); err != nil {
			return "", err
		}
	}

	for _, check := range v.Config.Checks {
		if err := until(ctx, func() error { return try(ctx, check) }); err != nil {
			return "", fmt.Errorf("check %s: %w", check, err)
		}
	}

	return v.unitsSettle(ctx, j, units)
}

// runs checks that the system of j is the one that runs.
func (v Verifier) runs(ctx context.Context, j activation.Journal) error {
	var running nix.System
	err := until(ctx, func() (err error) {
		running, err = v.Host.Current(ctx)
		return err
	})

	switch {
	case err != nil:
		return err
	case running.Path == "":
		return fmt.Errorf("the switch to %s succeeded, but the link to the current system leads nowhere", j.System)
	case running.Path != j.System:
		return fmt.Errorf("the switch to %s succeeded, but %s runs", j.System, running.Path)
	}

	return nil
}

// until calls what until it returns nil, and returns its last error when ctx ended before.
func until(ctx context.Context, what func() error) error {
	pause := wait.NewBackOff(500*time.Millisecond, 10*time.Second)
	var last error

	err := backoff.Retry(func() error {
		err := what()
		if err != nil && (last == nil || ctx.Err() == nil) {
			last = err // not that of the end of ctx, if there is another
		}
		return err
	}, backoff.WithContext(pause, ctx))
	if err != nil && last != nil {
		return last
	}

	return err
}
