package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/cmd/npcnix/cache"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
)

const cacheGCHelp = `Delete from a binary cache, in S3 or in a directory, what nothing needs any more. These stay, with all that they need:

- of each --remote, the release that it holds, the --keep newest ones that its bucket has kept, those that it held
  in the last --older-than, and what their rollouts go back to;
- the systems that the records of its hosts name, running and previous;
- of other remotes, all that was ever published to them. Name each remote that uses the cache, or its old releases
  stay for ever.

What is not needed is remembered first. It is deleted when a run at least --grace later finds it still unneeded. So run
the command by a timer, and run it with --dry-run first, which prints the bytes and the paths and changes nothing.

A push notes in the cache that it copies. While it does, nothing is deleted, and a push that begins during a sweep
waits for its end. A push that was killed holds sweeps up for --grace. What other tools copy to the cache is safe for
--grace, until a release names it.

Nothing is deleted if anything cannot be read: a record, a version of a remote, the cache. It needs s3:ListBucket and
s3:GetObject of the cache, s3:PutObject below npcnix/, and s3:DeleteObject, as the Terraform module cache_s3 gives; of
the remotes, what npcnix history needs. It costs one GET for each path of the cache.

Exit codes: 0 done; 1 failed, or nothing was deleted as a push or another run is under way; 2 wrong usage.`

const (
	keepReleases = 10
	keepFor      = 30 * 24 * time.Hour
	leastKept    = 24 * time.Hour
	sweepGrace   = 24 * time.Hour
	leastGrace   = time.Hour
)

type cacheGCOptions struct {
	cache            string
	remotes          []string
	region           string
	signers          string
	keep             int
	olderThan, grace time.Duration
	dryRun           bool
}

func newCacheCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Delete what nothing needs from a binary cache",
		Args:  noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return usageError{errors.New("give a command")}
		},
	}
	cmd.AddCommand(newCacheGCCommand(c))
	return cmd
}

func newCacheGCCommand(c *common) *cobra.Command {
	var o cacheGCOptions
	cmd := &cobra.Command{
		Use:   "gc --cache URL --remote URL... [--keep N] [--older-than D] [--dry-run]",
		Short: "Delete what nothing needs from a binary cache",
		Long:  cacheGCHelp,
		Example: "  npcnix cache gc --cache 's3://CACHE?region=eu-central-1' --remote s3://BUCKET/npcnix/remotes/dev.npcnix --dry-run\n" +
			"  npcnix cache gc --cache 's3://CACHE?region=eu-central-1' --remote s3://BUCKET/npcnix/remotes/dev.npcnix --keep 20",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runCacheGC(cmd.Context(), c, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.cache, "cache", "", "URL of the cache, as for push --cache")
	flags.StringArrayVar(&o.remotes, "remote", nil, "remote whose releases and hosts use the cache (repeatable); to prevent accidents, config.json is not used")
	flags.StringVar(&o.region, "remote-region", "", "region of the remotes' buckets")
	flags.StringVar(&o.signers, "signers", "", "file of public keys: only releases that they vouch for count for --keep (default: all)")
	flags.IntVar(&o.keep, "keep", keepReleases, "how many releases of each remote stay")
	flags.DurationVar(&o.olderThan, "older-than", keepFor, "releases that a remote held in this time stay too; 24h at least")
	flags.DurationVar(&o.grace, "grace", sweepGrace, "how long a path must be known to be unneeded; longer than any push takes, and 1h at least")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print what would be deleted, and change nothing")
	_ = cmd.MarkFlagRequired("cache")
	_ = cmd.MarkFlagRequired("remote")
	return cmd
}

func (o cacheGCOptions) check() error {
	switch {
	case o.keep < 1:
		return fmt.Errorf("--keep is %d: it must be 1 at least", o.keep)
	case o.olderThan < leastKept:
		return fmt.Errorf("--older-than is %s: it must be 24h at least, as hosts can still be fetching what the remote held a moment ago", o.olderThan)
	case o.grace < leastGrace:
		return fmt.Errorf("--grace is %s: it must be 1h at least, and longer than any push takes", o.grace)
	}
	return nil
}

func runCacheGC(ctx context.Context, c *common, o cacheGCOptions) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	signers, err := readSigners("signers", o.signers)
	if err != nil {
		return err
	}
	files, err := store.OpenCache(ctx, o.cache, store.Options{Warn: c.warn})
	if errors.Is(err, store.ErrCacheKind) || errors.Is(err, store.ErrURL) {
		return usageError{fmt.Errorf("--cache: %w", err)}
	}
	if err != nil {
		return err
	}
	run := cache.Collection{Files: files, Keep: o.keep, OlderThan: o.olderThan, Grace: o.grace, DryRun: o.dryRun,
		Say: func(line string) { _ = c.print("%s\n", line) }}
	var remotes []*store.Remote
	for _, url := range o.remotes {
		r, err := (remoteFlags{url: url, region: o.region}).open(ctx, c)
		if err != nil {
			return err
		}
		if r.Key() == "" {
			return usageError{fmt.Errorf("--remote %s: %w, so what its hosts run is not known", r.URL(), store.ErrNoListing)}
		}
		remotes, run.Remotes = append(remotes, r), append(run.Remotes, r.Name())
	}
	run.Needed = func(ctx context.Context) (map[string][]string, error) {
		needed := map[string][]string{}
		for _, r := range remotes {
			p := publish.Publisher{Options: publish.Options{Remote: r.Name(), Signers: signers, Log: c.log}}
			systems, err := neededOf(ctx, &p, r, o.keep, o.olderThan)
			if err != nil {
				return nil, err
			}
			needed[r.Name()] = append(needed[r.Name()], systems...)
		}
		return needed, nil
	}
	swept, err := run.Run(ctx)
	if err == nil || swept != (cache.Swept{}) {
		o.report(c, swept)
	}
	return err
}

// neededOf returns the toplevels that a remote's releases and hosts need. Releases are looked at first: what a host
// takes afterwards is among them.
func neededOf(ctx context.Context, p *publish.Publisher, r *store.Remote, keep int, olderThan time.Duration) ([]string, error) {
	now, err := r.Now(ctx)
	if err != nil {
		return nil, err
	}
	needed, err := p.Needed(ctx, r, keep, now.Add(-olderThan))
	if err != nil {
		return nil, err
	}
	reader := fleet.Reader{Store: r}
	entries, err := reader.Look(ctx)
	if err != nil {
		return nil, fmt.Errorf("what the hosts run is not known: %w", err)
	}
	for _, e := range entries {
		if e.Record == nil {
			return nil, fmt.Errorf("what %s runs is not known, as its record beside %s cannot be understood: delete the record if the host is no more", fleet.Clean(e.Host), r.URL())
		}
		for _, system := range []string{e.Record.System, e.Record.PreviousSystem} {
			if system != "" {
				needed = append(needed, system)
			}
		}
	}
	return needed, nil
}

func (o cacheGCOptions) report(c *common, s cache.Swept) {
	done := map[bool]string{true: "to delete", false: "deleted"}[o.dryRun]
	_ = c.print("%d paths %s, %s; %d wait for --grace, %s; %d are needed\n", s.Paths, done, cache.Bytes(s.Bytes), s.Waiting, cache.Bytes(s.Held), s.Marked)
	if s.Others > 0 {
		_ = c.print("all releases of %d other remotes stay: name them with --remote\n", s.Others)
	}
}
