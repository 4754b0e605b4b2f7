package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
)

const installHelp = `Write this host's settings to config.json, then follow the remote once, as npcnix follow --once does.

With --initial-configuration that configuration is applied first, as an intermediate step that writes no
record. The agent that it brings then applies the final one.`

type installOptions struct {
	settings settingFlags
	host     hostFlags
	initial  string
}

func (o *installOptions) addFlags(flags *pflag.FlagSet) {
	o.settings.addFlags(flags, "remote", "remote_region", "remote_credentials_file", "configuration", "queue_url", "host")
	flags.StringVar(&o.initial, "initial-configuration", "", "configuration to apply first, as an intermediate step")
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
	err = c.dir().UpdateConfig(ctx, func(file *config.Config) error {
		for _, layer := range over {
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
