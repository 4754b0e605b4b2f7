package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/nix/activation"
)

// Look looks once at a system that was verified and committed: its checks pass, and no unit has failed, or is
// restarted again and again, that ran before the switch j.
func (v Verifier) Look(ctx context.Context, j activation.Journal) error {
	for _, check := range v.Config.Checks {
		if err := try(ctx, check); err != nil {
			return fmt.Errorf("check %s: %w", check, err)
		}
	}
	if v.Units == nil || len(j.Ran) == 0 {
		return nil
	}

	now, err := v.Units.NewlyFailing(ctx, j, v.Config.ExemptUnits)
	if err != nil {
		return fmt.Errorf("units could not be looked at: %w", err)
	}
	if bad := slices.Concat(now.Failed, now.Restarting); len(bad) > 0 {
		return fmt.Errorf("units failed that ran before: %s", strings.Join(bad, " "))
	}

	return nil
}
