package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

const renewHelp = `Sign the release that the remote holds once more, with a new serial and time. Hosts that run it do nothing but
remember that. The packed flake and the systems stay what they are. So a release that expires stays valid
although nothing changes; run it from a timer.

Without --expires the release is valid for as long as it was before. Only a release that one of the keys, or of
the signers in --signers, has signed is renewed. If it has expired, --force renews it all the same: make sure that it
is still the one that hosts are to run. If the bucket has kept a newer release, the older one was put back, and is not
renewed. If a newer version cannot be read (s3:GetObjectVersion), --force renews it all the same.`

type renewOptions struct {
	remote  remoteFlags
	release releaseFlags
	lockOut bool
	force   bool
	asJSON  bool
}

func newRenewCommand(c *common) *cobra.Command {
	var o renewOptions
	cmd := &cobra.Command{
		Use:     "renew --remote URL --sign-key FILE [--expires TIME]",
		Short:   "Sign the published release once more, before it expires",
		Long:    renewHelp,
		Example: "  npcnix release renew --remote s3://BUCKET/npcnix/remotes/dev.npcnix --sign-key release-key --expires 336h",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runRenew(cmd.Context(), c, o) },
	}
	o.release.addKeyFlags(cmd.Flags())
	cmd.Flags().Lookup("expires").Usage = "time after which no host begins to activate the release (default: as long as before)"
	cmd.Flags().BoolVar(&o.lockOut, "allow-lock-out", false, "publish even if a host would refuse the keys that sign")
	cmd.Flags().BoolVar(&o.force, "force", false, "renew a release that has expired, or that may have replaced a newer one")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object, as npcnix release verify does, instead of the ETag")
	o.remote.addFlags(cmd.Flags(), "remote that holds the release; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
	_ = cmd.MarkFlagRequired("sign-key")
	return cmd
}

func runRenew(ctx context.Context, c *common, o renewOptions) error {
	remote, err := o.remote.open(ctx, c)
	if err != nil {
		return err
	}
	publisher, done, err := o.release.open(ctx, c, remote.Name())
	if err != nil {
		return err
	}
	if publisher == nil {
		return usageError{errors.New("give --sign-key FILE")}
	}
	defer done()
	if err := checkTrust(ctx, c, remote, publisher, o.lockOut); err != nil {
		return err
	}

	file, err := os.CreateTemp("", "npcnix-renew-*")
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	last, err := publisher.Last(ctx, remote)
	if err != nil {
		return withCode(ctx, publisher, remote, err)
	}
	m, err := publisher.Renew(ctx, remote, last, o.force, file)
	if err != nil {
		return fmt.Errorf("nothing was published: %w", err)
	}
	v, err := pushOptions{release: o.release}.put(ctx, c, remote, m, file, last.Version)
	if err != nil {
		return withCode(ctx, publisher, remote, err)
	}
	if o.asJSON {
		return c.printJSON(view(m, v, publisher.Fingerprints()))
	}
	return c.print("%s\n", v.ETag)
}
