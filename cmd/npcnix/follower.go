package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// follower runs agents: for follow and for install.
type follower struct {
	*common
	host  hostFlags
	once  agent.Once
	force bool
	// unrecorded: the applied configuration is an intermediate step, which nobody must take for the final one.
	unrecorded bool
	over       []config.Layer // settings of flags and environment
	began      string         // the surroundings in which this process began
	said       map[unknownSetting]bool
	warned     sync.Map     // the messages of warnOnce
	lost       func() error // tells that the data directory was taken away; nil without a lock
}

// override puts declared settings over those of config.json, and flags and environment over both. It
// says once of each unknown member that it is one.
func (f *follower) override(file config.Config) (config.Config, error) {
	s, err := f.sourcesOver(file)
	if err != nil {
		return config.Config{}, err
	}
	unknown, err := s.unknown()
	if err != nil {
		return config.Config{}, err
	}
	for _, u := range unknown {
		if !f.said[u] {
			f.said[u] = true
			f.log.Warn("unknown setting; it is kept and has no effect", "file", u.File, "setting", u.Name, "did_you_mean", u.Nearest)
		}
	}
	resolved, err := s.resolve(f.over...)
	return resolved.Config, err
}

// run runs agents until one is done: a change of remote or queue in config.json takes a new one.
func (f *follower) run(ctx context.Context) error {
	f.said, f.began = map[unknownSetting]bool{}, surroundings()
	if f.once != agent.OnceAny {
		unlock, err := f.dir().LockFollow()
		if err != nil {
			return err
		}
		defer unlock()
		f.lost = f.dir().Lost()
	}
	poke, stop, err := f.watchDir(ctx)
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
			// fixing it is enough.
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
		if f.stale() {
			f.beginAgain()
		}
		f.log.Info("remote or queue changed; connecting again")
	}
}

// agent wires one agent from config.json and the flags. The caller calls what it returns beside the agent
// when that has run.
func (f *follower) agent(ctx context.Context, poke <-chan struct{}, force bool) (*agent.Agent, func(), error) {
	conf, err := f.inForce()
	if err != nil {
		return nil, nil, err
	}
	name, err := recordName(conf)
	if err != nil {
		return nil, nil, err
	}
	remote, err := store.Open(ctx, conf.Remote, store.Options{
		Region: conf.RemoteRegion, CredentialsFile: conf.RemoteCredentialsFile, Signed: len(conf.Signers) > 0, Warn: f.warnOnce,
	})
	if err != nil {
		return nil, nil, err
	}
	host, err := f.host.host(f.common)
	if err != nil {
		return nil, nil, err
	}
	queue, closeQueue, err := f.queue(ctx, conf, remote)
	if err != nil {
		return nil, nil, err
	}
	switched, stopWatch, err := host.WatchCurrent(f.log)
	if err != nil {
		f.log.Warn("what an operator switches to is noticed at the next poll", "error", err)
		stopWatch = func() {}
	}
	stop := func() { closeQueue(); stopWatch() }
	o := agent.Options{
		Dir: f.dir(), Name: name, RemoteName: remote.Name(), Store: remote, Host: host, Machine: host, Queue: queue,
		Reach: reach, Fresh: f.fresh, Stale: f.stale, Lost: f.lost,
		Ours: func(n events.Notice) bool {
			return remote.Key() == "" || n.Bucket == remote.Bucket() && n.Key == remote.Key()
		},
		Config: conf, Override: f.override, Poke: poke, Switched: switched, Once: f.once, Force: force,
		Status:      func(line string) { f.tell("STATUS=" + line) },
		ClosureSize: host.ClosureSize, Idle: debug.FreeOSMemory,
		Changes: func(ctx context.Context, from, to nix.System) []string {
			lines, _, _ := host.Changes(ctx, from, to) // what cannot be compared is not told
			return lines
		},
		Version: versionString(), Log: f.log,
	}
	if f.unrecorded {
		o.Store = unrecorded{remote}
	}
	a, err := agent.New(o)
	if err != nil {
		stop()
		return nil, nil, err
	}
	f.log.Info("following", "remote", remote.URL(), "configuration", conf.Configuration, "host", name, "events", queue != nil, "version", versionString())
	return a, stop, nil
}

// warnOnce logs a warning of the store's once in the life of this process, in which that may be opened often. The SDK's
// come again after a time.
func (f *follower) warnOnce(message string) {
	if strings.HasPrefix(message, "aws sdk: ") {
		f.warn(message)
	} else if _, again := f.warned.LoadOrStore(message, true); !again {
		f.warn(message)
	}
}

// inForce reads the settings in force, which must name what to follow. If config.json is damaged, they are
// those before; the agent says so.
func (f *follower) inForce() (config.Config, error) {
	file, _, err := f.dir().InForce()
	if err != nil {
		return config.Config{}, err
	}
	conf, err := f.override(file)
	if err == nil && (conf.Remote == "" || conf.Configuration == "") {
		err = usageError{errors.New("remote and configuration must both be set: `npcnix config set remote URL` and `npcnix config set configuration NAME`")}
	}
	return conf, err
}

// queue returns what tells of publishes; nil if nothing does, or if one look at the store is all.
func (f *follower) queue(ctx context.Context, conf config.Config, remote *store.Remote) (_ inbox.Queue, closeQueue func(), err error) {
	nothing := func() {}
	switch {
	case f.once == agent.OnceAny:
		return nil, nothing, nil
	case conf.QueueURL == events.AutoQueue:
		queue, err := openOwnQueue(ctx, conf, events.OwnQueueOptions{
			Look: events.Notice{Bucket: remote.Bucket(), Key: remote.Key()}, Warn: f.warn,
			Made: func(url string) { f.log.Info("this host has a queue of its own", "url", url, "topic", conf.TopicARN) },
		})
		if err != nil {
			return nil, nil, err
		}
		return queue, nothing, nil
	case conf.QueueURL != "":
		queue, err := events.OpenQueue(ctx, events.QueueOptions{URL: conf.QueueURL, Lease: conf.Lease(), Warn: f.warn})
		if err != nil {
			return nil, nil, err
		}
		return queue, nothing, nil
	case remote.Bucket() == "" && remote.Key() != "":
		watch, err := events.WatchFile(remote.Key(), f.log)
		if err != nil {
			f.log.Warn("cannot watch the file; polling it instead", "error", err)
			return nil, nothing, nil
		}
		return watch, func() { _ = watch.Close() }, nil
	}
	return nil, nothing, nil
}

// unrecorded is a store that takes no records.
type unrecorded struct{ *store.Remote }

func (unrecorded) PutRecord(context.Context, string, []byte) error             { return nil }
func (unrecorded) PutRecordCopy(context.Context, string, string, []byte) error { return nil }

// reach connects to the store and, if asked to, to the queue, with new credentials, names and connections:
// one that was made before the switch says nothing about the system that runs now. It tries both.
func reach(ctx context.Context, conf config.Config, queue bool) error {
	err := reachStore(ctx, conf)
	if !queue || conf.QueueURL == "" {
		return err
	}
	return errors.Join(err, reachQueue(ctx, conf))
}

func reachStore(ctx context.Context, conf config.Config) error {
	remote, err := store.Open(ctx, conf.Remote, store.Options{Region: conf.RemoteRegion, CredentialsFile: conf.RemoteCredentialsFile})
	if err == nil {
		_, err = remote.Latest(ctx, store.Version{})
	}
	if err != nil {
		return fmt.Errorf("the store cannot be reached: %w", err)
	}
	return nil
}

func reachQueue(ctx context.Context, conf config.Config) (err error) {
	var q interface{ Reach(context.Context) error }
	if conf.QueueURL == events.AutoQueue {
		q, err = openOwnQueue(ctx, conf, events.OwnQueueOptions{})
	} else {
		q, err = events.OpenQueue(ctx, events.QueueOptions{URL: conf.QueueURL, Lease: conf.Lease()})
	}
	if err == nil {
		err = q.Reach(ctx)
	}
	if err != nil {
		return fmt.Errorf("the queue cannot be reached: %w", err)
	}
	return nil
}

// watchDir returns a channel that says when config.json changed, so that pause, unpause, retry and config set take
// effect at once. It also says so of the agent's own lock, which changes only if it is deleted.
func (f *follower) watchDir(ctx context.Context) (<-chan struct{}, func(), error) {
	if err := f.dir().Check(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	poke := make(chan struct{})
	var watches sync.WaitGroup
	for _, file := range []string{f.dir().ConfigPath(), f.dir().FollowLockPath()} {
		path, err := filepath.Abs(file)
		if err != nil {
			path = file
		}
		watch, err := events.WatchFile(path, f.log)
		if err != nil {
			f.log.Warn("cannot watch a file; its changes take effect at the next poll", "file", path, "error", err)
			continue
		}
		watches.Go(func() { f.forward(ctx, watch, poke) })
	}
	return poke, func() { cancel(); watches.Wait() }, nil
}

// forward sends on poke at each change that the watch sees, until ctx ends. It closes the watch.
func (f *follower) forward(ctx context.Context, watch *events.FileWatch, poke chan<- struct{}) {
	defer watch.Close()
	for ctx.Err() == nil {
		ds, err := watch.Receive(ctx)
		if err != nil && ctx.Err() == nil {
			f.log.Warn("cannot watch files; changes take effect at the next poll", "error", err)
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
}
