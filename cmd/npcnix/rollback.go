package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
)

const rollbackHelp = `Publish an earlier release again: the same packed flake and systems, with a higher serial and your signature. Hosts
take it as any publish. It comes from the versions that the bucket keeps; npcnix history prints them.

Without --to it is the previous release: of those below the one that the remote holds now, the one with the highest
serial that all hosts were to take. If the remote holds no release, it is the newest one. After a rollback, that is
the release that you went back from: name the one that you want.

First it prints what will run on which hosts, and asks. With --wave, the hosts take it in waves: see npcnix rollout.
Only a release counts that one of the keys, or of the signers in --signers, has signed.

Exit codes: 0 published, or the remote holds that release already; 1 failed, or the answer was no; 2 wrong usage, or
nobody can be asked; 5 another publish came first. With --wait or --wave also those of npcnix wait or rollout.`

type rollbackOptions struct {
	push     pushOptions
	to       string
	yes      bool
	versions int
}

func newRollbackCommand(c *common) *cobra.Command {
	var o rollbackOptions
	cmd := &cobra.Command{
		Use:   "rollback --remote URL --sign-key FILE [--to RELEASE]",
		Short: "Publish an earlier release again",
		Long:  rollbackHelp,
		Example: "  npcnix rollback --remote s3://BUCKET/npcnix/remotes/dev.npcnix --sign-key release-key\n" +
			"  npcnix rollback --remote s3://BUCKET/npcnix/remotes/dev.npcnix --sign-key release-key --to 1c0ffee --wave canary-* --wave 100%",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRollback(cmd.Context(), c, o, cmd.Flags()) },
	}
	o.push.addAgainFlags(cmd)
	flags := cmd.Flags()
	o.push.remote.addFlags(flags, "remote to publish to; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
	flags.StringVar(&o.to, "to", "", "serial, or how the release's name or its revision begins (default: the previous release)")
	addVersionsFlag(flags, &o.versions)
	flags.BoolVar(&o.push.force, "force", false, "publish even if the caches lack systems of the release")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

// addAgainFlags adds the flags of a command that publishes a release again.
func (o *pushOptions) addAgainFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.release.addKeyFlags(flags)
	flags.Lookup("expires").Usage = "time after which no host begins to activate the release (default: as long as before)"
	flags.StringVar(&o.release.message, "message", "", "what changed, shown to people (default: what was said of that release)")
	flags.BoolVar(&o.lockOut, "allow-lock-out", false, "publish even if a host would refuse the keys that sign")
	o.plan.addFlags(flags)
	o.waves.addFlags(flags)
	flags.BoolVar(&o.wait, "wait", false, "then wait until the hosts run it; the flags of npcnix wait go with it")
	o.waiting.addFlags(flags)
	_ = cmd.MarkFlagRequired("sign-key")
	cmd.MarkFlagsMutuallyExclusive("wave", "wait")
}

func runRollback(ctx context.Context, c *common, o rollbackOptions, flags *pflag.FlagSet) error {
	if err := checkVersions(o.versions); err != nil {
		return err
	}
	p, err := o.push.begin(ctx, c, flags)
	if err != nil {
		return err
	}
	defer p.done()
	last, err := p.publisher.Last(ctx, p.remote)
	if err != nil {
		return err
	}
	h, err := p.publisher.History(ctx, p.remote, o.versions)
	if err != nil {
		return err
	}
	present := ""
	if last.Release != nil {
		present = last.Release.Release
	}
	past, err := h.Previous(present)
	if o.to != "" {
		past, err = h.Find(o.to)
	}
	if err != nil {
		return fmt.Errorf("nothing was published: %w%s", err, map[bool]string{true: "; --versions reads more of the older versions"}[h.More])
	}
	if published, err := p.publisher.Published(ctx, p.remote, last, past.Release.Manifest); err != nil {
		return err
	} else if published {
		c.log.Info("the remote holds this release already; nothing was published", "release", publish.Short(past.Release.Manifest))
		return nil
	}
	if err := o.push.checkCached(ctx, c, p.publisher, past.Release.Manifest); err != nil {
		return err
	}
	if p.publisher.Source.Message == "" {
		p.publisher.Source.Message = restated("rollback", past.Release.Source.Message)
	}
	if err := announce(ctx, c, p.remote, "Roll back", last, past.Release); err != nil {
		return err
	}
	if err := confirm(ctx, c, o.yes, "Publish it?"); err != nil {
		return err
	}

	var from []place
	for _, v := range past.Versions {
		from = append(from, place{p.remote.At(v), v})
	}

	return o.push.publishAgain(ctx, c, p, from, past.Release, last, max(h.Serial(), serialOf(last)))
}

func serialOf(last publish.Last) int64 {
	if last.Release == nil {
		return 0
	}
	return last.Release.Serial
}
