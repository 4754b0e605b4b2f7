package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// planned takes the plan from the flags. Flags of a rollout are refused where there is none.
func (o *pushOptions) planned(flags *pflag.FlagSet) error {
	plan, err := o.plan.plan()
	if err != nil {
		return err
	}
	if plan == nil {
		return o.waves.withoutPlan(flags)
	}
	if err := o.waves.bound(o.plan.soak, flags); err != nil {
		return err
	}
	if len(o.release.keys) == 0 {
		return usageError{errors.New("a plan of waves is signed: give --sign-key FILE")}
	}
	o.release.plan, o.release.rolloutKeys = plan, o.waves.rolloutKeys

	return nil
}

// withoutPlan returns a usage error for flags that mean nothing without a plan.
func (f *waveFlags) withoutPlan(flags *pflag.FlagSet) error {
	var own pflag.FlagSet
	new(waveFlags).addFlags(&own)
	new(planFlags).addFlags(&own)

	return refuse(flags, &own, "goes with --wave")
}

// refuse returns a usage error if one of the flags in own was given. What the environment gives is for all commands.
func refuse(flags, own *pflag.FlagSet, why string) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		if own.Lookup(flag.Name) != nil && os.Getenv(variable(flag.Name)) == "" && err == nil {
			err = usageError{fmt.Errorf("--%s %s", flag.Name, why)}
		}
	})

	return err
}

// checkWaves says how many of the hosts that were heard lately each wave has. A first wave without a host would
// pass at once, and is refused.
func (o *pushOptions) checkWaves(ctx context.Context, c *common, remote *store.Remote, p *publish.Publisher) error {
	plan := o.release.plan
	if plan == nil {
		return nil
	}
	if _, err := o.waves.options(c, remote, p); err != nil {
		return err
	}
	records, err := fleet.Heard(ctx, remote, time.Now().Add(-fleet.StaleAfter))
	if err != nil {
		return fmt.Errorf("the hosts of the waves cannot be determined: %w", err)
	}
	records = followers(records, remote)
	hosts := make([][]string, len(plan.Waves)+1)
	for _, r := range records {
		wave := plan.Wave(r.Host, r.Configuration)
		hosts[wave] = append(hosts[wave], r.Host)
	}
	for i, names := range hosts[1:] {
		c.log.Info("a wave", "number", i+1, "hosts", len(names), "names", listed(names))
	}
	if len(hosts[1]) == 0 {
		return usageError{fmt.Errorf("nothing was published: no host that was heard in the last %s is in the first wave, %q; known: %s", fleet.StaleAfter, o.plan.waves[0], fleet.Hosts(len(records)))}
	}

	return nil
}

// takeThroughWaves goes on with the rollout of m, which was just published.
func (o *pushOptions) takeThroughWaves(ctx context.Context, c *common, remote *store.Remote, p *publish.Publisher, m *release.Manifest) error {
	options, err := o.waves.options(c, remote, p)
	if err != nil {
		return err
	}
	options.Of = m
	r, err := rollout.Open(ctx, options)
	if err != nil {
		return rolloutCode(err)
	}

	return runRollout(ctx, c, r, o.waiting.junit)
}
