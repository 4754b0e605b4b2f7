package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
)

// A wave that failed is told first, whatever else came of it: a rollout that was overtaken before it could be halted.
func TestRolloutCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.Join(rollout.ErrHosts, rollout.ErrOvertaken), exitHosts},
		{errors.Join(fmt.Errorf("x: %w", rollout.ErrTime), rollout.ErrOvertaken), exitTime},
		{rollout.ErrStopped, exitSuperseded},
	} {
		for range 20 {
			if got, ok := errors.AsType[exitError](rolloutCode(c.err)); !ok || got.code != c.want {
				t.Fatalf("%v: %v, want %d", c.err, got, c.want)
			}
		}
	}
}
