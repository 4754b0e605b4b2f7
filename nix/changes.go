package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxChanges bounds how many lines [Host.Changes] returns.
const MaxChanges = 200

// ErrChangesUnknown says that no store has both systems with all that they need.
var ErrChangesUnknown = errors.New("no store that was asked has both systems")

// Changes returns what differs between two systems and all that they need, a line for each package, as nix compares
// closures. Nothing is downloaded or built: the systems must be in this machine's store, or in one of the caches, whose
// descriptions of their paths are read then. More counts the lines beyond MaxChanges.
func (h *Host) Changes(ctx context.Context, from, to System, caches ...string) (lines []string, more int, err error) {
	var why []error
	for _, store := range append([]string{""}, caches...) {
		// nix remembers what a cache had not, also after the cache has got it.
		args := []string{"store", "diff-closures", "--option", "substitute", "false", "--option", "narinfo-cache-negative-ttl", "0", from.Path, to.Path}
		if store != "" {
			args = append(args, "--store", store)
		}
		var out bytes.Buffer
		log := Output{Caches: []string{store}}
		err := h.nix(ctx, &out, &log, args...)
		switch {
		case err == nil:
			lines, more = bounded(out.String())
			return lines, more, nil
		case ctx.Err() != nil || errors.Is(err, ErrNoNix):
			return nil, 0, fmt.Errorf("compare %s with %s: %w", from.Path, to.Path, err)
		}
		why = append(why, because(log.Lines(), err))
	}

	return nil, 0, fmt.Errorf("compare %s with %s: %w: %w", from.Path, to.Path, ErrChangesUnknown, errors.Join(why...))
}

// Cached returns an error that wraps [ErrNotCached] if the cache lacks one of the systems themselves. What they need is
// not looked at: that costs a request for each path.
func (h *Host) Cached(ctx context.Context, cache string, systems []System) error {
	const atOnce = 500 // for the length of a command line
	for some := range slices.Chunk(systems, atOnce) {
		args := []string{"path-info", "--store", cache, "--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0"}
		for _, s := range some {
			args = append(args, s.Path)
		}
		log := Output{Caches: []string{cache}}
		err := h.nix(ctx, &bytes.Buffer{}, &log, args...)
		switch {
		case err == nil:
		case ctx.Err() == nil && strings.Contains(strings.Join(log.Lines(), "\n"), "is not valid"):
			return fmt.Errorf("the cache %s: %w: %s", masked(cache), ErrNotCached, lineWith(log.Lines(), "is not valid"))
		default:
			return fmt.Errorf("look into the cache %s: %w", masked(cache), because(log.Lines(), err))
		}
	}

	return nil
}

func bounded(text string) (lines []string, more int) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if len(lines) == MaxChanges {
			more++
			continue
		}
		lines = append(lines, line)
	}

	return lines, more
}
