package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/store"
)

func activateCommand(c *common) *cobra.Command {
	var h hostFlags
	var src, configuration string
	cmd := &cobra.Command{
		Use:   "activate [--src DIR] [--configuration NAME]",
		Short: "Build a configuration of a local flake and switch to it",
		Long: `Build a configuration of a local flake and switch this host to it. An agent that follows a remote
reports the host as drifted from then on and leaves it alone until the next publish, unless
correct_drift is set. Prints the system.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := store.CheckFlake(src); err != nil {
				return err
			}
			if err := c.dir().Check(); err != nil {
				return err
			}
			conf, err := c.conf()
			if err != nil {
				return err
			}
			if configuration == "" {
				if configuration = conf.Configuration; configuration == "" {
					return usageError{errors.New("no configuration: give --configuration, or set it with `npcnix config set configuration NAME`")}
				}
			}
			host, err := h.host(c)
			if err != nil {
				return err
			}
			system, rebootWhy, err := agent.Activate(ctx, agent.Options{
				Dir: c.dir(), Host: host, Machine: host, Config: conf, Override: c.over, Log: c.log,
			}, src, configuration)
			if err != nil {
				return err
			}
			if rebootWhy != "" {
				c.log.Warn("the system becomes active with the next boot: a reboot is due", "why", rebootWhy)
			}
			_, err = fmt.Fprintln(c.stdout, system.Path)
			return err
		},
	}
	cmd.Flags().StringVar(&src, "src", ".", "directory of the flake")
	cmd.Flags().StringVar(&configuration, "configuration", "", "configuration to build (default: the one in config.json)")
	h.addFlags(cmd.Flags())
	return cmd
}

func pauseCommand(c *common) *cobra.Command {
	var hours, minutes int64
	cmd := &cobra.Command{
		Use:   "pause [--hours N | --minutes N]",
		Short: "Change nothing on this host, for ever or for a while",
		Long: `Change nothing on this host, for ever or for a while. Events stay in its queue. An activation under
way is finished. A pause in force is only ever made longer; unpause ends it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if hours < 0 || minutes < 0 || hours > 24*366*100 || minutes > 60*24*366*100 {
				return usageError{errors.New("--hours and --minutes must be from 0 to a hundred years")}
			}
			now := time.Now()
			var until time.Time
			if cmd.Flags().Changed("hours") || cmd.Flags().Changed("minutes") {
				until = now.Add(time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute)
			}
			return c.dir().UpdateConfig(cmd.Context(), func(conf *config.Config) error {
				conf.Paused = conf.Paused.Extend(until, now)
				return nil
			})
		},
	}
	cmd.Flags().Int64Var(&hours, "hours", 0, "for this many hours")
	cmd.Flags().Int64Var(&minutes, "minutes", 0, "for this many minutes")
	cmd.MarkFlagsMutuallyExclusive("hours", "minutes")
	return cmd
}

func unpauseCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "unpause",
		Short: "End a pause",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.dir().UpdateConfig(cmd.Context(), func(conf *config.Config) error {
				conf.Paused = nil
				return nil
			})
		},
	}
}

func retryCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "retry",
		Short: "Try a failed or rejected version again, at once",
		Long:  "Try a failed or rejected version again, at once, with all its attempts. A running agent takes it up; without one, the next `npcnix follow` does.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.dir().UpdateConfig(cmd.Context(), func(conf *config.Config) error {
				conf.RetryToken = strconv.FormatInt(time.Now().UnixNano(), 36)
				return nil
			})
		},
	}
}
