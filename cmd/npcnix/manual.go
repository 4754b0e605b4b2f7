package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManualCommand makes what packages are built with: man pages of this very program. It is not for people.
//
// The pages are made here, as the library's own generator takes help texts for Markdown, and joins their lines.
func newManualCommand(c *common) *cobra.Command {
	var markdown bool
	manual := &cobra.Command{
		Use:    "manual DIR | --markdown",
		Short:  "Write the man pages into a directory, or print one page of all commands (not for people)",
		Hidden: true,
		Args:   cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if markdown {
				return c.print("%s", markdownManual(cmd.Root()))
			}
			if len(args) == 0 {
				return usageError{errors.New("name a directory for the man pages")}
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writeManual(cmd.Root(), args[0])
		},
	}
	manual.Flags().BoolVar(&markdown, "markdown", false, "print one page of all commands, in Markdown")
	return manual
}

// writeManual writes the page of a command, and those of its subcommands.
func writeManual(cmd *cobra.Command, dir string) error {
	var page strings.Builder
	manPage(&page, cmd)
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), []byte(page.String()), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writeManual(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// pageName is the name under which man finds a command: npcnix-release-show.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage writes one page, in the order of a help text.
func manPage(w io.Writer, cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	fmt.Fprintf(w, ".TH %s 1 \"\" %s npcnix\n", quoted(strings.ToUpper(pageName(cmd))), quoted("npcnix "+versionString()))
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprint(w, ".SH DESCRIPTION\n")
	manText(w, long)
	if cmd.Example != "" {
		fmt.Fprintf(w, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	manFlags(w, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(w, "GLOBAL OPTIONS", cmd.InheritedFlags())
	var also []string
	if cmd.HasParent() {
		also = append(also, pageName(cmd.Parent())+"(1)")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			also = append(also, pageName(sub)+"(1)")
		}
	}
	if len(also) > 0 {
		fmt.Fprintf(w, ".SH SEE ALSO\n%s\n", roff(strings.Join(also, ", ")))
	}
}

// manText writes paragraphs. One that has indented lines is a list or a table, and keeps its lines.
func manText(w io.Writer, text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			fmt.Fprint(w, ".PP\n")
		}
		if strings.HasPrefix(paragraph, " ") || strings.Contains(paragraph, "\n ") {
			paragraph = ".nf\n" + roff(paragraph) + "\n.fi"
		} else {
			paragraph = roff(paragraph)
		}
		fmt.Fprintln(w, paragraph)
	}
}

// manFlags writes a section of flags.
func manFlags(w io.Writer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(w, ".SH %s\n", title)
	// The library has the words of each flag, its type and its default, in one line each.
	lines := bufio.NewScanner(strings.NewReader(flags.FlagUsages()))
	for lines.Scan() {
		name, text, _ := strings.Cut(strings.TrimSpace(lines.Text()), "   ")
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(name), roff(strings.TrimSpace(text)))
	}
}

// quoted is an argument of a macro.
func quoted(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }

// roff escapes what would be a command in a page: backslashes, hyphens, and dots and quotes that begin a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
