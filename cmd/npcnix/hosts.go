package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

const hostsHelp = `Print what the hosts of a remote run, from their records: the version that each runs and the one that it
wants, by revision, release or ETag; what became of that, how long it has been behind the remote's present
version, whether what runs is healthy, and when it was last heard. During a rollout, WAVE 2/3 is a host of the
second wave of three. Below a host stands what an operator has to know: why it failed or is unhealthy, a warning,
a reboot that is due.

A host that was not heard for longer than --stale is marked silent: agents write their record every hour
(record_refresh_secs), which costs one PUT. npcnix hosts gc forgets hosts that are no more.

The exit code is 0 even if hosts are silent. A script reads --format json, as docs/ci.md shows. Prometheus reads
--format openmetrics, by a pushgateway or a textfile, as docs/observability.md shows.

With --timeline it draws instead how a version reached the hosts: RELEASE is how its ETag, release or revision
begins, and the remote's present version if omitted. A clock that differs from the store's is shown. A record tells
of the last version alone.

It costs one HEAD, one LIST per 1,000 hosts, and one GET per record and for the release. With --watch, each
interval reads only records that have changed. The ages compare the store's clock with this machine's.`

type hostsOptions struct {
	remote          remoteFlags
	format          string
	json, watch     bool
	stale, interval time.Duration
	timeline        bool
	release, svg    string // of a timeline
}

func newHostsCommand(c *common) *cobra.Command {
	var o hostsOptions
	cmd := &cobra.Command{
		Use:     "hosts [--remote URL] [--timeline [RELEASE]]",
		Short:   "Print what the hosts of a remote run",
		Long:    hostsHelp,
		Example: "  npcnix hosts --remote s3://BUCKET/npcnix/remotes/dev.npcnix --watch",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.release = args[0]
			}
			return runHosts(cmd.Context(), c, o)
		},
	}
	flags := cmd.Flags()
	o.remote.addFlags(flags, "remote whose hosts to print (default: this host's)")
	flags.StringVar(&o.format, "format", "table", "table, json (an object for each host, one per line), csv, or openmetrics")
	flags.BoolVar(&o.json, "json", false, "the same as --format json")
	cmd.MarkFlagsMutuallyExclusive("json", "format")
	flags.BoolVar(&o.timeline, "timeline", false, "draw how a version reached the hosts")
	flags.StringVar(&o.svg, "svg", "", "with --timeline: write it to this file as a picture")
	flags.BoolVar(&o.watch, "watch", false, "continue until interrupted: redraw a terminal, or else print the hosts that changed")
	for _, other := range []string{"json", "format", "watch"} {
		cmd.MarkFlagsMutuallyExclusive("timeline", other)
	}
	flags.DurationVar(&o.stale, "stale", fleet.StaleAfter, "mark a host as silent that was not heard for so long")
	flags.DurationVar(&o.interval, "interval", 5*time.Second, "with --watch: time between two looks")
	cmd.AddCommand(newHostsGCCommand(c))
	return cmd
}

func runHosts(ctx context.Context, c *common, o hostsOptions) error {
	if o.stale <= 0 || o.interval <= 0 {
		return usageError{errors.New("--stale and --interval must be more than 0")}
	}
	if !o.timeline && (o.release != "" || o.svg != "") {
		return usageError{errors.New("a release and --svg are for --timeline")}
	}
	if o.json {
		o.format = "json"
	}
	show, err := c.hostsFormat(o)
	if err != nil {
		return err
	}
	from, err := o.remote.fromSettings(c)
	if err != nil {
		return err
	}
	remote, err := from.open(ctx, c)
	if err != nil {
		return err
	}
	roster := &fleet.Roster{Store: remote, Stale: o.stale, WavesOf: wavesOf(remote)}
	if o.timeline {
		return c.showTimeline(ctx, roster, o)
	}
	if screen := terminal(c.stdout); o.watch && screen != nil && o.format == "table" {
		board := fleet.NewBoard(screen, func() (int, int) {
			width, height, _ := term.GetSize(int(screen.Fd()))
			return width, height
		})
		return roster.Watch(ctx, o.interval, false, func(rows, _ []fleet.Row, now store.Version) error {
			board.Show(rows, now)
			return nil
		}, c.warn)
	}
	if o.watch {
		return roster.Watch(ctx, o.interval, true, show, c.warn)
	}
	rows, now, err := roster.Look(ctx)
	if err != nil {
		return err
	}
	return show(rows, rows, now)
}

// hostsFormat returns what prints rows among all of them.
func (c *common) hostsFormat(o hostsOptions) (func(rows, all []fleet.Row, now store.Version) error, error) {
	if o.watch && (o.format == "csv" || o.format == "openmetrics") {
		return nil, usageError{fmt.Errorf("--format %s is of one moment, and not for --watch", o.format)}
	}
	switch o.format {
	case "table":
		return c.showTable, nil
	case "json":
		return func(rows, _ []fleet.Row, _ store.Version) error { return fleet.JSONLines(c.stdout, rows) }, nil
	case "csv":
		return func(rows, _ []fleet.Row, _ store.Version) error { return fleet.CSV(c.stdout, rows) }, nil
	case "openmetrics":
		return func(_, all []fleet.Row, now store.Version) error { return fleet.OpenMetrics(c.stdout, all, now) }, nil
	}
	return nil, usageError{fmt.Errorf("--format is %q: it must be table, json, csv or openmetrics", o.format)}
}

func (c *common) showTable(rows, all []fleet.Row, now store.Version) error {
	return c.print("%s", fleet.Table(rows, all, now, c.width()))
}

// width is that of the terminal; 0: there is none.
func (c *common) width() int {
	screen := terminal(c.stdout)
	if screen == nil {
		return 0
	}
	width, _, _ := term.GetSize(int(screen.Fd()))
	return width
}

func (c *common) showTimeline(ctx context.Context, roster *fleet.Roster, o hostsOptions) error {
	t, err := roster.Timeline(ctx, o.release)
	if errors.Is(err, fleet.ErrVersion) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if o.svg != "" {
		var picture bytes.Buffer
		if err := t.SVG(&picture); err != nil {
			return err
		}
		if err := os.WriteFile(o.svg, picture.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the picture: %w; name another file with --svg", err)
		}
	}
	return c.print("%s", t.Text(c.width()))
}
