package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/nix/activation"
)

// activationCommand is run by the units that npcnix starts, not by people.
func activationCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:    "activation",
		Short:  "What npcnix runs outside of the agent to activate a system (not for people)",
		Hidden: true,
		Args:   cobra.NoArgs,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "run",
			Short: "Do what activation.json asks for",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return activation.Work(cmd.Context(), c.dataDir, c.log)
			},
		},
		&cobra.Command{
			Use:   "timer ID PATIENCE",
			Short: "Roll an activation back unless it is committed in its time",
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
			Short: "Arm the rollback timer again, after a restart of the machine",
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
