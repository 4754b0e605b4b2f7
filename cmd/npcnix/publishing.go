package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// publishing is what the commands that publish work with.
type publishing struct {
	remote    *store.Remote
	publisher *publish.Publisher // nil: what is published is no release
	done      func()
}

// begin checks the flags and opens what they name. It makes sure that the first wave has hosts, and that the hosts
// trust the keys. Nothing is published yet.
func (o *pushOptions) begin(ctx context.Context, c *common, flags *pflag.FlagSet) (p publishing, err error) {
	if err := o.waiting.onlyWith(o.wait, len(o.plan.waves) > 0, flags); err != nil {
		return p, err
	}
	if p.remote, err = o.remote.open(ctx, c); err != nil {
		return p, err
	}
	if o.wait {
		if o.gate, err = o.waiting.prepare(ctx, c, flags, p.remote); err != nil {
			return p, err
		}
	}
	if err := o.planned(flags); err != nil {
		return p, err
	}
	if p.publisher, p.done, err = o.release.open(ctx, c, p.remote.Name()); err != nil {
		return p, err
	}
	if p.publisher == nil {
		p.done = func() {}
		var own pflag.FlagSet
		own.Bool("again", false, "")
		own.Bool("force", false, "")
		if err := refuse(flags, &own, "is about a release: give --sign-key, --prebuild or --system too"); err != nil {
			return p, err
		}
	}
	if err = o.checkWaves(ctx, c, p.remote, p.publisher); err == nil {
		err = checkTrust(ctx, c, p.remote, p.publisher, o.lockOut)
	}
	if err != nil {
		p.done()
	}

	return p, err
}

// lookBefore notes what the remote holds, for a wait: otherwise a cache's old answer would be taken for a newer
// publish.
func (o *pushOptions) lookBefore(ctx context.Context, remote *store.Remote) (err error) {
	if o.gate == nil {
		return nil
	}
	if o.gate.Before, err = remote.Latest(ctx, store.Version{}); errors.Is(err, store.ErrNotFound) {
		return nil
	}

	return err
}

// checkCached returns an error if the caches of a prebuilt release lack one of its systems by now: hosts would wait for
// it. Where that cannot be told, it is said and no more.
//
// What they have stays: a sweep that begins later knows of it.
func (o *pushOptions) checkCached(ctx context.Context, c *common, p *publish.Publisher, m *release.Manifest) error {
	failed, err := p.KeepCached(ctx, m)
	if err == nil {
		err = o.cached(ctx, c, p, m)
	}
	if err != nil {
		failed()
	}

	return err
}

func (o *pushOptions) cached(ctx context.Context, c *common, p *publish.Publisher, m *release.Manifest) error {
	var systems []nix.System
	for _, name := range slices.Sorted(maps.Keys(m.Systems)) {
		systems = append(systems, nix.System{Path: m.Systems[name].Toplevel})
	}
	if len(systems) == 0 {
		return nil
	}
	for _, cache := range m.Caches {
		err := p.Nix.Cached(ctx, cache.URL, systems)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return nil
		case errors.Is(err, nix.ErrNotCached) && len(m.Caches) == 1 && !o.force:
			return fmt.Errorf("nothing was published: hosts cannot fetch the release's systems any more: %w; --force publishes it all the same", err)
		}
		c.log.Warn("hosts can be unable to fetch the release's systems", "error", err)
	}
	return nil
}

// place has a release.
type place struct {
	remote  *store.Remote
	version store.Version
}

// publishAgain publishes old over what the remote held last, and does what the flags say of its hosts. The packed
// flake comes from the first of the places that has the one which was signed.
func (o *pushOptions) publishAgain(ctx context.Context, c *common, p publishing, from []place, old *release.Verified, last publish.Last, after int64) error {
	if plan := p.publisher.Plan; plan != nil {
		base, err := last.Base(o.force)
		if err != nil {
			return fmt.Errorf("nothing was published: %w", err)
		}
		plan.Base = base
	}
	file, err := os.CreateTemp("", "npcnix-again-*")
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := o.lookBefore(ctx, p.remote); err != nil {
		return err
	}
	m, err := firstSigned(ctx, p.publisher, from, old, after, file)
	if err != nil {
		return fmt.Errorf("nothing was published: %w", err)
	}
	now, err := o.put(ctx, c, p.remote, m, file, last.Version)
	if err != nil {
		return withCode(ctx, p.publisher, p.remote, err)
	}

	return o.published(ctx, c, p, m, now, false)
}

func firstSigned(ctx context.Context, p *publish.Publisher, from []place, old *release.Verified, after int64, file *os.File) (m *release.Manifest, err error) {
	for _, s := range from {
		if err := file.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := rewound(file); err != nil {
			return nil, err
		}
		if m, err = p.Again(ctx, s.remote, s.version, old, after, file); !errors.Is(err, store.ErrUnsafe) {
			break
		}
	}

	return m, err
}
