package nix

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Cache is a binary cache and the public keys that its paths must be signed by.
type Cache struct {
	URL  string
	Keys []string // as in nix.conf's trusted-public-keys
}

var (
	// ErrUntrusted says that a cache has the system, and none of the trusted keys has signed it. To try
	// again does not help.
	ErrUntrusted = errors.New("not signed by a trusted key of the cache")
	// ErrNotCached says that the caches cannot give the whole system now: they are out of reach, or miss
	// a path. It is no fault of the system's, and may be over at any time.
	ErrNotCached = errors.New("the system cannot be had from its caches")
)

// RealiseError is a system that could not be fetched from its caches.
type RealiseError struct {
	System System
	Tail   []string // the last lines of nix's log
	Err    error    // wraps ErrUntrusted, ErrNotCached or ErrMachine
}

func (e *RealiseError) Error() string { return fmt.Sprintf("realise %s: %v", e.System.Path, e.Err) }
func (e *RealiseError) Unwrap() error { return e.Err }

// Realise fetches a system that was built elsewhere, with all that it needs, and builds and evaluates
// nothing. Only the given caches and keys count, in place of those of nix.conf; without any, nix.conf's
// count. What is in the store already is not fetched.
//
// The system stays in the store until it was activated or a later Build or Realise succeeded. When it is
// cut short, the next call goes on with what is missing.
//
// Errors: ctx's own when it ended, [ErrNoNix], or a [*RealiseError].
func (h *Host) Realise(ctx context.Context, s System, caches []Cache) error {
	if err := os.MkdirAll(h.roots(), 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	link := filepath.Join(h.roots(), "build-"+rand.Text())
	lines := h.openBuildLog("nix-store --realise")
	defer lines.close()
	log := &Output{Emit: lines.emit}
	for _, c := range caches {
		log.Caches = append(log.Caches, c.URL)
	}

	args := append([]string{"--realise", s.Path, "--add-root", link, "--indirect"}, realiseOptions(caches)...)
	if err := run(ctx, nil, log, "nix-store", args...); err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrNoNix) {
			return fmt.Errorf("realise %s: %w", s.Path, err)
		}
		tail := log.Lines()
		return &RealiseError{s, tail, whyNotRealised(tail, caches, err)}
	}

	h.dropRoots(func(l, _ string) bool { return l != link })
	return nil
}

// masked is the URL of a cache without a user and password.
func masked(cache string) string { return withoutSecrets(cache, []string{cache}) }

// withoutSecrets is a text without the users and passwords of the caches' URLs.
func withoutSecrets(text string, caches []string) string {
	for _, c := range caches {
		scheme, rest, _ := strings.Cut(c, "://")
		authority := rest
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			authority = rest[:end]
		}
		if i := strings.LastIndexByte(authority, '@'); i >= 0 {
			text = strings.ReplaceAll(text, scheme+"://"+authority[:i+1], scheme+"://")
		}
	}

	return text
}

// realiseOptions bound what nix may do. It builds nothing for a store path, so max-jobs limits
// substitutions alone (nix 2.8). Paths that a cache lacks are asked for again each time.
func realiseOptions(caches []Cache) []string {
	options := []string{
		"--option", "max-jobs", "16", "--option", "fallback", "false",
		"--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "60",
	}
	if len(caches) == 0 {
		return options
	}

	var urls, keys []string
	for _, c := range caches {
		urls = append(urls, c.URL)
		keys = append(keys, c.Keys...)
	}
	return append(options, "--option", "substituters", strings.Join(urls, " "), "--option", "trusted-public-keys", strings.Join(keys, " "))
}

// whyNotRealised tells from nix's log why a system was not fetched. nix ends with the same status and
// the same last line in all cases.
func whyNotRealised(tail []string, caches []Cache, err error) error {
	log := strings.Join(tail, "\n")
	switch {
	case ranOutOfDisk(tail):
		return because(tail, err)
	case strings.Contains(log, "signed by any of the keys in 'trusted-public-keys'"):
		return fmt.Errorf("%w: the cache signs with another key than %s", ErrUntrusted, named(caches))
	case strings.Contains(log, "unable to download"), strings.Contains(log, "error: unable to"):
		return fmt.Errorf("%w: out of reach: %s", ErrNotCached, lineWith(tail, "unable to"))
	case strings.Contains(log, "does not exist in binary cache"):
		return fmt.Errorf("%w: a path's archive is missing: %s", ErrNotCached, lineWith(tail, "does not exist in binary cache"))
	case strings.Contains(log, "don't know how to build these paths"):
		return fmt.Errorf("%w: absent or forbidden: %s", ErrNotCached, missingPath(tail))
	}
	return fmt.Errorf("%w: %w", ErrNotCached, because(tail, err))
}

// lineWith returns the last line that has the text.
func lineWith(tail []string, text string) string {
	found := ""
	for _, line := range tail {
		if strings.Contains(line, text) {
			found = strings.TrimSpace(line)
		}
	}
	return found
}

// missingPath returns the path that nix lists below "don't know how to build these paths".
func missingPath(tail []string) string {
	for i, line := range tail[:len(tail)-1] {
		if strings.Contains(line, "don't know how to build these paths") {
			return strings.TrimSpace(tail[i+1])
		}
	}
	return "a path"
}

func named(caches []Cache) string {
	var names []string
	for _, c := range caches {
		for _, key := range c.Keys {
			name, _, _ := strings.Cut(key, ":")
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "those of nix.conf"
	}
	return strings.Join(names, ", ")
}

// CachedClosure tells whether a cache has a system and all that it needs, each path signed by one of the cache's keys. It
// reads what the cache says of the paths, and downloads none.
//
// Errors: ctx's own when it ended, [ErrNoNix], [ErrUntrusted] or [ErrNotCached].
func (h *Host) CachedClosure(ctx context.Context, s System, c Cache) error {
	log := &Output{Caches: []string{c.URL}}
	err := h.nix(ctx, nil, log, "store", "verify", "--recursive", "--no-contents", "--store", c.URL, s.Path,
		"--option", "trusted-public-keys", strings.Join(c.Keys, " "), "--option", "secret-key-files", "",
		"--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0")
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrNoNix) {
		return err
	}
	if tail := log.Lines(); strings.Contains(strings.Join(tail, "\n"), "untrusted") {
		return fmt.Errorf("%w: %s is signed by another key than %s", ErrUntrusted, s.Path, named([]Cache{c}))
	}

	return fmt.Errorf("%w: %w", ErrNotCached, because(log.Lines(), err))
}
