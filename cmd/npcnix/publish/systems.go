package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/cache"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// systems returns what the release names: the systems that were given, and those that are prebuilt now.
func (p *Publisher) systems(ctx context.Context, packed *os.File) (map[string]release.System, error) {
	if !p.Prebuild && len(p.Systems) == 0 {
		return nil, nil
	}

	flake, remove, err := unpacked(ctx, packed)
	if err != nil {
		return nil, err
	}
	defer remove()

	systems := map[string]release.System{}
	err = p.noted(ctx, systems, func() (err error) {
		for _, name := range slices.Sorted(maps.Keys(p.Systems)) {
			if systems[name], err = p.describe(ctx, flake, name, nix.System{Path: p.Systems[name]}); err != nil {
				return err
			}
		}
		if p.Prebuild {
			return p.prebuild(ctx, flake, systems)
		}
		return nil
	})

	return systems, err
}

// noted copies systems to the cache with a note there, which keeps npcnix cache gc from deleting them.
func (p *Publisher) noted(ctx context.Context, systems map[string]release.System, copies func() error) error {
	if len(p.Caches) == 0 {
		return copies()
	}
	files, err := store.OpenCache(ctx, p.Caches[0].URL, store.Options{Warn: func(text string) { p.Log.Warn(text) }})
	if errors.Is(err, store.ErrCacheKind) { // which nobody can sweep
		return copies()
	}
	if err != nil {
		return err
	}
	if p.note, err = cache.Begin(ctx, files, p.Remote, p.awaits); err != nil {
		return err
	}
	if err := copies(); err != nil {
		if failed := p.note.Failed(ctx); failed != nil {
			p.Log.Warn("the cache is not swept for a while: the end of this push cannot be noted in it", "error", failed)
		}
		return err
	}

	return p.note.Copied(ctx, toplevels(systems))
}

func (p *Publisher) awaits(until time.Time) {
	p.Log.Info("the cache is being swept: waiting for the end of that", "at_most_until", until.UTC().Format(time.RFC3339))
}

func toplevels(systems map[string]release.System) (paths []string) {
	for _, name := range slices.Sorted(maps.Keys(systems)) {
		paths = append(paths, systems[name].Toplevel)
	}

	return slices.Compact(slices.Sorted(slices.Values(paths)))
}

// KeepCached notes in a release's caches that this publisher's remote needs its systems, so that npcnix cache gc does
// not delete them. Where that is impossible, it is told. End the notes with the returned function if they are not
// published.
func (p *Publisher) KeepCached(ctx context.Context, m *release.Manifest) (failed func(), err error) {
	var notes []*cache.Note
	failed = func() {
		for _, n := range notes {
			_ = n.Failed(ctx) // it is kept in vain, until it is old
		}
	}
	if len(m.Systems) == 0 {
		return failed, nil
	}
	for _, c := range m.Caches {
		files, err := store.OpenCache(ctx, c.URL, store.Options{Warn: func(text string) { p.Log.Warn(text) }})
		if errors.Is(err, store.ErrCacheKind) {
			continue
		}
		var n *cache.Note
		if err == nil {
			n, err = cache.Keep(ctx, files, p.Remote, toplevels(m.Systems), p.awaits)
		}
		switch {
		case ctx.Err() != nil:
			failed()
			return failed, ctx.Err()
		case err != nil:
			p.Log.Warn("npcnix cache gc cannot know that the release's systems are needed, unless it is given --remote with this remote", "cache", store.Redact(c.URL), "remote", p.Remote, "error", err)
		default:
			notes = append(notes, n)
		}
	}

	return failed, nil
}

// unpacked unpacks what was packed. That is evaluated, and not the folder that it came from: a git checkout gives
// other paths.
func unpacked(ctx context.Context, packed *os.File) (flake string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "npcnix-flake-*")
	if err != nil {
		return "", nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	remove = func() { os.RemoveAll(dir) }
	flake = filepath.Join(dir, "flake")
	if _, err = packed.Seek(0, 0); err == nil {
		err = store.Unpack(ctx, packed, flake, store.Limits{})
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("unpack what was packed: %w", err)
	}

	return flake, remove, nil
}

// Check evaluates the packed flake as hosts do: the names of its configurations, and with all each of their systems.
// Nothing is built.
func Check(ctx context.Context, h *nix.Host, log *slog.Logger, packed *os.File, all bool) error {
	flake, remove, err := unpacked(ctx, packed)
	if err != nil {
		return err
	}
	defer remove()
	names, err := h.Configurations(ctx, flake)
	if err != nil || !all {
		return err
	}
	begun := time.Now()
	for i, name := range names {
		about := []any{"configuration", name, "number", i + 1, "of", len(names)}
		if i > 0 {
			about = append(about, "time_left", left(time.Since(begun), i, len(names)))
		}
		log.Info("evaluating", about...)
		if err := h.Evaluate(ctx, flake, name); err != nil {
			return err
		}
	}

	return nil
}

// ErrNoConfiguration means that the flake has no configuration of a name that is to be prebuilt.
var ErrNoConfiguration = errors.New("--prebuild-configuration names what the flake does not have")

// prebuild builds the configurations and copies each to the cache.
func (p *Publisher) prebuild(ctx context.Context, flake string, into map[string]release.System) error {
	names, err := p.Nix.Configurations(ctx, flake)
	if err != nil {
		return err
	}
	for _, name := range p.Configurations {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%w: %q; it has %s", ErrNoConfiguration, name, strings.Join(names, ", "))
		}
	}
	if len(p.Configurations) > 0 {
		names = p.Configurations
	}

	begun := time.Now()
	for i, name := range names {
		if _, given := into[name]; given {
			continue
		}
		p.Log.Info("building", "configuration", name, "number", i+1, "of", len(names))
		s, err := p.Nix.Build(ctx, flake, name)
		if errors.Is(err, nix.ErrPlatform) {
			return fmt.Errorf("prebuild: %w; give nix a remote builder (builders in nix.conf), or build it elsewhere and give --system %s=PATH", err, name)
		}
		if err != nil {
			return fmt.Errorf("prebuild: %w", err)
		}
		if into[name], err = p.describe(ctx, flake, name, s); err != nil {
			return err
		}
		p.Log.Info("prebuilt", "configuration", name, "number", i+1, "of", len(names), "closure_bytes", into[name].ClosureSize,
			"time_left", left(time.Since(begun), i+1, len(names)))
	}

	return nil
}

// left guesses how long the rest takes, if each part takes as long as one of those that are done.
func left(passed time.Duration, done, of int) time.Duration {
	return (passed * time.Duration(of-done) / time.Duration(done)).Round(time.Second)
}

// cached returns an error unless hosts would accept all paths of the system from the cache. nix copies no path that the
// cache has already, whoever has signed that.
func (p *Publisher) cached(ctx context.Context, s nix.System, c release.Cache) error {
	if len(c.Keys) == 0 { // of an unsigned release, those of the hosts' nix.conf count
		return nil
	}
	err := p.Nix.CachedClosure(ctx, s, nix.Cache{URL: c.URL, Keys: c.Keys})
	if errors.Is(err, nix.ErrUntrusted) {
		return fmt.Errorf("the cache %s: %w: it had some of the paths before, signed by another key, and nix copies none that a cache has: "+
			"delete the .narinfo files of these paths from the cache, or give another cache; then push again", store.Redact(c.URL), err)
	}

	return err
}

// describe copies a system to the cache, if one is given to copy to, and says what it is.
func (p *Publisher) describe(ctx context.Context, flake, name string, s nix.System) (release.System, error) {
	platform, err := p.Nix.Platform(ctx, flake, name)
	if err != nil {
		return release.System{}, err
	}
	size, err := p.Nix.ClosureSize(ctx, s)
	if err != nil {
		return release.System{}, err
	}
	if len(p.Caches) > 0 {
		if p.note != nil {
			if err := p.note.Again(ctx); err != nil {
				return release.System{}, err
			}
		}
		p.Log.Info("copying to the cache what it lacks", "configuration", name, "cache", store.Redact(p.Caches[0].URL), "closure_bytes", size)
		if err := p.Nix.CopyTo(ctx, s, p.Caches[0].URL, p.CacheKey); err != nil {
			return release.System{}, err
		}
		if err := p.cached(ctx, s, p.Caches[0]); err != nil {
			return release.System{}, err
		}
	}

	return release.System{Kind: release.KindNixOS, Toplevel: s.Path, Platform: platform, ClosureSize: size}, nil
}
