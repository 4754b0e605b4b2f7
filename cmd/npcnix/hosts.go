package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

const hostsHelp = `Print what the hosts of a remote say they run, from their acknowledgement records: configuration,
version and for how long they have been behind the remote's present one, state, when they were last
heard, system, and whether a reboot is due. A host that was not heard for longer than --stale is
marked silent: agents write their record anew each hour (record_refresh_secs), which is one PUT. Of a
host that is no more, delete the record.

It ends with exit code 0 whoever is silent: a script reads --json, as docs/ci.md shows.

Costs one HEAD, one LIST per 1,000 hosts, and one GET for each record; with --watch, each interval, only
records that have changed are read again. The ages compare the store's clock with this machine's.`

func hostsCommand(c *common) *cobra.Command {
	var remote, region string
	var asJSON, watch bool
	var stale, interval time.Duration
	cmd := &cobra.Command{
		Use:     "hosts [--remote URL]",
		Short:   "Print what the hosts of a remote say they run",
		Long:    hostsHelp,
		Example: "  npcnix hosts --remote s3://BUCKET/npcnix/remotes/dev.npcnix --watch",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if stale <= 0 || interval <= 0 {
				return usageError{errors.New("--stale and --interval must be more than 0")}
			}
			r, err := c.openRemote(ctx, remote, region)
			if err != nil {
				return err
			}
			roster := &fleet.Roster{Store: r, Stale: stale}
			var show func(rows, all []fleet.Row, now store.Version) error
			warn := func(msg string) { c.log.Warn(msg) }
			switch {
			case asJSON:
				encoder := json.NewEncoder(c.stdout)
				show = func(rows, _ []fleet.Row, _ store.Version) error {
					for _, row := range rows {
						if err := encoder.Encode(row); err != nil {
							return err
						}
					}
					return nil
				}
			case watch && terminal(c.stdout) != nil:
				file := terminal(c.stdout)
				view := fleet.NewBoard(file, func() (int, int) {
					width, height, _ := term.GetSize(int(file.Fd()))
					return width, height
				})
				return roster.Watch(ctx, interval, false, func(rows, _ []fleet.Row, now store.Version) error {
					view.Show(rows, now)
					return nil
				}, warn)
			default:
				show = func(rows, all []fleet.Row, now store.Version) error {
					_, err := fmt.Fprint(c.stdout, fleet.Table(rows, all, now))
					return err
				}
			}
			if watch {
				return roster.Watch(ctx, interval, true, show, warn)
			}
			rows, now, err := roster.Look(ctx)
			if err != nil {
				return err
			}
			return show(rows, rows, now)
		},
	}
	cmd.Flags().StringVar(&remote, "remote", "", "remote whose hosts to print (default: the one in config.json)")
	cmd.Flags().StringVar(&region, "remote-region", "", "region of the remote's bucket")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an object for each host, one on a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted: redraw on a terminal, else print the hosts that changed, and warn of records that are gone")
	cmd.Flags().DurationVar(&stale, "stale", fleet.StaleAfter, "call a host silent that was not heard for so long")
	cmd.Flags().DurationVar(&interval, "interval", 5*time.Second, "time between two looks with --watch")
	return cmd
}
