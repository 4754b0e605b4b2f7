package main

import (
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent/trust"
)

func newTrustCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Show or forget which releases this host has accepted",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "show",
			Short: "Print the signers' fingerprints, and the last accepted release of each remote",
			Args:  cobra.NoArgs,
			RunE:  func(*cobra.Command, []string) error { return runTrustShow(c) },
		},
		&cobra.Command{
			Use:   "reset",
			Short: "Forget which releases this host has accepted",
			Long: `Forget which releases this host has accepted. It then accepts any release that its signers have signed and
that has not expired, also an old one. Make sure that the remote holds the release that it should.`,
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				if err := trust.Reset(c.dir()); err != nil {
					return err
				}
				return c.print("forgotten; the host accepts the next release that is signed and has not expired\n")
			},
		},
	)
	return cmd
}

func runTrustShow(c *common) error {
	conf, err := c.conf()
	if err != nil {
		return err
	}
	memory, err := trust.Load(c.dir())
	if err != nil {
		return err
	}

	var l lines
	keys := conf.Policy("").Signers.Fingerprints()
	for _, key := range keys {
		l.add("signer", "%s", key)
	}
	if len(keys) == 0 {
		l.add("signers", "none: this host accepts any packed flake")
	}
	for _, remote := range slices.Sorted(maps.Keys(memory.Remotes)) {
		a := memory.Remotes[remote]
		l.add("accepted", "%s: serial %d, created %s", remote, a.Serial, a.Created.UTC().Format(time.RFC3339))
	}
	return c.print("%s", l.String())
}
