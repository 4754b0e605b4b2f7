package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const promoteHelp = `Publish the release that one remote holds to another one: what staging runs becomes what production gets. Packed
flake and systems are the same, and so is the release's name. The manifest is a new one: it is for the other remote,
has a serial of its own, and is signed by your key. The remotes can be in different buckets, regions and stores.

It is refused unless all hosts of the first remote run the release by their records, are healthy, and were heard in
the last two hours, and unless its rollout, if it had one, is complete. --force publishes it all the same; then the
message that hosts and people see says so.

Nothing is signed that does not verify: the first remote's release must be signed by a key in --from-signers, or
without that flag by one in --signers or of --sign-key. --signers-required counts for both remotes. With --wave, the
hosts take it in waves: see npcnix rollout.

Exit codes: 0 published, or the remote holds that release already; 1 failed; 2 wrong usage; 3 not all hosts run it;
5 another publish came first. With --wait or --wave also those of npcnix wait or rollout.`

type promoteOptions struct {
	push        pushOptions
	from        remoteFlags
	fromSigners string
}

func newPromoteCommand(c *common) *cobra.Command {
	var o promoteOptions
	cmd := &cobra.Command{
		Use:   "promote --from URL --to URL --sign-key FILE",
		Short: "Publish to one remote what the hosts of another one run",
		Long:  promoteHelp,
		Example: "  npcnix promote --from s3://BUCKET/npcnix/remotes/staging.npcnix --to s3://BUCKET/npcnix/remotes/prod.npcnix --sign-key prod-key \\\n" +
			"    --from-signers staging-key.pub --wave canary-* --wave 100%",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPromote(cmd.Context(), c, o, cmd.Flags()) },
	}
	o.push.addAgainFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.from.url, "from", "", "remote whose hosts run the release")
	flags.StringVar(&o.push.remote.url, "to", "", "remote to publish it to")
	flags.StringVar(&o.fromSigners, "from-signers", "", "file of public keys that the release must be signed by (default: --signers and the signing keys)")
	flags.BoolVar(&o.push.force, "force", false, "publish even if not all hosts of --from run it, as the message says then, or if the caches lack systems")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func runPromote(ctx context.Context, c *common, o promoteOptions, flags *pflag.FlagSet) error {
	from, err := o.from.open(ctx, c)
	if err != nil {
		return err
	}
	signers, err := readSigners("from-signers", o.fromSigners)
	if err != nil {
		return err
	}
	p, err := o.push.begin(ctx, c, flags)
	if err != nil {
		return err
	}
	defer p.done()
	if from.Name() == p.remote.Name() {
		return usageError{fmt.Errorf("--from and --to are the same remote, %s: npcnix release renew signs its release again", from.Name())}
	}
	source, err := o.tested(ctx, c, from, p.publisher.Reading(from.Name(), signers))
	if err != nil {
		return err
	}
	last, err := p.publisher.Last(ctx, p.remote)
	if err != nil {
		return err
	}
	if published, err := p.publisher.Published(ctx, p.remote, last, source.Release.Manifest); err != nil {
		return err
	} else if published {
		c.log.Info("the remote holds this release already; nothing was published", "release", publish.Short(source.Release.Manifest))
		return nil
	}
	if err := o.push.checkCached(ctx, c, p.publisher, source.Release.Manifest); err != nil {
		return err
	}
	p.publisher.Source.Message = o.push.release.message
	if err := announce(ctx, c, p.remote, "Promote to", last, source.Release); err != nil {
		return err
	}

	serial, err := p.publisher.Serial(ctx, p.remote, last)
	if err != nil {
		return err
	}

	return o.push.publishAgain(ctx, c, p, []place{{from, source.Version}}, source.Release, last, serial)
}

// tested returns the release that the remote holds, if its hosts run it or --force says otherwise. It completes the
// message.
func (o *promoteOptions) tested(ctx context.Context, c *common, from *store.Remote, reader *publish.Publisher) (publish.Last, error) {
	last, err := reader.Last(ctx, from)
	if err != nil {
		return last, err
	}
	if last.Release == nil {
		return last, fmt.Errorf("nothing was published: %s holds no release that your signers vouch for; --from-signers FILE names its keys", from.URL())
	}
	how := "promoted"
	doubt, err := doubts(ctx, from, last)
	switch {
	case err != nil && !o.push.force:
		return last, fmt.Errorf("nothing was published: whether its hosts run the release is not known: %w", err)
	case err != nil:
		doubt = []string{"its hosts' records cannot be read"}
	case len(doubt) > 0 && !o.push.force:
		return last, exitError{fmt.Errorf("nothing was published: %s: %s; --force publishes it all the same, and says so in its message", from.URL(), listed(doubt)), exitHosts}
	}
	if len(doubt) > 0 {
		c.log.Warn("it is published by force", "remote", from.URL(), "why", listed(doubt))
		how = fmt.Sprintf("promoted by force (%s)", forced(doubt))
	}
	message := o.push.release.message
	if message == "" {
		message = last.Release.Source.Message
	}
	o.push.release.message = restated(how, message)

	return last, nil
}

// forced is how a message says why a promotion was forced: bounded, and without parentheses of its own.
func forced(doubt []string) string {
	const most = 300
	why := []rune(strings.NewReplacer("(", "[", ")", "]").Replace(listed(doubt)))
	if len(why) > most {
		why = append(why[:most], '…')
	}
	return string(why)
}

// doubts says why a release is not known to be good on the hosts of its remote. The records of hosts that are no more
// count until they are deleted.
func doubts(ctx context.Context, from *store.Remote, last publish.Last) ([]string, error) {
	var found []string
	if last.Unfinished() {
		state := release.Rollout("not known")
		if last.Progress != nil {
			state = last.Progress.State
		}
		found = append(found, fmt.Sprintf("its rollout is %s", state))
	}
	reader := fleet.Reader{Store: from}
	entries, err := reader.Look(ctx)
	if err != nil {
		return nil, err
	}
	known := 0
	for _, e := range entries {
		if e.Record != nil && e.Record.RenamedTo != "" {
			continue
		}
		known++
		if why := doubtOf(e, last.Release.Release); why != "" {
			found = append(found, fleet.Clean(e.Host)+" "+why)
		}
	}
	if known == 0 {
		found = append(found, "no host of it has a record")
	}
	slices.Sort(found)

	return found, nil
}

// doubtOf says why a host does not speak for the release; "" if it does.
func doubtOf(e fleet.Entry, name string) string {
	switch {
	case e.Record == nil:
		return "has a record that cannot be understood"
	case e.Record.Runs().Release != name:
		return "does not run it: " + inWords(e.Record.Status)
	case time.Since(e.Heard) > fleet.StaleAfter:
		return "was not heard since " + stamp(e.Heard)
	case e.Record.Unhealthy != "":
		return "is unhealthy: " + fleet.Clean(e.Record.Unhealthy)
	}

	return ""
}
