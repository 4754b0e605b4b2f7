package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

// follower is what follow and install have in common: flags over config.json, and the run.
type follower struct {
	*common
	hostFlags
	once  string
	force bool
	// unrecorded: what is applied is an intermediate step, which nobody is to take for the end.
	unrecorded bool
	over       config.Config // flags and environment; zero where not given
}

func followCommand(c *common) *cobra.Command {
	f := &follower{common: c}
	var pollInterval time.Duration
	cmd := &cobra.Command{
		Use:   "follow",
		Short: "Keep this host at the remote's version",
		Long: `Keep this host at the remote's version: at start, on every event of its queue (or change of a file
remote), and by polling. This is the daemon; it never exits because of somebody else's error.

--once=any ends on any success, or when there is none to be had, which takes about eleven minutes of
attempts at a version that fails: 0 when the host runs the remote's version, or will after a restart of
the machine that is due; 1 when that version was rejected, the store stayed out of reach, or the host is
paused or was switched by hand.
--once=activate is a daemon that ends after the first activation.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.Flags().Changed("once") {
				return fmt.Errorf("unknown argument %q: --once takes its value after a =, as in --once=activate", args[0])
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("poll-interval") && pollInterval < time.Second {
				return usageError{fmt.Errorf("--poll-interval is %s: it must be at least 1s", pollInterval)}
			}
			f.over.PollIntervalSecs = int64(pollInterval / time.Second)
			if err := f.check(); err != nil {
				return err
			}
			return f.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.once, "once", "", "end on any success (any), or on the first activation (activate)")
	flags.Lookup("once").NoOptDefVal = string(agent.OnceAny)
	flags.BoolVar(&f.force, "ignore-etag", false, "build the remote's version once even if it is unchanged, failed or rejected")
	flags.StringVar(&f.over.Remote, "remote", "", "remote to follow")
	flags.StringVar(&f.over.RemoteRegion, "remote-region", "", "region of the remote's bucket")
	flags.StringVar(&f.over.Configuration, "configuration", "", "configuration to run")
	flags.DurationVar(&pollInterval, "poll-interval", 0, "time between polls while the queue works (default 10m)")
	flags.BoolVar(&f.over.CorrectDrift, "correct-drift", false, "switch back a host that was switched by hand")
	f.register(flags)
	return cmd
}

func (f *follower) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.over.QueueURL, "queue-url", "", "SQS queue that tells of publishes")
	flags.StringVar(&f.over.Host, "host", "", "name of this host in acknowledgement records (default: the host name)")
	f.hostFlags.register(flags)
}

func installCommand(c *common) *cobra.Command {
	f := &follower{common: c, once: string(agent.OnceAny)}
	var remote, region, configuration, initial string
	cmd := &cobra.Command{
		Use:   "install --remote URL --configuration NAME",
		Short: "Store this host's settings, then follow once",
		Long: `Store this host's settings, then follow once. With --initial-configuration that configuration is
applied, as an intermediate step that writes no record; the agent it brings applies the final one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := store.CheckURL(remote); err != nil {
				return err
			}
			err := c.dir().UpdateConfig(cmd.Context(), func(conf *config.Config) error {
				conf.Remote, conf.Configuration = remote, configuration
				if region != "" {
					conf.RemoteRegion = region
				}
				if f.over.QueueURL != "" {
					conf.QueueURL = f.over.QueueURL
				}
				if f.over.Host != "" {
					conf.Host = f.over.Host
				}
				return nil
			})
			if err != nil {
				return err
			}
			f.over.Configuration, f.unrecorded = initial, initial != ""
			return f.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&remote, "remote", "", "remote to follow")
	flags.StringVar(&region, "remote-region", "", "region of the remote's bucket")
	flags.StringVar(&configuration, "configuration", "", "configuration to run")
	flags.StringVar(&initial, "initial-configuration", "", "configuration to activate first, as an intermediate step")
	f.register(flags)
	_ = cmd.MarkFlagRequired("remote")
	_ = cmd.MarkFlagRequired("configuration")
	return cmd
}

// check returns a usage error when a flag cannot be right.
func (f *follower) check() error {
	if f.over.QueueURL != "" {
		if err := events.CheckQueueURL(f.over.QueueURL); err != nil {
			return usageError{err}
		}
	}
	if f.over.Host != "" {
		if err := store.CheckHost(f.over.Host); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// override puts declared settings over what config.json says, and flags and environment over both.
func (f *follower) override(c config.Config) (config.Config, error) {
	c, err := f.declared(c)
	if err != nil {
		return config.Config{}, err
	}
	pick := func(over, set string) string {
		if over != "" {
			return over
		}
		return set
	}
	c.Remote = pick(f.over.Remote, c.Remote)
	c.RemoteRegion = pick(f.over.RemoteRegion, c.RemoteRegion)
	c.Configuration = pick(f.over.Configuration, c.Configuration)
	c.QueueURL = pick(f.over.QueueURL, c.QueueURL)
	c.Host = pick(f.over.Host, c.Host)
	c.CorrectDrift = f.over.CorrectDrift || c.CorrectDrift
	if f.over.PollIntervalSecs != 0 {
		c.PollIntervalSecs = f.over.PollIntervalSecs
	}
	return c, nil
}

// run runs agents until one is done: a change of remote or queue in config.json takes a new one.
func (f *follower) run(ctx context.Context) error {
	if f.once != "" && f.once != string(agent.OnceAny) && f.once != string(agent.OnceActivate) {
		return usageError{fmt.Errorf("--once is %q: it must be any or activate", f.once)}
	}
	if f.once != string(agent.OnceAny) {
		unlock, err := f.dir().LockFollow()
		if err != nil {
			return err
		}
		defer unlock()
	}
	poke, stop, err := f.watchConfig(ctx)
	if err != nil {
		return err
	}
	defer stop()
	stopSigns, err := f.supervise()
	if err != nil {
		return err
	}
	defer stopSigns()
	unusable := ""
	for first := true; ; first = false {
		a, closeWatch, err := f.agent(ctx, poke, f.force && first)
		if err == nil {
			err = a.Run(ctx)
			closeWatch()
		} else if !first {
			// The operator changed config.json to something unusable. Stay, so that
			// mending it is enough.
			if said := err.Error(); said != unusable {
				unusable = said
				f.log.Error("config.json cannot be used; waiting for it to change", "error", err)
			}
			again := time.NewTimer(30 * time.Second) // the fault may also be a passing one
			select {
			case <-poke:
				continue
			case <-again.C:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !errors.Is(err, agent.ErrReconnect) {
			return err
		}
		f.log.Info("remote or queue changed; connecting anew")
	}
}

// agent wires one agent from config.json and the flags. What it returns beside the agent is to
// be called when that has run.
func (f *follower) agent(ctx context.Context, poke <-chan struct{}, force bool) (*agent.Agent, func(), error) {
	conf, err := f.dir().LoadConfig()
	if err != nil {
		return nil, nil, err
	}
	if conf, err = f.override(conf); err != nil {
		return nil, nil, err
	}
	if conf.Remote == "" || conf.Configuration == "" {
		return nil, nil, usageError{errors.New("remote and configuration must both be set: `npcnix config set remote URL` and `npcnix config set configuration NAME`")}
	}
	name := conf.Host
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, nil, fmt.Errorf("find out the host name: %w; give --host", err)
		}
	}
	remote, err := store.Open(ctx, conf.Remote, store.Options{Region: conf.RemoteRegion, Warn: func(msg string) { f.log.Warn(msg) }})
	if err != nil {
		return nil, nil, err
	}
	host, err := f.host(f.common)
	if err != nil {
		return nil, nil, err
	}
	var st agent.Store = remote
	if f.unrecorded {
		st = unrecorded{remote}
	}
	o := agent.Options{
		Dir: f.dir(), Name: name, Store: st, Host: host, Machine: host,
		Reach: reach,
		Ours: func(n events.Notice) bool {
			return remote.Key() == "" || n.Bucket == remote.Bucket() && n.Key == remote.Key()
		},
		Config: conf, Override: f.override, Poke: poke, Once: agent.Once(f.once), Force: force,
		Status:  func(line string) { f.tell("STATUS=" + line) },
		Version: versionString(), Log: f.log,
	}
	closeWatch := func() {}
	switch {
	case f.once == string(agent.OnceAny): // one look at the store
	case conf.QueueURL != "":
		if o.Queue, err = events.OpenQueue(ctx, events.QueueOptions{URL: conf.QueueURL, Lease: conf.Lease()}); err != nil {
			return nil, nil, err
		}
	case remote.Bucket() == "" && remote.Key() != "":
		if watch, err := events.WatchFile(remote.Key(), f.log); err != nil {
			f.log.Warn("the file cannot be watched; polling it instead", "error", err)
		} else {
			o.Queue, closeWatch = watch, func() { _ = watch.Close() }
		}
	}
	a, err := agent.New(o)
	if err != nil {
		closeWatch()
		return nil, nil, err
	}
	f.log.Info("following", "remote", remote.URL(), "configuration", conf.Configuration, "host", name, "events", o.Queue != nil, "version", versionString())
	return a, closeWatch, nil
}

// unrecorded is a store that takes no records.
type unrecorded struct{ *store.Remote }

func (unrecorded) PutRecord(context.Context, string, []byte) error { return nil }

// reach connects anew to the store and, if asked to, to the queue: with new credentials, names and
// connections, as one that was made before proves nothing about the system that runs now.
func reach(ctx context.Context, conf config.Config, queue bool) error {
	remote, err := store.Open(ctx, conf.Remote, store.Options{Region: conf.RemoteRegion})
	if err == nil {
		_, err = remote.Latest(ctx, store.Version{})
	}
	if err != nil {
		return fmt.Errorf("the store cannot be reached: %w", err)
	}
	if !queue || conf.QueueURL == "" {
		return nil
	}
	q, err := events.OpenQueue(ctx, events.QueueOptions{URL: conf.QueueURL, Lease: conf.Lease()})
	if err == nil {
		err = q.Reach(ctx)
	}
	if err != nil {
		return fmt.Errorf("the queue cannot be reached: %w", err)
	}
	return nil
}

// watchConfig returns a channel that says when config.json changed, so that pause, unpause,
// retry and config set take effect at once.
func (f *follower) watchConfig(ctx context.Context) (<-chan struct{}, func(), error) {
	if err := f.dir().Check(); err != nil {
		return nil, nil, err
	}
	path, err := filepath.Abs(f.dir().ConfigPath())
	if err != nil {
		return nil, nil, err
	}
	watch, err := events.WatchFile(path, f.log)
	if err != nil {
		f.log.Warn("config.json cannot be watched; changes take effect at the next poll", "error", err)
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	poke, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer watch.Close()
		for ctx.Err() == nil {
			ds, err := watch.Receive(ctx)
			if err != nil && ctx.Err() == nil {
				f.log.Warn("config.json cannot be watched; changes take effect at the next poll", "error", err)
				return
			}
			if len(ds) == 0 {
				continue
			}
			select {
			case poke <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	return poke, func() { cancel(); <-ended }, nil
}
