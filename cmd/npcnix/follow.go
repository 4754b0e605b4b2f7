package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent"
)

const followHelp = `Run the agent, which keeps this host at the version that the remote holds. It looks at the remote at its
start, on every event of its queue or change of a file remote, and at intervals. Errors of others, such as
the network or a bad publish, never end it.

--once=any ends with 0 as soon as the host runs the remote's version, or will after a reboot. It ends with 1
if the version was rejected, the store stayed unreachable, the host is paused, or an operator has switched
it. A version that fails is tried for about eleven minutes.

--once=activate ends after the first activation.`

type followOptions struct {
	settings settingFlags
	host     hostFlags
	once     string
	force    bool
}

func (o *followOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.once, "once", "", "end once the host is up to date (any), or after the first activation (activate)")
	flags.Lookup("once").NoOptDefVal = string(agent.OnceAny)
	flags.BoolVar(&o.force, "ignore-etag", false, "build the remote's version once even if it is unchanged, failed or rejected")
	o.settings.addFlags(flags)
	o.host.addFlags(flags)
}

func newFollowCommand(c *common) *cobra.Command {
	var o followOptions
	cmd := &cobra.Command{
		Use:   "follow",
		Short: "Run the agent, which keeps this host at the remote's version",
		Long:  followHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.Flags().Changed("once") {
				return fmt.Errorf("unknown argument %q: --once takes its value after a =, as in --once=activate", args[0])
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runFollow(cmd.Context(), c, o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runFollow(ctx context.Context, c *common, o followOptions) error {
	once := agent.Once(o.once)
	if once != "" && once != agent.OnceAny && once != agent.OnceActivate {
		return usageError{fmt.Errorf("--once is %q: it must be any or activate", o.once)}
	}
	over, err := o.settings.layers()
	if err != nil {
		return err
	}
	f := &follower{common: c, host: o.host, once: once, force: o.force, over: over}
	return f.run(ctx)
}
