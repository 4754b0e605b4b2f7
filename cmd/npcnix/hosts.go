package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

const hostsHelp = `Print what the hosts of a remote run, from their records: the version that each runs and the one that it
wants, what became of that, how long it has been behind the remote's present version, and when it was last
heard. Below a host stands what an operator has to know: an error, a warning, a reboot that is due.

A host that was not heard for longer than --stale is marked silent: agents write their record every hour
(record_refresh_secs), which costs one PUT. To forget a decommissioned host, delete its record.

The exit code is 0 even if hosts are silent. A script reads --json, as docs/ci.md shows.

It costs one HEAD, one LIST per 1,000 hosts, and one GET per record. With --watch, each interval reads only
records that have changed. The ages compare the store's clock with this machine's.`

type hostsOptions struct {
	remote          remoteFlags
	json, watch     bool
	stale, interval time.Duration
}

func newHostsCommand(c *common) *cobra.Command {
	var o hostsOptions
	cmd := &cobra.Command{
		Use:     "hosts [--remote URL]",
		Short:   "Print what the hosts of a remote run",
		Long:    hostsHelp,
		Example: "  npcnix hosts --remote s3://BUCKET/npcnix/remotes/dev.npcnix --watch",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runHosts(cmd.Context(), c, o) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(flags, "remote whose hosts to print (default: this host's)")
	flags.BoolVar(&o.json, "json", false, "print an object for each host, one per line")
	flags.BoolVar(&o.watch, "watch", false, "continue until interrupted: redraw a terminal, or else print the hosts that changed")
	flags.DurationVar(&o.stale, "stale", fleet.StaleAfter, "mark a host as silent that was not heard for so long")
	flags.DurationVar(&o.interval, "interval", 5*time.Second, "with --watch: time between two looks")
	return cmd
}

func runHosts(ctx context.Context, c *common, o hostsOptions) error {
	if o.stale <= 0 || o.interval <= 0 {
		return usageError{errors.New("--stale and --interval must be more than 0")}
	}
	from, err := o.remote.fromSettings(c)
	if err != nil {
		return err
	}
	remote, err := from.open(ctx, c)
	if err != nil {
		return err
	}
	roster := &fleet.Roster{Store: remote, Stale: o.stale}
	if screen := terminal(c.stdout); o.watch && screen != nil && !o.json {
		board := fleet.NewBoard(screen, func() (int, int) {
			width, height, _ := term.GetSize(int(screen.Fd()))
			return width, height
		})
		return roster.Watch(ctx, o.interval, false, func(rows, _ []fleet.Row, now store.Version) error {
			board.Show(rows, now)
			return nil
		}, c.warn)
	}
	show := c.showTable
	if o.json {
		show = c.showJSONLines
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

func (c *common) showTable(rows, all []fleet.Row, now store.Version) error {
	width := 0
	if screen := terminal(c.stdout); screen != nil {
		width, _, _ = term.GetSize(int(screen.Fd()))
	}
	_, err := fmt.Fprint(c.stdout, fleet.Table(rows, all, now, width))
	return err
}

func (c *common) showJSONLines(rows, _ []fleet.Row, _ store.Version) error {
	encoder := json.NewEncoder(fleet.Escaping(c.stdout))
	for _, row := range rows {
		if err := encoder.Encode(row); err != nil {
			return err
		}
	}
	return nil
}
