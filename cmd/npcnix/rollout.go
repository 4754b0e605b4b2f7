package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const rolloutHelp = `Publish a release that hosts take in waves, and take it through them. It is npcnix push with --wave, and has the
flags of npcnix push.

Each wave names hosts by name, by pattern, by the name of their configuration, or as a share of all hosts. A host
is in the first wave that has it. The last wave is 100%. A host that is not admitted keeps what it runs, and its
status is held. Between the waves nothing runs but this command: if it dies, the fleet stays as it is, and
npcnix rollout resume goes on.

A wave passes when all its hosts but --max-missing were healthy with the release for --soak, and the --wave-check
succeeds. It fails when more than --max-failed hosts failed, rolled back or rejected the release, or are unhealthy
with it. Then the rollout is halted: no host
begins any more. With --on-failure revert, all hosts go back to the release that the remote held before. Hosts
that were not heard in the two hours before a step are counted nowhere, unless their record names this publish. A
wave of which nobody is heard does not pass.

The release key signs once, when the rollout begins. --rollout-key signs each step; hosts that have
rollout_signers accept it from these keys alone.

Exit codes: 0 all waves passed, 1 the command failed or was interrupted, 2 wrong usage, 3 a wave failed, 4 a wave
did not pass in time, 5 something else was published, or another command has stopped the rollout.`

func newRolloutCommand(c *common) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "rollout --src DIR --remote URL --sign-key FILE --wave HOSTS...",
		Short: "Publish a release that hosts take in waves",
		Long:  rolloutHelp,
		Example: "  npcnix rollout --src . --remote s3://BUCKET/npcnix/remotes/dev.npcnix --sign-key release-key --wave canary-* --wave 10% --wave 100%\n" +
			"  npcnix rollout resume --remote s3://BUCKET/npcnix/remotes/dev.npcnix --rollout-key rollout-key --signers release-key.pub",
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.plan.waves) == 0 {
				return usageError{errors.New("give --wave HOSTS, once for each wave")}
			}
			return runPush(cmd.Context(), c, o, cmd.Flags())
		},
	}
	o.addFlags(cmd)
	for _, step := range rolloutSteps {
		cmd.AddCommand(newRolloutStepCommand(c, step))
	}
	cmd.AddCommand(newRolloutStatusCommand(c))
	return cmd
}

// A rolloutStep is a command that changes a rollout.
type rolloutStep struct {
	name, short, long string
	runs              bool // it then takes the rollout through its waves
	// next is the step to publish; the same as before for none.
	next func(p release.Progress, waves int) (admitted int, state release.Rollout, err error)
}

var errReverted = errors.New("the rollout was reverted: publish the release again")

var rolloutSteps = []rolloutStep{
	{
		"resume", "Go on with a rollout that was interrupted, paused or halted", "It needs nothing but the remote and the records, and can be run anywhere.", true,
		func(p release.Progress, waves int) (int, release.Rollout, error) {
			switch p.State {
			case release.Reverted:
				return 0, "", errReverted
			case release.Complete:
				return p.Admitted, p.State, nil
			}
			return max(p.Admitted, 1), release.Running, nil
		},
	},
	{
		"promote", "Admit the next wave without waiting for the present one", "", false,
		func(p release.Progress, waves int) (int, release.Rollout, error) {
			switch {
			case p.State == release.Reverted:
				return 0, "", errReverted
			case p.Admitted == waves:
				return waves, release.Complete, nil
			}
			return p.Admitted + 1, release.Running, nil
		},
	},
	{
		"pause", "Have no further host take the release, until npcnix rollout resume", "Hosts that run the release keep it.", false,
		func(p release.Progress, waves int) (int, release.Rollout, error) {
			if p.State == release.Running {
				return p.Admitted, release.Paused, nil
			}
			return 0, "", fmt.Errorf("the rollout is %s: only one that is running can be paused", p.State)
		},
	},
	{
		"abort", "Halt a rollout: no further host takes the release", "Hosts that run the release keep it; npcnix rollout revert has them go back.", false,
		func(p release.Progress, waves int) (int, release.Rollout, error) {
			if p.State == release.Running || p.State == release.Paused {
				return p.Admitted, release.Halted, nil
			}
			return 0, "", fmt.Errorf("the rollout is %s: there is nothing to halt", p.State)
		},
	},
	{
		"revert", "Have all hosts go back to the release before", `Hosts that ran the release before go back to the system that they ran then, and evaluate nothing. Others fetch
the system that the plan names for them. It needs no release key.`, false,
		func(p release.Progress, waves int) (int, release.Rollout, error) {
			return p.Admitted, release.Reverted, nil
		},
	},
}

type rolloutOptions struct {
	remote         remoteFlags
	waves          waveFlags
	signers        string
	rolloutSigners string
	required       int
	asJSON         bool
	junit          string
	force          bool
}

const rolloutTrust = `

The remote's release must be signed by one of the keys in --signers. Without that flag, it must be by --rollout-key.
How far the rollout has come must be signed by one of these or of --rollout-signers. Otherwise --force signs a step
that is above every earlier one, and begins with no wave admitted.`

func newRolloutStepCommand(c *common, step rolloutStep) *cobra.Command {
	var o rolloutOptions
	cmd := &cobra.Command{
		Use:   step.name + " --remote URL --rollout-key FILE",
		Short: step.short,
		Long:  strings.TrimSpace(step.short + ".\n\n" + step.long + rolloutTrust),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRolloutStep(cmd.Context(), c, o, step, cmd.Flags())
		},
	}
	o.addFlags(cmd)
	if step.runs {
		o.waves.addFlags(cmd.Flags())
		cmd.Flags().StringVar(&o.junit, "junit", "", junitHelp)
	} else {
		o.waves.addKeyFlag(cmd.Flags())
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "also if your keys do not vouch for how far the rollout has come, or a newer version cannot be read")
	cmd.Flags().Lookup("rollout-key").Usage = "key to sign the rollout's progress with: a file, agent:FINGERPRINT, or awskms:ARN (repeatable)"
	_ = cmd.MarkFlagRequired("rollout-key")
	return cmd
}

func (o *rolloutOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.signers, "signers", "", "file of public keys that the release must be signed by")
	cmd.Flags().IntVar(&o.required, "signers-required", 1, signersRequiredHelp)
	cmd.Flags().StringVar(&o.rolloutSigners, "rollout-signers", "", rolloutSignersHelp)
	o.remote.addFlags(cmd.Flags(), "remote that holds the rollout; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
}

// open opens the rollout that the remote holds.
func (o *rolloutOptions) open(ctx context.Context, c *common, options func(*store.Remote, *publish.Publisher) (rollout.Options, error)) (*rollout.Rollout, func(), error) {
	remote, err := o.remote.open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	keys, err := readSigners("signers", o.signers)
	if err != nil {
		return nil, nil, err
	}
	rolloutKeys, err := readSigners("rollout-signers", o.rolloutSigners)
	if err != nil {
		return nil, nil, err
	}
	p, err := publish.Open(ctx, publish.Options{Remote: remote.Name(), Signers: keys, Required: o.required, RolloutSigners: rolloutKeys, RolloutKeyNames: o.waves.rolloutKeys, Log: c.log})
	if err != nil {
		return nil, nil, keyError(err)
	}
	done := func() { _ = p.Close() }
	ro, err := options(remote, p)
	if err == nil {
		var r *rollout.Rollout
		if r, err = rollout.Open(ctx, ro); err == nil {
			return r, done, nil
		}
	}
	done()
	return nil, nil, err
}

func runRolloutStep(ctx context.Context, c *common, o rolloutOptions, step rolloutStep, flags *pflag.FlagSet) error {
	r, done, err := o.open(ctx, c, func(remote *store.Remote, p *publish.Publisher) (rollout.Options, error) {
		if step.runs {
			ro, err := o.waves.options(c, remote, p)
			ro.Unvouched = o.force
			return ro, err
		}
		return rollout.Options{Remote: remote, Publisher: p, Unvouched: o.force, Say: func(line string) { c.log.Info(line) }}, nil
	})
	if err != nil {
		return err
	}
	defer done()
	if step.runs {
		if err := o.waves.bound(time.Duration(r.Manifest().Rollout.Soak)*time.Second, flags); err != nil {
			return err
		}
		r.WaveTimeout = o.waves.timeout
	}
	before := r.Progress()
	admitted, state, err := step.next(before, len(r.Manifest().Rollout.Waves))
	if err != nil {
		return err
	}
	if admitted != before.Admitted || state != before.State || before.Step == 0 {
		if err := r.Step(ctx, admitted, state); err != nil {
			return rolloutCode(err)
		}
	}
	if step.runs {
		return runRollout(ctx, c, r, o.junit)
	}
	return nil
}

const rolloutStatusHelp = `Show how far a rollout has come, and where each host stands. It changes nothing.

The remote's release must be signed by one of the keys in --signers.`

func newRolloutStatusCommand(c *common) *cobra.Command {
	var o rolloutOptions
	cmd := &cobra.Command{
		Use:   "status --remote URL --signers FILE",
		Short: "Show how far a rollout has come",
		Long:  rolloutStatusHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runRolloutStatus(cmd.Context(), c, o) },
	}
	o.addFlags(cmd)
	_ = cmd.MarkFlagRequired("signers")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return cmd
}

func runRolloutStatus(ctx context.Context, c *common, o rolloutOptions) error {
	r, done, err := o.open(ctx, c, func(remote *store.Remote, p *publish.Publisher) (rollout.Options, error) {
		return rollout.Options{Remote: remote, Publisher: p, Unvouched: true}, nil
	})
	if err != nil {
		return err
	}
	defer done()
	tally, err := r.Look(ctx)
	if err != nil {
		return err
	}
	p, m := r.Progress(), r.Manifest()
	if o.asJSON {
		return c.printJSON(struct {
			Release  string          `json:"release"`
			Rev      string          `json:"rev,omitempty"`
			Waves    [][]string      `json:"waves"`
			Step     int64           `json:"step"`
			Admitted int             `json:"admitted"`
			State    release.Rollout `json:"state"`
			Hosts    []rollout.Host  `json:"hosts"`
		}{m.Release, m.Source.Rev, m.Rollout.Waves, p.Step, p.Admitted, p.State, tally.Hosts})
	}
	return c.print("%s", describeRollout(m, p, tally))
}

// describeRollout shows a rollout to a person.
func describeRollout(m *release.Manifest, p release.Progress, t rollout.Tally) string {
	var l lines
	l.add("release", "%s", publish.Short(m))
	l.add("state", "%s, step %d, %d of %d waves admitted", p.State, p.Step, p.Admitted, len(m.Rollout.Waves))
	if base := m.Rollout.Base; base != nil {
		l.add("base", "%s", base.Release[:12])
	} else {
		l.add("base", "none: the rollout cannot be reverted")
	}
	for i, wave := range m.Rollout.Waves {
		l.add(fmt.Sprintf("wave %d", i+1), "%s: %s", fleet.Clean(strings.Join(wave, ",")), t.Wave(i+1))
	}
	for _, h := range t.Hosts {
		if h.Why != "" {
			l.add(fleet.Clean(h.Name), "%s: %s", h.Standing, h.Why)
		}
	}
	return l.String()
}
