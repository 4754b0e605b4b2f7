package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/store"
)

const installHelp = `Write this host's settings to config.json, then follow the remote once, as npcnix follow --once does.

With --initial-configuration that configuration is applied first, as an intermediate step that writes no
record. The agent that it brings then applies the final one.`

type installOptions struct {
	settings settingFlags
	host     hostFlags
	initial  string
	signers  []string
	serial   int64
}

func (o *installOptions) addFlags(flags *pflag.FlagSet) {
	o.settings.addFlags(flags, "remote", "remote_region", "remote_credentials_file", "configuration", "queue_url", "topic_arn", "host")
	flags.StringVar(&o.initial, "initial-configuration", "", "configuration to apply first, as an intermediate step")
	flags.StringArrayVar(&o.signers, "signer", nil, "public key, as in the setting signers: only a release that one of them has signed is accepted (repeatable)")
	flags.Int64Var(&o.serial, "min-serial", 0, "the remote's serial, or an older one: no release before it is accepted (npcnix release show prints it)")
	o.host.addFlags(flags)
}

func newInstallCommand(c *common) *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:     "install --remote URL --configuration NAME",
		Short:   "Store this host's settings, then follow once",
		Long:    installHelp,
		Example: "  npcnix install --remote s3://BUCKET/npcnix/remotes/dev.npcnix --configuration web1 --host web1 --queue-url https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runInstall(cmd.Context(), c, o) },
	}
	o.addFlags(cmd.Flags())
	_ = cmd.MarkFlagRequired("remote")
	_ = cmd.MarkFlagRequired("configuration")
	return cmd
}

func runInstall(ctx context.Context, c *common, o installOptions) error {
	over, err := o.settings.layers()
	if err != nil {
		return err
	}
	written := over
	if len(o.signers) > 0 {
		layer, err := o.trusting()
		if err != nil {
			return err
		}
		written = append(written, layer)
	}
	err = c.dir().UpdateConfig(ctx, func(file *config.Config) error {
		for _, layer := range written {
			changed, err := file.With(layer.Members)
			if err != nil {
				return err
			}
			*file = changed
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.serial > 0 {
		if err := o.require(c); err != nil {
			return err
		}
	}
	f := &follower{common: c, host: o.host, once: agent.OnceAny, over: over}
	if o.initial != "" {
		first, err := json.Marshal(map[string]string{"configuration": o.initial})
		if err != nil {
			return err
		}
		f.unrecorded = true
		f.over = append(f.over, config.Layer{Origin: config.FromFlag, Members: first})
	}
	return f.run(ctx)
}

// trusting is the setting that has the host trust the given keys, and no others. It is for config.json alone: a system
// that the host applies can bring other keys.
func (o *installOptions) trusting() (config.Layer, error) {
	members, err := json.Marshal(map[string][]string{"signers": o.signers})
	if err != nil {
		return config.Layer{}, err
	}
	layer := config.Layer{Origin: config.FromFlag, Members: members}
	var none config.Config
	if _, err := none.With(members); err != nil {
		return layer, usageError{fmt.Errorf("--signer: %w", err)}
	}

	return layer, nil
}

// require remembers the serial as that of a release which was accepted before.
func (o *installOptions) require(c *common) error {
	conf, err := c.conf()
	if err != nil {
		return err
	}
	if len(conf.Signers) == 0 {
		return usageError{errors.New("--min-serial means nothing on a host that has no signers: name its keys with --signer")}
	}
	name, err := store.NameOf(conf.Remote)
	if err != nil {
		return err
	}
	return trust.Require(c.dir(), name, o.serial)
}
