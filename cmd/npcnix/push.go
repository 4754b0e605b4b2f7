package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const pushHelp = `Pack a flake and publish it to a remote. Prints the ETag that hosts will see.

With --wait it then waits until the hosts run that version, as npcnix wait does and with its flags and exit
codes: see npcnix wait --help. The hosts to expect are determined before anything is published.`

type pushOptions struct {
	flake   flakeFlags
	release releaseFlags
	again   bool
	force   bool
	lockOut bool
	dryRun  bool
	check   string
	remote  remoteFlags
	wait    bool
	waiting waitFlags
	plan    planFlags
	waves   waveFlags

	gate *fleet.Gate // to wait at afterwards; nil: the command does not wait
}

func newPushCommand(c *common) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:     "push --src DIR --remote URL [--wait]",
		Short:   "Pack a flake and publish it to a remote",
		Long:    pushHelp,
		Example: "  npcnix push --src ./configurations --remote s3://BUCKET/npcnix/remotes/dev.npcnix --wait",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runPush(cmd.Context(), c, o, cmd.Flags()) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *pushOptions) addFlags(cmd *cobra.Command) {
	o.flake.addFlags(cmd)
	o.release.addFlags(cmd.Flags())
	o.plan.addFlags(cmd.Flags())
	o.waves.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.again, "again", false, "publish a release even if the remote holds the same one")
	cmd.Flags().BoolVar(&o.force, "force", false, "publish even if --rev does not follow the revision that the remote holds, or if the release to go back to is not certain")
	cmd.Flags().BoolVar(&o.lockOut, "allow-lock-out", false, "publish even if a host would refuse the keys that sign, or that nothing is signed")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "do everything but publish, and print what would change")
	cmd.Flags().StringVar(&o.check, "check", checkNames, "what to evaluate before the publish: the names of the configurations, all of their systems, or none")
	cmd.Flags().Lookup("check").NoOptDefVal = checkAll
	cmd.Flags().BoolVar(&o.wait, "wait", false, "then wait until the hosts run it; the flags of npcnix wait go with it")
	o.waiting.addFlags(cmd.Flags())
	o.remote.addFlags(cmd.Flags(), "remote to publish to; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "wait")
	cmd.MarkFlagsMutuallyExclusive("wave", "wait")
}

func runPush(ctx context.Context, c *common, o pushOptions, flags *pflag.FlagSet) error {
	p, err := o.begin(ctx, c, flags)
	if err != nil {
		return err
	}
	defer p.done()
	var last publish.Last // noted first, since what is published meanwhile is not to be replaced
	if p.publisher != nil {
		if last, err = p.publisher.Last(ctx, p.remote); err != nil {
			return withCode(ctx, p.publisher, p.remote, err)
		}
	}
	packed, err := o.flake.temporary(ctx, c, p.remote.Files()...)
	if err != nil {
		return err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	if err := o.evaluate(ctx, c, packed); err != nil {
		return err
	}
	if err := o.lookBefore(ctx, p.remote); err != nil {
		return err
	}
	m, v, held, err := o.publish(ctx, c, p.remote, p.publisher, last, packed)
	if err != nil || o.dryRun {
		return withCode(ctx, p.publisher, p.remote, err)
	}

	return o.published(ctx, c, p, m, v, held)
}

// published tells of the version that was published, or that the remote held already, and waits for its hosts if the
// flags say so.
func (o *pushOptions) published(ctx context.Context, c *common, p publishing, m *release.Manifest, v store.Version, held bool) error {
	if !o.waiting.json {
		if err := c.print("%s\n", v.ETag); err != nil {
			return err
		}
	}
	switch {
	case held && o.release.plan != nil && m.Rollout == nil:
		c.log.Info("all hosts were to take this release already: it has no rollout")
		return nil
	case held && o.gate != nil && o.waiting.byQueue:
		c.log.Info("no queue receives an event of what was not published: there is nothing to wait for")
		return nil
	case o.release.plan != nil:
		return o.takeThroughWaves(ctx, c, p.remote, p.publisher, m)
	}
	if o.gate == nil {
		o.sayNext(c, p.remote, v)
		return nil
	}
	return waitFor(ctx, o.gate, v, fleet.Published)
}

// withCode gives an error of a publish its exit code. If another publish came first, it says which.
func withCode(ctx context.Context, p *publish.Publisher, remote *store.Remote, err error) error {
	switch {
	case errors.Is(err, publish.ErrOlder):
		return exitError{fmt.Errorf("nothing was published: %w; --force publishes it all the same", err), exitSuperseded}
	case errors.Is(err, publish.ErrNoConfiguration):
		return usageError{err}
	case errors.Is(err, publish.ErrNoOrder):
		return fmt.Errorf("nothing was published: %w; --force publishes it all the same", err)
	case errors.Is(err, store.ErrChanged):
		holds := "what it is cannot be read"
		if p != nil {
			if now, unread := p.Held(ctx, remote); unread == nil {
				holds = "the remote holds " + rollout.Describe(now)
			}
		}
		return exitError{fmt.Errorf("another publish came first, and nothing was published: %s; look at it, then push again: %w", holds, err), exitSuperseded}
	case errors.Is(err, store.ErrUnconfirmed):
		return exitError{err, exitUnconfirmed}
	}

	return err
}

// sayNext tells a person at a terminal what was published, and how to go on.
func (o pushOptions) sayNext(c *common, remote *store.Remote, v store.Version) {
	if screen := terminal(c.stderr); screen != nil {
		where, note := typed(remote)
		_ = printTo(screen, "Published to %s. To wait for its hosts: npcnix wait --remote %s --etag %s%s\n", remote.URL(), where, quote(v.ETag), note)
	}
}

// publish publishes the packed flake, as a release if the publisher is not nil. A release replaces last and nothing
// else. One that the remote holds already is not published again. The results are what the remote then holds;
// of a flake without a release, the manifest is nil. Held says that it was not published.
func (o pushOptions) publish(ctx context.Context, c *common, remote *store.Remote, p *publish.Publisher, last publish.Last, packed *os.File) (m *release.Manifest, v store.Version, held bool, err error) {
	if p == nil {
		v, err = o.putUnsigned(ctx, c, remote, packed)
		return nil, v, false, err
	}

	if !o.force {
		if err := p.Follows(ctx, o.flake.src, last); err != nil {
			return nil, v, false, err
		}
	}
	if p.Plan != nil {
		if p.Plan.Base, err = last.Base(o.force); err != nil {
			return nil, v, false, fmt.Errorf("nothing was published: %w", err)
		}
	}
	serial, err := p.Serial(ctx, remote, last)
	if err != nil {
		return nil, v, false, err
	}
	if m, err = p.Frame(ctx, packed, serial); err != nil {
		return nil, v, false, err
	}
	if held, err = p.Published(ctx, remote, last, m); err != nil {
		return nil, v, false, err
	}
	if held && !o.again {
		c.log.Info("the remote holds this release already; nothing was published (--again publishes it all the same)", "release", publish.Short(m))
		return last.Release.Manifest, last.Version, true, nil
	}

	if o.dryRun && last.Release != nil {
		d := differ{c: c, remote: remote, publisher: p, last: last}
		if err := d.show(ctx, side{manifest: m, packed: packed}); err != nil {
			return nil, v, false, err
		}
	}

	v, err = o.put(ctx, c, remote, m, packed, last.Version)

	return m, v, false, err
}

// putUnsigned publishes a flake without a release.
func (o pushOptions) putUnsigned(ctx context.Context, c *common, remote *store.Remote, packed *os.File) (store.Version, error) {
	size, err := rewound(packed)
	if err != nil {
		return store.Version{}, err
	}
	if o.dryRun {
		c.log.Info("would be published", "bytes", size)
		return store.Version{}, nil
	}
	if err := o.baseline(ctx); err != nil {
		return store.Version{}, err
	}

	return remote.Publish(ctx, packed, size)
}

// baseline has a wait note what it must know of the time before the publish.
func (o pushOptions) baseline(ctx context.Context) error {
	if o.gate == nil {
		return nil
	}

	return o.gate.Baseline(ctx)
}

// put publishes a release over what the remote held when it was made.
func (o pushOptions) put(ctx context.Context, c *common, remote *store.Remote, m *release.Manifest, packed *os.File, over store.Version) (store.Version, error) {
	size, err := rewound(packed)
	if err != nil {
		return store.Version{}, err
	}
	about := []any{"release", publish.Short(m), "serial", m.Serial, "prebuilt", len(m.Systems), "signatures", len(o.release.keys), "bytes", size}
	if o.dryRun {
		c.log.Info("would be published", about...)
		return store.Version{}, nil
	}
	if err := o.baseline(ctx); err != nil {
		return store.Version{}, err
	}
	v, err := remote.PublishOver(ctx, packed, size, over)
	if err == nil {
		c.log.Info("published", about...)
	}

	return v, err
}

// rewound sets the file to its beginning and returns its size.
func rewound(file *os.File) (int64, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file.Name(), err)
	}

	return size, nil
}
