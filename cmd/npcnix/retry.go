package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
)

const retryHelp = `Try a failed or rejected version again, at once and with all its attempts. A running agent does so. If none
runs, the next npcnix follow does.`

func newRetryCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "retry",
		Short: "Try a failed or rejected version again, at once",
		Long:  retryHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runRetry(cmd.Context(), c) },
	}
}

func runRetry(ctx context.Context, c *common) error {
	state, err := agent.ReadState(c.dir())
	if err != nil && !errors.Is(err, agent.ErrState) {
		return err
	}
	fresh := state.Failure != nil
	err = c.dir().UpdateConfig(ctx, func(conf *config.Config) error {
		fresh = fresh && state.Failure.RetryToken == conf.RetryToken
		conf.RetryToken = strconv.FormatInt(time.Now().UnixNano(), 36)
		return nil
	})
	if err != nil {
		return err
	}
	running, err := c.dir().Following()
	if err != nil {
		return err
	}
	said := "No version has failed: there is nothing to try again."
	switch {
	case fresh && running:
		said = fmt.Sprintf("The running agent tries %s again now.", state.Failure.ETag)
	case fresh:
		said = fmt.Sprintf("No agent is running: the next `npcnix follow` tries %s again.", state.Failure.ETag)
	}
	return c.print("%s\n", said)
}
