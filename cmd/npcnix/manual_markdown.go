package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// markdownManual is one page of all commands, for the site of the documentation. Help texts are kept as a terminal
// shows them: their columns mean something.
func markdownManual(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# All commands\n\nWhat `--help` says of each. [commands.md](commands.md) says which are for what.\n\n")
	global := strings.TrimRight(root.PersistentFlags().FlagUsages(), "\n")
	fmt.Fprintf(&b, "Each command takes these flags:\n\n```text\n%s\n```\n", global)
	markdownCommands(&b, root)
	return b.String()
}

func markdownCommands(b *strings.Builder, parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		long := cmd.Long
		if long == "" {
			long = cmd.Short + "."
		}
		fmt.Fprintf(b, "\n## %s\n\n```text\n%s\n\nUsage:\n  %s\n", cmd.CommandPath(), strings.TrimSpace(long), cmd.UseLine())
		if cmd.Example != "" {
			fmt.Fprintf(b, "\nExamples:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
		}
		if flags := cmd.NonInheritedFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(b, "\nFlags:\n%s\n", strings.TrimRight(flags.FlagUsages(), "\n"))
		}
		b.WriteString("```\n")
		markdownCommands(b, cmd)
	}
}
