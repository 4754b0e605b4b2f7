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
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

// waitFlags say whom to wait for, and how; wait and push --wait share them.
type waitFlags struct {
	hosts     []string
	hostsFile string
	topicARN  string
	minOK     string
	keepGoing bool
	timeout   time.Duration
	interval  time.Duration
	byQueue   bool
	settle    time.Duration
	json      bool
}

func (w *waitFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&w.hosts, "host", nil, "a host to wait for (repeatable)")
	flags.StringVar(&w.hostsFile, "hosts-file", "", "a file with hosts to wait for, one on a line; # begins a comment")
	flags.StringVar(&w.topicARN, "topic-arn", "", "wait for the hosts whose queues are subscribed to this topic, as the queues' tag "+fleet.HostTag+" says")
	flags.StringVar(&w.minOK, "min-ok", "", "how many hosts must run it, as N or N% (default: all)")
	flags.BoolVar(&w.keepGoing, "keep-going", false, "when a host failed, still wait for the answers of the rest")
	flags.DurationVar(&w.timeout, "timeout", fleet.DefaultTimeout, "how long to wait; finding out whom to wait for may take as long before")
	flags.DurationVar(&w.interval, "interval", fleet.DefaultInterval, "time between two looks")
	flags.BoolVar(&w.byQueue, "by-queue", false, "judge by the queues alone, for hosts that may not write records (with --topic-arn)")
	flags.DurationVar(&w.settle, "settle", fleet.DefaultSettle, "with --by-queue: how long a queue must stay empty")
	flags.BoolVar(&w.json, "json", false, "print an object for each change and a summary, one on a line")
}

func (w *waitFlags) validate() error {
	switch {
	case w.timeout <= 0 || w.interval <= 0 || w.settle <= 0:
		return usageError{errors.New("--timeout, --interval and --settle must be more than 0")}
	case w.byQueue && w.topicARN == "":
		return usageError{errors.New("--by-queue needs --topic-arn: the queues are those subscribed to it")}
	}
	if w.minOK != "" {
		if _, err := fleet.ParseNeed(w.minOK); err != nil {
			return usageError{fmt.Errorf("--min-ok: %w", err)}
		}
	}
	return nil
}

// onlyWith refuses the flags where there is no wait that they could go with.
func (w *waitFlags) onlyWith(wait bool, flags *pflag.FlagSet) error {
	if wait {
		return w.validate()
	}
	var own pflag.FlagSet
	new(waitFlags).register(&own)
	var err error
	flags.Visit(func(f *pflag.Flag) {
		environment := os.Getenv("NPCNIX_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))) != "" // which is for all commands
		if own.Lookup(f.Name) != nil && !environment && err == nil {
			err = usageError{fmt.Errorf("--%s goes with --wait", f.Name)}
		}
	})
	return err
}

const waitHelp = `Wait until the expected hosts run a version: the one that the remote holds now, or --etag.

The hosts expected are those of --host, --hosts-file and --topic-arn together; with none of these, all
that have an acknowledgement record beside the remote. A host is done when its record says that it
applied exactly this version from this remote. Whatever else is missing: a host without a record, a
paused one, one that was switched by hand (drifted), one whose record cannot be understood, and one
that was last heard more than two hours before the publish, by the store's clock. That happens when
the same files are published again, to which agents say nothing new: those that live are heard each
hour (record_refresh_secs). With record_refresh_secs 0, or more than two hours, such a host stays
missing until it has news, or its agent starts anew.

The wait ends as soon as --min-ok hosts are done, or so many have failed that this cannot come about
any more (--keep-going then still waits for the rest). A host has failed when an attempt failed, even
if it will try again, or when it rolled the version back or rejected it; one that says so after it
said applied has failed too. When the remote comes to hold another version, the wait for the older
one ends as superseded: two looks in a row must see it, and it must not be older by the store's clock.
Errors after the first look do not end the wait.

Each interval costs one HEAD, and one LIST per 1,000 records; records are read when they have changed.
With --topic-arn the queues of hosts that are not done are shown too: one to two requests a queue each
10 s.

--by-queue, for hosts that may not write records, looks at the queues' counters alone. A host is done
when its queue was seen to get the event, then was empty for --settle, and its dead-letter queue
gained nothing. Zero alone proves nothing, since the event may be on its way: a host that takes the
event between two looks is never seen and stays missing. A dead-letter queue that hosts share counts
against all of them. Which version a host runs, queues cannot tell, nor that it waits for a restart to run it.

The times from publish to applied are taken from the store's clock alone (its times of the published
object and of each record), on S3 to the second. Clocks of hosts and of this machine play no part.

With --etag of a version that neither the remote holds nor any host's record mentions, it ends with 1: the
version was never published there, or replaced before any host took it, or all hosts have moved on.

Exit codes: 0 enough hosts run it, 1 the wait could not be done or was interrupted, 2 wrong usage or no
hosts expected, 3 more hosts failed, rolled back or rejected it than --min-ok allows (by default any),
4 time ran out with hosts missing, and no more failed than that,
5 superseded: the remote holds another version by now.`

func waitCommand(c *common) *cobra.Command {
	var w waitFlags
	var remote, region, etag string
	cmd := &cobra.Command{
		Use:     "wait [--remote URL] [--host NAME]...",
		Short:   "Wait until the hosts run a version",
		Long:    waitHelp,
		Example: "  npcnix wait --remote s3://BUCKET/npcnix/remotes/dev.npcnix --host web1 --host web2\n  npcnix push --src . --remote s3://BUCKET/npcnix/remotes/dev.npcnix --wait --min-ok 95%",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := w.validate(); err != nil {
				return err
			}
			r, err := c.openRemote(ctx, remote, region)
			if err != nil {
				return err
			}
			v, from := store.Version{ETag: strings.Trim(etag, `"`)}, fleet.Named
			if v.ETag == "" {
				from = fleet.Held
				if v, err = r.Latest(ctx, v); err != nil {
					return err
				}
			}
			gate, err := w.prepare(ctx, c, cmd, r)
			if err != nil {
				return err
			}
			return waitFor(ctx, gate, v, from)
		},
	}
	cmd.Flags().StringVar(&remote, "remote", "", "remote whose hosts to wait for (default: the one in config.json)")
	cmd.Flags().StringVar(&region, "remote-region", "", "region of the remote's bucket")
	cmd.Flags().StringVar(&etag, "etag", "", "version to wait for, as push prints it (default: the one that the remote holds)")
	w.register(cmd.Flags())
	return cmd
}

// prepare finds out whom to wait for. It may take as long as the wait itself.
func (w *waitFlags) prepare(ctx context.Context, c *common, cmd *cobra.Command, r *store.Remote) (*fleet.Gate, error) {
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	gate, err := w.makeGate(limited, c, cmd, r)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("whom to wait for was not found out within %s (--timeout): %w", w.timeout, err)
	}
	return gate, err
}

func (w *waitFlags) makeGate(ctx context.Context, c *common, cmd *cobra.Command, r *store.Remote) (*fleet.Gate, error) {
	o := fleet.Options{
		Store: r, Hosts: w.hosts, KeepGoing: w.keepGoing, Timeout: w.timeout, Interval: w.interval,
		ByQueue: w.byQueue, Settle: w.settle, Views: w.views(c),
		Resume: func(etag string) string { return resume(cmd.Flags(), r, etag) },
	}
	if w.minOK != "" {
		o.Need, _ = fleet.ParseNeed(w.minOK) // validated
	}
	if w.hostsFile != "" {
		more, err := readHosts(w.hostsFile)
		if err != nil {
			return nil, err
		}
		o.Hosts = append(o.Hosts, more...)
	}
	if w.topicARN != "" {
		queues, err := fleet.OpenQueues(ctx, w.topicARN, func(msg string) { c.log.Warn(msg) })
		if errors.Is(err, fleet.ErrHosts) {
			err = usageError{err}
		}
		if err != nil {
			return nil, err
		}
		o.Queues = queues
		o.Hosts = append(o.Hosts, queues.Hosts()...)
	}
	gate, err := fleet.Prepare(ctx, o)
	if errors.Is(err, fleet.ErrHosts) {
		err = usageError{err}
	}
	return gate, err
}

func readHosts(name string) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("--hosts-file: %w", err)}
	}
	defer file.Close()
	hosts, err := fleet.ReadHosts(file)
	if err == nil && len(hosts) == 0 {
		err = errors.New("it names no host")
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--hosts-file %s: %w", name, err)}
	}
	return hosts, nil
}

// views are how the wait is shown: to a person on stderr, to programs on stdout, and to GitHub.
func (w *waitFlags) views(c *common) []fleet.View {
	var views []fleet.View
	out, err := terminal(c.stdout), terminal(c.stderr)
	switch {
	case w.json && out != nil: // one screen is not for two
	case err != nil:
		views = append(views, &fleet.Terminal{W: err, Size: func() (int, int) {
			width, height, _ := term.GetSize(int(err.Fd()))
			return width, height
		}})
	default:
		views = append(views, &fleet.Lines{W: c.stderr})
	}
	if w.json {
		views = append(views, &fleet.JSON{W: c.stdout})
	}
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" {
		views = append(views, &fleet.StepSummary{Path: path, Warn: func(msg string) { c.log.Warn(msg) }})
	}
	return views
}

// terminal returns the terminal that w is; nil if it is none that can be drawn on.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return f
}

func waitFor(ctx context.Context, gate *fleet.Gate, v store.Version, from fleet.Origin) error {
	result, err := gate.WaitFor(ctx, v, from)
	if err != nil {
		return err
	}
	if err = result.Err(); err == nil {
		return nil
	}
	code := exitFailed
	switch result.Outcome {
	case fleet.HostsFailed:
		code = exitHosts
	case fleet.TimedOut:
		code = exitTime
	case fleet.Superseded:
		code = exitSuperseded
	}
	return exitError{err, code}
}

// resume is the command that takes up a wait with the flags it was given. A remote with secrets in its
// URL is left to the reader.
func resume(flags *pflag.FlagSet, remote *store.Remote, etag string) string {
	where, note := quote(remote.URL()), ""
	if remote.Masked() {
		where, note = `"$REMOTE"`, " # REMOTE is the URL that was given: it is not printed, as it holds secrets"
	}
	words := []string{"npcnix wait", "--remote " + where, "--etag " + quote(etag)}
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "host":
			hosts, _ := flags.GetStringArray(f.Name)
			for _, host := range hosts {
				words = append(words, "--host "+quote(host))
			}
		case "remote-region", "hosts-file", "topic-arn", "min-ok", "timeout", "interval", "settle":
			words = append(words, "--"+f.Name+" "+quote(f.Value.String()))
		case "keep-going", "by-queue", "json":
			if f.Value.String() == "true" {
				words = append(words, "--"+f.Name)
			}
		}
	})
	return strings.Join(words, " ") + note
}

// quote makes one word of a shell's command line.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// openRemote opens the remote that was named, or the one in config.json.
func (c *common) openRemote(ctx context.Context, remote, region string) (*store.Remote, error) {
	if remote == "" {
		config, err := c.dir().LoadConfig()
		if err != nil {
			return nil, err
		}
		if config.Remote == "" {
			return nil, usageError{errors.New("no remote: give --remote, or set it with `npcnix config set remote URL`")}
		}
		remote = config.Remote
		if region == "" {
			region = config.RemoteRegion
		}
	}
	return c.openStore(ctx, remote, region)
}
