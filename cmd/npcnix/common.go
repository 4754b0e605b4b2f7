package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

// common is what all commands share: the flags of the root command, and the streams.
type common struct {
	stdout, stderr io.Writer
	log            *slog.Logger
	flags          *pflag.FlagSet // of the command that runs

	dataDir   string
	settings  string
	logLevel  string
	logFormat string
}

func (c *common) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.dataDir, "data-dir", "/var/lib/npcnix", "directory of the host's settings and state")
	flags.StringVar(&c.settings, "settings", defaultSettings, "settings that the NixOS module wrote; they come before those in config.json")
	flags.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&c.logFormat, "log-format", "text", "text or json; logs go to stderr")
}

// openLog makes the logger that the flags ask for.
func (c *common) openLog() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return usageError{fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", c.logLevel)}
	}
	o := &slog.HandlerOptions{Level: level}
	switch c.logFormat {
	case "text":
		c.log = slog.New(slog.NewTextHandler(fleet.Escaping(c.stderr), o))
	case "json":
		c.log = slog.New(slog.NewJSONHandler(fleet.Escaping(c.stderr), o))
	default:
		return usageError{fmt.Errorf("--log-format is %q: it must be text or json", c.logFormat)}
	}
	return nil
}

func (c *common) dir() config.Dir { return config.Dir(c.dataDir) }

// warn logs a message of a package that has no logger of its own.
func (c *common) warn(message string) { c.log.Warn(message) }

// print prints a result for a person: a text of one or more lines, whoever wrote the parts of it.
func (c *common) print(format string, values ...any) error {
	return printTo(c.stdout, format, values...)
}

func printTo(w io.Writer, format string, values ...any) error {
	_, err := io.WriteString(w, fleet.Text(fmt.Sprintf(format, values...)))
	return err
}

// printJSON prints a result for programs.
func (c *common) printJSON(v any) error {
	encoder := json.NewEncoder(fleet.Escaping(c.stdout))
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// terminal returns the terminal that w is, or nil if nothing can be drawn on it.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return f
}

// remoteFlags name a remote.
type remoteFlags struct{ url, region, credentialsFile string }

func (r *remoteFlags) addFlags(flags *pflag.FlagSet, help string) {
	flags.StringVar(&r.url, "remote", "", help)
	flags.StringVar(&r.region, "remote-region", "", "region of the remote's bucket")
	flags.StringVar(&r.credentialsFile, "remote-credentials-file", "", "file with USER:PASSWORD for a remote on a web server")
}

// fromSettings takes this host's remote if none was given.
func (r remoteFlags) fromSettings(c *common) (remoteFlags, error) {
	if r.url != "" {
		return r, nil
	}
	conf, err := c.conf()
	if err != nil {
		return r, err
	}
	if conf.Remote == "" {
		return r, usageError{errors.New("no remote: give --remote, or on a host set it with `npcnix config set remote URL`")}
	}
	r.url = conf.Remote
	if r.region == "" {
		r.region = conf.RemoteRegion
	}
	if r.credentialsFile == "" {
		r.credentialsFile = conf.RemoteCredentialsFile
	}
	return r, nil
}

// open opens the remote for a person: with a progress bar if stderr is a terminal.
func (r remoteFlags) open(ctx context.Context, c *common) (*store.Remote, error) {
	o := store.Options{Region: r.region, CredentialsFile: r.credentialsFile, Warn: c.warn}
	if f, ok := c.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.Progress = f
	}
	return store.Open(ctx, r.url, o)
}
