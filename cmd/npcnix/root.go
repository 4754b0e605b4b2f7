package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent/config"
)

const rootHelp = `npcnix keeps NixOS hosts at the configuration in a store.

You publish a packed Nix flake, with npcnix push, or with aws s3 cp of a file that npcnix pack made. The
agent on each host, npcnix follow, notices, fetches the flake, builds the host's configuration, switches
to it, verifies it and acknowledges.

Each flag can also be set by an environment variable: --data-dir by NPCNIX_DATA_DIR, and so on. The first
of these that has a setting decides: flag, environment, the NixOS module (/etc/npcnix/settings.json),
config.json in the data directory, default.

Remotes: s3://BUCKET/KEY[?region=R&endpoint=URL&path-style=true&checksum=when-required]
         https://HOST/PATH   file:///PATH

Exit codes: 0 done, 1 failed, 2 wrong usage. wait, push --wait and rollout also have 3 more hosts failed than
--min-ok allows, 4 time ran out, 5 superseded by another publish. push also has 6 published, but the store
does not tell as which version.`

// execute runs the command that the arguments name.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	args, err := joinOptions(args)
	if err != nil {
		return err
	}
	begun := false
	root := newRootCommand(&common{stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	onRun(root, func() { begun = true })
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !begun {
		err = usageError{err} // of flags and arguments: nothing ran yet
	}
	if errors.As(err, new(usageError)) {
		return fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())
	}
	return err
}

func newRootCommand(c *common) *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:           "npcnix",
		Short:         "Keep NixOS hosts at the configuration in a store",
		Long:          rootHelp,
		Args:          noSubcommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			c.flags = cmd.Flags()
			return c.openLog()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), versionString())
				return err
			}
			_ = cmd.Help()
			return usageError{errors.New("give a command")}
		},
	}
	c.addFlags(root.PersistentFlags())
	// cobra's own flag prints by a text/template, with which the linker keeps every method of every type.
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version")
	root.SetFlagErrorFunc(explainFlag)
	root.AddCommand(
		newPackCommand(c), newPushCommand(c), newPullCommand(c),
		newReleaseCommand(c), newRolloutCommand(c), newTrustCommand(c),
		newHistoryCommand(c), newRollbackCommand(c), newPromoteCommand(c), newDiffCommand(c),
		newWaitCommand(c), newHostsCommand(c), newCacheCommand(c),
		newActivateCommand(c), newFollowCommand(c), newInstallCommand(c),
		newConfigCommand(c), newStatusCommand(c), newDoctorCommand(c),
		newPauseCommand(c), newUnpauseCommand(c), newRetryCommand(c), newLeaveCommand(c),
		newVersionCommand(c), newActivationCommand(c), newManualCommand(c),
	)
	refuseUnknownTopics(root)
	return root
}

// onRun has begun called when a command begins its work: its flags and arguments are right then.
func onRun(cmd *cobra.Command, begun func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			begun()
			return run(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		onRun(sub, begun)
	}
}

// refuseUnknownTopics makes errors of what the library's own commands answer with a general help.
func refuseUnknownTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err != nil || len(rest) == 0 {
					return err
				}
				return noSubcommand(found, rest)
			}
		case "completion":
			cmd.Args = noSubcommand
			cmd.RunE = func(*cobra.Command, []string) error {
				return usageError{errors.New("give a shell: bash, zsh, fish or powershell")}
			}
		}
	}
}

// noSubcommand refuses arguments of a command that only has subcommands, and says which may be meant.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return err
}

// valuesOf says which values a type of flags has, as the library answers in the words of Go's parsers.
var valuesOf = map[string]string{
	"int": "a whole number", "int64": "a whole number", "uint64": "a whole number that is not negative",
	"duration": "a duration, such as 90s, 15m or 2h", "bool": "true or false",
}

// explainFlag says which flag may be meant by one that does not exist, and what a value must be.
func explainFlag(cmd *cobra.Command, err error) error {
	if invalid, is := errors.AsType[*pflag.InvalidValueError](err); is {
		if must := valuesOf[invalid.GetFlag().Value.Type()]; must != "" {
			return fmt.Errorf("--%s is %q: it must be %s", invalid.GetFlag().Name, invalid.GetValue(), must)
		}
		return err
	}
	unknown, is := errors.AsType[*pflag.NotExistError](err)
	if !is || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return err
}
