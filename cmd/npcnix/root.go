package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// version is set by the linker where the build knows better than the build info.
var version = ""

func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}

// common is what all commands share: the flags of the root command, and the streams.
type common struct {
	stdout, stderr io.Writer
	log            *slog.Logger

	dataDir   string
	settings  string
	logLevel  string
	logFormat string
}

func (c *common) dir() config.Dir { return config.Dir(c.dataDir) }

// printJSON prints a result for programs.
func (c *common) printJSON(v any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

const rootHelp = `npcnix keeps NixOS hosts at the configuration that a store holds.

Somebody publishes a packed Nix flake (npcnix push, or aws s3 cp of what npcnix pack made); each
host, running npcnix follow, notices, fetches it, builds its own configuration, switches to it
and acknowledges.

Every flag can also be set by the environment: --data-dir by NPCNIX_DATA_DIR, and so on.
Precedence: flag, environment, declared settings (the NixOS module's, in /etc/npcnix/settings.json),
config.json in the data directory, default.

Remotes: s3://BUCKET/KEY[?region=R&endpoint=URL&path-style=true&checksum=when-required]
         https://HOST/PATH   file:///PATH

Exit codes: 0 done, 1 failed, 2 wrong usage; of wait and push --wait also 3 hosts failed, more than
--min-ok allows, 4 time ran out, 5 superseded by another publish.`

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c := &common{stdout: stdout, stderr: stderr}
	begun := false
	root := &cobra.Command{
		Use:           "npcnix",
		Short:         "Keep NixOS hosts at the configuration that a store holds",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			var err error
			c.log, err = newLogger(stderr, c.logLevel, c.logFormat)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usageError{errors.New("give a command")}
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.dataDir, "data-dir", "/var/lib/npcnix", "where the host's settings and memory are kept")
	flags.StringVar(&c.settings, "settings", defaultSettings, "declared settings, which come before config.json's: a JSON object of the same members")
	flags.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&c.logFormat, "log-format", "text", "text or json; logs go to stderr")
	root.AddCommand(
		packCommand(c), pushCommand(c), pullCommand(c),
		waitCommand(c), hostsCommand(c),
		activateCommand(c), newFollowCommand(c), newInstallCommand(c),
		newConfigCommand(c), statusCommand(c), doctorCommand(c), pauseCommand(c), unpauseCommand(c), retryCommand(c),
		versionCommand(c), activationCommand(c),
	)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	refuseUnknownTopics(root)
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

// onRun has begun called when the work of a command begins, that is when its flags and arguments
// have been found right.
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
				_, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown command %q", rest[0])
				}
				return err
			}
		case "completion":
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(*cobra.Command, []string) error {
				return usageError{errors.New("give a shell: bash, zsh, fish or powershell")}
			}
		}
	}
}

func versionCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of npcnix",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(c.stdout, versionString())
			return err
		},
	}
}

// setByEnvironment marks flags that were set by the environment.
const setByEnvironment = "environment"

// fromEnvironment sets the flags that were not given from NPCNIX_<NAME>. A repeatable flag
// takes words separated by spaces.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "NPCNIX_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if f.Changed || !set || value == "" || f.Name == "help" {
			return
		}
		values := []string{value}
		if f.Value.Type() == "stringArray" {
			values = strings.Fields(value)
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, usageError{fmt.Errorf("environment %s: %w", name, err)})
			}
			_ = flags.SetAnnotation(f.Name, setByEnvironment, nil)
		}
	})
	return errors.Join(errs...)
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", level)}
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format is %q: it must be text or json", format)}
}

// openStore opens a remote for a person: with a progress bar where stderr is a terminal.
func (c *common) openStore(ctx context.Context, remote, region string) (*store.Remote, error) {
	o := store.Options{Region: region, Warn: func(msg string) { c.log.Warn(msg) }}
	if f, ok := c.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.Progress = f
	}
	return store.Open(ctx, remote, o)
}

// hostFlags are the flags of commands that build and activate.
type hostFlags struct {
	profile, currentSystem string
	substituters, keys     []string
	options                []string
}

func (h *hostFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&h.profile, "profile", "/nix/var/nix/profiles/system", "the profile whose generations are the host's systems")
	flags.StringVar(&h.currentSystem, "current-system", "/run/current-system", "the link to the system that runs (for containers and tests)")
	flags.StringArrayVar(&h.substituters, "extra-substituters", nil, "a binary cache to use besides nix.conf's (repeatable)")
	flags.StringArrayVar(&h.keys, "extra-trusted-public-keys", nil, "a key to trust besides nix.conf's (repeatable)")
	flags.StringArrayVar(&h.options, "option", nil, "an option for nix, as two words: --option NAME VALUE (repeatable)")
}

func (h *hostFlags) host(c *common) (*activation.Coordinator, error) {
	o := nix.Options{
		Profile: h.profile, CurrentSystem: h.currentSystem, Dir: c.dataDir,
		Substituters: h.substituters, PublicKeys: h.keys, Log: c.log,
	}
	for _, option := range h.options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--option %q: want --option NAME VALUE", option)}
		}
		o.Settings = append(o.Settings, [2]string{name, value})
	}
	host, err := nix.New(o)
	if err != nil {
		return nil, usageError{err}
	}
	return activation.New(host)
}
