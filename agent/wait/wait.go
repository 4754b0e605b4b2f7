// Package wait has the pauses of an agent: every one ends with its context, and every one that repeats
// is spread at random so that a fleet does not move in step.
package wait

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// NewBackOff returns growing pauses, ±50 %, from first to most, without an end.
func NewBackOff(first, most time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMaxInterval(most),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0))
}

// For waits for d or the end of ctx.
func For(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Grace returns a context that outlives ctx by the given time.
func Grace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		For(longer, grace)
		cancel()
	})

	return longer, func() { stop(); cancel() }
}

// Jitter spreads d evenly over ±part of it.
func Jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}
