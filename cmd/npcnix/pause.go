package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent/config"
)

const pauseHelp = `Change nothing on this host, until npcnix unpause or for a while. Events stay in its queue. An activation
that has begun ends as usual. A pause never makes one in force shorter.`

type pauseOptions struct {
	hours, minutes int64
}

func newPauseCommand(c *common) *cobra.Command {
	var o pauseOptions
	cmd := &cobra.Command{
		Use:   "pause [--hours N | --minutes N]",
		Short: "Change nothing on this host, until unpause or for a while",
		Long:  pauseHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runPause(cmd.Context(), c, o, cmd.Flags()) },
	}
	cmd.Flags().Int64Var(&o.hours, "hours", 0, "for this many hours")
	cmd.Flags().Int64Var(&o.minutes, "minutes", 0, "for this many minutes")
	cmd.MarkFlagsMutuallyExclusive("hours", "minutes")
	return cmd
}

func runPause(ctx context.Context, c *common, o pauseOptions, flags *pflag.FlagSet) error {
	const century = 24 * 366 * 100 // in hours
	if o.hours < 0 || o.minutes < 0 || o.hours > century || o.minutes > 60*century {
		return usageError{errors.New("--hours and --minutes must be from 0 to a hundred years")}
	}
	now := time.Now()
	var until time.Time // zero: until unpause
	if flags.Changed("hours") || flags.Changed("minutes") {
		until = now.Add(time.Duration(o.hours)*time.Hour + time.Duration(o.minutes)*time.Minute)
	}
	var before, after *config.Pause
	err := c.dir().UpdateConfig(ctx, func(conf *config.Config) error {
		before = conf.Paused
		conf.Paused = conf.Paused.Extend(until, now)
		after = conf.Paused
		return nil
	})
	if err != nil {
		return err
	}
	said := "Paused"
	if before != nil && *before == *after {
		said = "Already paused"
	}
	if after.Type == config.Until {
		said += fmt.Sprintf(" until %s, for %s", after.Until.UTC().Format(time.RFC3339), age(after.Until.Sub(now.Truncate(time.Second))))
	}
	return c.print("%s. `npcnix unpause` ends the pause.\n", said)
}

func newUnpauseCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "unpause",
		Short: "End a pause",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runUnpause(cmd.Context(), c) },
	}
}

func runUnpause(ctx context.Context, c *common) error {
	said := "This host was not paused."
	err := c.dir().UpdateConfig(ctx, func(conf *config.Config) error {
		if conf.Paused != nil {
			said = "No longer paused."
		}
		conf.Paused = nil
		return nil
	})
	if err != nil {
		return err
	}
	return c.print("%s\n", said)
}
