package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

const hostsGCHelp = `Remove what is left of hosts that are no more: the subscription and the queues that a host made for itself (queue_url
= auto), and then its record, so that no command counts it any longer. A run that was ended half way is finished by
the next one. A host that comes back makes its queue again.

A host is heard when it writes its record, and is no more if it was not heard for --older-than. What it receives from
its queue does not count, as SQS does not tell. For hosts on EC2, give the IDs of all instances that are not
terminated, of all regions and accounts, with --instances. Such a host is no more if it is not listed and was not heard
for a day, and stays however long it was silent if it is listed. Nobody is removed who was heard in the last day.
Instead of a record that was never written, the time counts when the queue was made; such a host is removed only if its
instance is not listed.

A host that writes its record seldom (record_refresh_secs) or cannot write it looks silent: list it, or give a longer
--older-than. One that only writes news (0) is left, unless its instance is known to be no more.

Only queues are deleted whose name and tags say that a host of this remote made them. Others, such as those of
Terraform, are named, and their hosts' records stay.

It prints a line for each host that it removes or leaves. Exit codes: 0 done; 1 a host could not be removed, and the
next run tries again; 2 wrong usage.`

type hostsGCOptions struct {
	remote    remoteFlags
	topicARN  string
	olderThan time.Duration
	instances string
	records   bool // and nothing else
	dryRun    bool
}

func newHostsGCCommand(c *common) *cobra.Command {
	var o hostsGCOptions
	cmd := &cobra.Command{
		Use:   "gc --remote URL {--topic-arn ARN | --records-only} [--older-than D] [--instances FILE] [--dry-run]",
		Short: "Remove what is left of hosts that are no more",
		Long:  hostsGCHelp,
		Example: "  npcnix hosts gc --remote s3://BUCKET/npcnix/remotes/dev.npcnix --topic-arn ARN --dry-run\n" +
			"  aws ec2 describe-instances --filters Name=instance-state-name,Values=pending,running,stopping,stopped \\\n" +
			"    --query 'Reservations[].Instances[].InstanceId' --output text |\n" +
			"  npcnix hosts gc --remote s3://BUCKET/npcnix/remotes/dev.npcnix --topic-arn ARN --instances -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runHostsGC(cmd.Context(), c, o, cmd.InOrStdin())
		},
	}
	flags := cmd.Flags()
	o.remote.addFlags(flags, "remote whose hosts to remove; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
	flags.StringVar(&o.topicARN, "topic-arn", "", "topic that announces publishes, to which hosts have subscribed their own queues")
	flags.BoolVar(&o.records, "records-only", false, "no host has made a queue for itself: remove records only")
	cmd.MarkFlagsMutuallyExclusive("topic-arn", "records-only")
	flags.DurationVar(&o.olderThan, "older-than", fleet.CollectAfter, "remove hosts that were not heard for so long; 24h at least")
	flags.StringVar(&o.instances, "instances", "", "file with the IDs of the instances that there are, or - for stdin")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print what would be removed, and remove nothing")
	return cmd
}

func runHostsGC(ctx context.Context, c *common, o hostsGCOptions, stdin io.Reader) error {
	if o.olderThan < fleet.LeastCollectAfter {
		return usageError{fmt.Errorf("--older-than is %s: it must be 24h at least", o.olderThan)}
	}
	if o.topicARN == "" && !o.records && strings.HasPrefix(o.remote.url, "s3:") {
		return usageError{errors.New("give --topic-arn, or --records-only if no host has made a queue for itself (queue_url = auto)")}
	}
	alive, err := readInstances(o.instances, stdin)
	if err != nil {
		return usageError{fmt.Errorf("--instances: %w", err)}
	}
	remote, err := o.remote.open(ctx, c)
	if err != nil {
		return err
	}
	run := fleet.Collection{Store: remote, OlderThan: o.olderThan, Alive: alive, DryRun: o.dryRun,
		Say: func(line string) { _ = c.print("%s\n", line) }}
	if o.topicARN != "" {
		if err := events.CheckTopic(o.topicARN); err != nil {
			return usageError{fmt.Errorf("--topic-arn: %w", err)}
		}
		if run.Queues, err = events.OpenOwnQueues(ctx, events.OwnQueueOptions{Topic: o.topicARN, Remote: remoteTag(o.remote.url), Warn: c.warn}); err != nil {
			return err
		}
	}
	sum, err := run.Run(ctx)
	if errors.Is(err, store.ErrNoListing) || errors.Is(err, store.ErrNoDeletion) {
		return usageError{err}
	}
	if err == nil || sum != (fleet.Collected{}) {
		_ = c.print("%d %s, %d left, %d kept\n", sum.Removed, map[bool]string{true: "to remove", false: "removed"}[o.dryRun], sum.Left, sum.Kept)
	}
	return err
}

// readInstances reads the IDs of living instances; nil: none were given.
func readInstances(name string, stdin io.Reader) (map[string]bool, error) {
	if name == "" {
		return nil, nil
	}
	text, err := []byte(nil), error(nil)
	if name == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, 64<<20))
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	alive, err := fleet.ParseInstances(string(text))
	if err != nil && name != "-" {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return alive, err
}
