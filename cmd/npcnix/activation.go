package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/nix/activation"
)

// newActivationCommand makes what the units run that npcnix starts. It is not for people.
func newActivationCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:    "activation",
		Short:  "Parts of an activation that run outside of the agent (not for people)",
		Hidden: true,
		Args:   noSubcommand,
	}
	cmd.AddCommand(
		newVerifyCommand(c),
		&cobra.Command{
			Use:   "run",
			Short: "Switch to the system that activation.json names",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return activation.Work(cmd.Context(), c.dataDir, c.log)
			},
		},
		&cobra.Command{
			Use:   "timer ID PATIENCE",
			Short: "Roll an activation back unless it is committed in time",
			Args:  cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				patience, err := time.ParseDuration(args[1])
				if err != nil {
					return usageError{fmt.Errorf("PATIENCE: %w", err)}
				}
				return activation.RunTimer(cmd.Context(), c.dataDir, args[0], patience, c.log)
			},
		},
		&cobra.Command{
			Use:   "rearm",
			Short: "Start the rollback timer again, after a reboot",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				host, err := (&hostFlags{}).host(c)
				if err != nil {
					return err
				}
				return host.Rearm(cmd.Context())
			},
		},
	)
	return cmd
}
