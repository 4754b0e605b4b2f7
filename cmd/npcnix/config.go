package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent/config"
)

func newConfigCommand(c *common) *cobra.Command {
	var o configShowOptions
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show or change the settings of this host",
		Args:  noSubcommand,
		RunE:  func(*cobra.Command, []string) error { return runConfigShow(c, o) },
	}
	o.addFlags(cmd.Flags())
	cmd.AddCommand(newConfigShowCommand(c), newConfigSetCommand(c))
	return cmd
}

const configShowHelp = `Print each setting, its value, and where the value comes from. The first of these that has a setting
decides:

  flag          of this command, which are those of npcnix follow
  environment   NPCNIX_<FLAG>
  module        the NixOS module's, in /etc/npcnix/settings.json
  config.json   in the data directory; npcnix config set changes it
  default

An agent that runs as a service has flags and an environment of its own, which this command does not see.
Passwords and tokens in URLs are masked.`

type configShowOptions struct {
	over settingFlags
	json bool
}

func (o *configShowOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	o.over.addFlags(flags)
}

func newConfigShowCommand(c *common) *cobra.Command {
	var o configShowOptions
	cmd := &cobra.Command{
		Use:   "show [--json]",
		Short: "Print each setting and where it comes from",
		Long:  configShowHelp,
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return runConfigShow(c, o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// shownSettings is what `config show --json` prints.
type shownSettings struct {
	Settings map[string]config.Value `json:"settings"`
	Unknown  []unknownSetting        `json:"unknown,omitempty"`
}

func runConfigShow(c *common, o configShowOptions) error {
	s, err := c.readSources()
	if err != nil {
		return err
	}
	layers, err := o.over.layers()
	if err != nil {
		return err
	}
	resolved, err := s.resolve(layers...)
	if err != nil {
		return err
	}
	values, err := resolved.Values()
	if err != nil {
		return err
	}
	unknown, err := s.unknown()
	if err != nil {
		return err
	}
	if o.json {
		return c.printJSON(shownSettings{Settings: values, Unknown: unknown})
	}
	for _, u := range unknown {
		c.log.Warn(u.String())
	}
	var columns strings.Builder
	table := tabwriter.NewWriter(&columns, 0, 0, 2, ' ', 0)
	for _, s := range config.Settings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, plain(values[s.Name].JSON), values[s.Name].From)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return c.print("%s", columns.String())
}

// plain is a JSON value as a person writes it: a text without quotes, and nothing as a dash.
func plain(value json.RawMessage) string {
	var text *string
	switch err := json.Unmarshal(value, &text); {
	case err != nil:
		return string(value)
	case text == nil:
		return "-"
	}
	return *text
}

func configSetHelp() string {
	var b strings.Builder
	b.WriteString(`Set a setting in config.json. A running agent applies it at once. An empty VALUE removes the setting, so
that its default counts again. A VALUE that is a list or an object is JSON.

Settings:
`)
	for _, s := range config.Settings {
		about := s.Limits()
		if d := s.DefaultJSON(); d != "" {
			about += ", default " + plain(json.RawMessage(d))
		}
		fmt.Fprintf(&b, "  %s (%s)\n%s", s.Name, about, wrapped(strings.ReplaceAll(s.Text, "`", ""), "      ", 100))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wrapped breaks a text into lines of at most width letters, each with the indent before it.
func wrapped(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line) > len(indent) {
			if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
				b.WriteString(line + "\n")
				line = indent
			} else {
				line += " "
			}
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}

func newConfigSetCommand(c *common) *cobra.Command {
	var names []string
	for _, s := range config.Settings {
		names = append(names, s.Name)
	}
	var onlyUnset bool
	cmd := &cobra.Command{
		Use:       "set [--init] NAME VALUE",
		Short:     "Change a setting in config.json",
		Long:      configSetHelp(),
		Example:   "  npcnix config set remote s3://BUCKET/npcnix/remotes/dev.npcnix\n  npcnix config set configuration web1\n  npcnix config set retry_delays_secs '[30, 120, 480]'",
		Args:      cobra.ExactArgs(2),
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runConfigSet(cmd.Context(), c, args[0], args[1], onlyUnset)
		},
	}
	cmd.Flags().BoolVar(&onlyUnset, "init", false, "only if the setting is not set yet")
	return cmd
}

func runConfigSet(ctx context.Context, c *common, name, value string, onlyUnset bool) error {
	var after config.Config
	err := c.dir().UpdateConfig(ctx, func(file *config.Config) error {
		s, known := config.Lookup(name)
		if !known || !onlyUnset || !file.Has(s.Name) {
			if err := file.Set(name, value); err != nil {
				return usageError{err}
			}
		}
		after = *file
		return nil
	})
	if err != nil {
		return err
	}
	s, err := c.sourcesOver(after)
	if err != nil {
		return err
	}
	unknown, err := s.unknown()
	if err != nil {
		return err
	}
	for _, u := range unknown {
		c.log.Warn(u.String())
	}
	return s.warnOverridden(c, name)
}

// warnOverridden says if what config.json has does not count, as the NixOS module sets it too.
func (s sources) warnOverridden(c *common, name string) error {
	resolved, err := s.resolve()
	if err != nil {
		return err
	}
	values, err := resolved.Values()
	if err != nil {
		return err
	}
	setting, _ := config.Lookup(name)
	if v := values[setting.Name]; v.From == config.FromModule {
		c.log.Warn(fmt.Sprintf("the NixOS module sets %s to %s, which comes before config.json", setting.Name, plain(v.JSON)))
	}
	return nil
}
