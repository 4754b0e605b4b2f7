package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// waitFlags say whom to wait for, and how; wait and push --wait share them.
type waitFlags struct {
	hosts     []string
	hostsFile string
	topicARN  string
	minOK     string
	keepGoing bool
	unknown   bool
	timeout   time.Duration
	interval  time.Duration
	byQueue   bool
	emptyFor  time.Duration
	json      bool
	junit     string
}

func (w *waitFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&w.hosts, "host", nil, "host to wait for (repeatable)")
	flags.StringVar(&w.hostsFile, "hosts-file", "", "file with hosts to wait for, one per line; # begins a comment")
	flags.StringVar(&w.topicARN, "topic-arn", "", "wait for the hosts whose queues are subscribed to this topic, by the queues' tag "+fleet.HostTag)
	flags.StringVar(&w.minOK, "min-ok", "", "how many hosts must run it, as N or N% (default: all)")
	flags.BoolVar(&w.keepGoing, "keep-going", false, "after a host failed, still wait for the others")
	flags.BoolVar(&w.unknown, "allow-unknown", false, "also wait for hosts that have no record yet, although other hosts have one")
	flags.DurationVar(&w.timeout, "timeout", fleet.DefaultTimeout, "how long to wait; to determine the hosts can take as long before")
	flags.DurationVar(&w.interval, "interval", fleet.DefaultInterval, "time between two looks")
	flags.BoolVar(&w.byQueue, "by-queue", false, "judge by the queues alone, for hosts that cannot write records (with --topic-arn)")
	flags.DurationVar(&w.emptyFor, "empty-for", fleet.DefaultEmptyFor, "with --by-queue: how long a queue must stay empty")
	flags.BoolVar(&w.json, "json", false, "print an object for each change and a summary, one per line")
	flags.StringVar(&w.junit, "junit", "", junitHelp)
}

func (w *waitFlags) validate() error {
	switch {
	case w.timeout <= 0 || w.interval <= 0 || w.emptyFor <= 0:
		return usageError{errors.New("--timeout, --interval and --empty-for must be more than 0")}
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

const junitHelp = "write a JUnit file with a case for each host, for GitLab and Jenkins"

// onlyWith refuses the flags where there is no wait that they could go with.
func (w *waitFlags) onlyWith(wait, waves bool, flags *pflag.FlagSet) error {
	if wait {
		return w.validate()
	}
	var own pflag.FlagSet
	new(waitFlags).addFlags(&own)
	var err error
	flags.Visit(func(f *pflag.Flag) {
		environment := os.Getenv(variable(f.Name)) != "" // which is for all commands
		if own.Lookup(f.Name) != nil && !environment && err == nil && !(waves && f.Name == "junit") {
			err = usageError{fmt.Errorf("--%s goes with --wait", f.Name)}
		}
	})
	return err
}

const waitHelp = `Wait until the expected hosts run a version: the one that the remote holds now, or --etag.

Expected are the hosts of --host, --hosts-file and --topic-arn together. If none of these is given, they are
all hosts that have a record beside the remote. A host is done if its record says that it applied exactly
this version from this remote. If the version is a release, another publish of it counts too. A host has failed
if an attempt failed, even if it will try again. It has also failed if it rolled the version back or rejected it,
even after it was done. All other hosts are missing:

  - unheard hosts, which have no record, and hosts whose record cannot be understood
  - paused hosts
  - drifted hosts, which run something else because an operator switched them
  - silent hosts, which were last heard more than two hours before the publish, by the store's clock

A host of --host or --hosts-file must have a record, if any host has one: otherwise its name is taken for a
mistake, and the wait does not begin. --allow-unknown waits for such hosts too.

The wait ends as soon as --min-ok hosts are done, or once too many have failed for --min-ok to be reached;
--keep-going then still waits for the rest. If the remote comes to hold another version, the wait for the
older one ends as superseded: two looks in a row must see it, and it must not be older by the store's clock.
A release that was renewed or published again is no other version.
Errors after the first look do not end the wait.

A version that was published before can make a host silent, because an agent has nothing new to say about
it. Agents write their record every hour (record_refresh_secs). With record_refresh_secs 0, or more than two
hours, such a host stays missing until it has news or its agent starts again.

Each interval costs one HEAD, and one LIST per 1,000 records. The end of each version is read once. A record is read when it has changed. With
--topic-arn the queues of hosts that are not done are shown too: one to two requests per queue every 10 s.

--by-queue is for hosts that cannot write records. It looks at the queues' counters alone. A host is done if
its queue received the event, then was empty for --empty-for, and its dead-letter queue gained nothing. If the
host takes the event between two looks, the event is never seen and the host stays missing. A dead-letter
queue that several hosts share counts against all of them. Queues cannot tell which version a host runs, nor
that it waits for a reboot.

The times from publish to applied come from the store's clock, on S3 in whole seconds. The clocks of the hosts
and of this machine do not matter.

If --etag names a version that neither the remote holds nor any host's record mentions, it exits with 1: the
version was never published there, or replaced before any host took it, or all hosts have moved on.

Exit codes: 0 enough hosts run it, 1 the wait failed or was interrupted, 2 wrong usage or no hosts expected,
3 more hosts failed, rolled back or rejected it than --min-ok allows (by default any), 4 time ran out with
hosts missing, and no more failed than that,
5 superseded: the remote holds another version by now.`

type waitOptions struct {
	waitFlags
	remote remoteFlags
	etag   string
}

func newWaitCommand(c *common) *cobra.Command {
	var o waitOptions
	cmd := &cobra.Command{
		Use:     "wait [--remote URL] [--host NAME]...",
		Short:   "Wait until the hosts run a version",
		Long:    waitHelp,
		Example: "  npcnix wait --remote s3://BUCKET/npcnix/remotes/dev.npcnix --host web1 --host web2\n  npcnix push --src . --remote s3://BUCKET/npcnix/remotes/dev.npcnix --wait --min-ok 95%",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runWait(cmd.Context(), c, o, cmd.Flags()) },
	}
	o.remote.addFlags(cmd.Flags(), "remote whose hosts to wait for (default: this host's)")
	cmd.Flags().StringVar(&o.etag, "etag", "", "version to wait for, as push prints it (default: the one that the remote holds)")
	o.addFlags(cmd.Flags())
	return cmd
}

func runWait(ctx context.Context, c *common, o waitOptions, flags *pflag.FlagSet) error {
	if err := o.validate(); err != nil {
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
	v, origin := store.Version{ETag: strings.Trim(o.etag, `"`)}, fleet.Named
	if v.ETag == "" {
		origin = fleet.Held
		if v, err = remote.Latest(ctx, v); err != nil {
			return err
		}
	}
	gate, err := o.prepare(ctx, c, flags, remote)
	if err != nil {
		return err
	}
	return waitFor(ctx, gate, v, origin)
}

// prepare determines the hosts to wait for. It can take as long as the wait itself.
func (w *waitFlags) prepare(ctx context.Context, c *common, flags *pflag.FlagSet, r *store.Remote) (*fleet.Gate, error) {
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	gate, err := w.makeGate(limited, c, flags, r)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("the hosts to wait for could not be determined within %s (--timeout): %w", w.timeout, err)
	}
	return gate, err
}

func (w *waitFlags) makeGate(ctx context.Context, c *common, flags *pflag.FlagSet, r *store.Remote) (*fleet.Gate, error) {
	o := fleet.Options{
		Store: r, Hosts: w.hosts, KeepGoing: w.keepGoing, Timeout: w.timeout, Interval: w.interval,
		ByQueue: w.byQueue, EmptyFor: w.emptyFor, Views: w.views(c),
		Resume: func(etag string) string { return resume(flags, r, etag) }, ReleaseOf: releaseOf(r),
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
	if !w.unknown {
		o.MustKnow = o.Hosts
	}
	if w.topicARN != "" {
		queues, err := fleet.OpenQueues(ctx, w.topicARN, c.warn)
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

// releaseOf reads which release a version of the remote is. Nothing is signed or run by what it says.
func releaseOf(r *store.Remote) func(context.Context, store.Version) (fleet.Release, error) {
	return func(ctx context.Context, v store.Version) (fleet.Release, error) {
		m, err := manifestOf(ctx, r, v)
		if err != nil || m == nil {
			return fleet.Release{}, err
		}
		return fleet.Release{ID: m.Release, Rev: m.Source.Rev, Message: m.Source.Message}, nil
	}
}

// wavesOf reads in which waves hosts take a version of the remote, to be shown alone, as releaseOf does.
func wavesOf(r *store.Remote) func(context.Context, store.Version) (fleet.Waves, error) {
	return func(ctx context.Context, v store.Version) (fleet.Waves, error) {
		m, err := manifestOf(ctx, r, v)
		if err != nil || m == nil || m.Rollout == nil {
			return fleet.Waves{}, err
		}
		return fleet.Waves{Count: len(m.Rollout.Waves), Of: m.Rollout.Wave}, nil
	}
}

// manifestOf reads the manifest of a version, whoever signed it; nil if it has none.
func manifestOf(ctx context.Context, r *store.Remote, v store.Version) (*release.Manifest, error) {
	f, _, err := publish.Read(ctx, r, v)
	if err != nil || f == nil {
		return nil, err
	}
	return release.Parse(f.Manifest)
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
		views = append(views, table(err))
	default:
		views = append(views, &fleet.Lines{W: c.stderr})
	}
	if w.json {
		views = append(views, &fleet.JSON{W: c.stdout})
	}
	return append(views, ciViews(c, w.junit)...)
}

// table shows hosts on a terminal.
func table(screen *os.File) *fleet.Terminal {
	return &fleet.Terminal{W: screen, Size: func() (int, int) {
		width, height, _ := term.GetSize(int(screen.Fd()))
		return width, height
	}}
}

// ciViews tell CI systems how something ended: GitHub Actions by its environment, others by a JUnit file.
func ciViews(c *common, junit string) []fleet.View {
	var views []fleet.View
	if path := os.Getenv("GITHUB_STEP_SUMMARY"); path != "" {
		views = append(views, &fleet.StepSummary{Path: path, Warn: c.warn})
	}
	if path := os.Getenv("GITHUB_OUTPUT"); path != "" {
		views = append(views, &fleet.StepOutput{Path: path, Warn: c.warn})
	}
	if os.Getenv("GITHUB_ACTIONS") == "true" {
		views = append(views, &fleet.Annotations{W: c.stderr})
	}
	if junit != "" {
		views = append(views, &fleet.JUnit{Path: junit, Warn: c.warn})
	}
	return views
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
	where, note := typed(remote)
	words := []string{"npcnix wait", "--remote " + where, "--etag " + quote(etag)}
	flags.Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "host":
			hosts, _ := flags.GetStringArray(f.Name)
			for _, host := range hosts {
				words = append(words, "--host "+quote(host))
			}
		case "remote-region", "remote-credentials-file", "hosts-file", "topic-arn", "min-ok", "timeout", "interval", "empty-for", "junit":
			words = append(words, "--"+f.Name+" "+quote(f.Value.String()))
		case "keep-going", "allow-unknown", "by-queue", "json":
			if f.Value.String() == "true" {
				words = append(words, "--"+f.Name)
			}
		}
	})
	return strings.Join(words, " ") + note
}

// typed is a remote in a command that a person can type, and a note for the end of the line.
func typed(remote *store.Remote) (where, note string) {
	if remote.Masked() {
		return `"$REMOTE"`, " # REMOTE is the URL that was given: it is not printed, as it holds secrets"
	}
	return quote(remote.URL()), ""
}

// quote makes one word of a shell's command line.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
