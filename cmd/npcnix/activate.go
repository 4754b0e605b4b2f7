package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/store"
)

const activateHelp = `Build a configuration of a local flake and switch this host to it, with the verification and rollback of
the agent. Prints the system.

An agent that follows a remote then reports the host as drifted, and leaves it alone until the next
publish, unless correct_drift is set.`

type activateOptions struct {
	host               hostFlags
	src, configuration string
}

func newActivateCommand(c *common) *cobra.Command {
	var o activateOptions
	cmd := &cobra.Command{
		Use:     "activate [--src DIR] [--configuration NAME]",
		Short:   "Build a configuration of a local flake and switch to it",
		Long:    activateHelp,
		Example: "  npcnix activate --src ./configurations --configuration web1",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runActivate(cmd.Context(), c, o) },
	}
	cmd.Flags().StringVar(&o.src, "src", ".", "directory of the flake")
	cmd.Flags().StringVar(&o.configuration, "configuration", "", "configuration to build (default: this host's)")
	o.host.addFlags(cmd.Flags())
	return cmd
}

func runActivate(ctx context.Context, c *common, o activateOptions) error {
	if err := store.CheckFlake(o.src); err != nil {
		return err
	}
	if err := c.dir().Check(); err != nil {
		return err
	}
	conf, err := c.conf()
	if err != nil {
		return err
	}
	if o.configuration == "" {
		o.configuration = conf.Configuration
	}
	if o.configuration == "" {
		return usageError{errors.New("no configuration: give --configuration, or set it with `npcnix config set configuration NAME`")}
	}
	host, err := o.host.host(c)
	if err != nil {
		return err
	}
	system, rebootWhy, err := agent.Activate(ctx, agent.Options{
		Dir: c.dir(), Host: host, Machine: host, Config: conf, Override: c.over, Fresh: c.fresh, Log: c.log,
	}, o.src, o.configuration)
	if err != nil {
		return err
	}
	if rebootWhy != "" {
		c.log.Warn("a reboot is due: the new system becomes active with the next boot", "why", rebootWhy)
	}

	return c.print("%s\n", system.Path)
}
