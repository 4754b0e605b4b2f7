package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The operations of a publisher: what a flake has, and its systems in a cache.

// Configurations returns the names of the flake's configurations, in order. The flake's outputs are
// evaluated, but no configuration is.
func (h *Host) Configurations(ctx context.Context, dir string) ([]string, error) {
	source, err := h.addSource(ctx, dir)
	if err != nil {
		return nil, err
	}
	names, found := h.configurations(ctx, source)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !found {
		return nil, h.whyNoConfigurations(ctx, source)
	}

	return names, nil
}

// whyNoConfigurations evaluates the flake's outputs again, for nix's own words.
func (h *Host) whyNoConfigurations(ctx context.Context, source string) error {
	var log Output
	var stdout bytes.Buffer
	err := h.nix(ctx, &stdout, &log, "eval", "--no-write-lock-file", "--json",
		"--apply", "builtins.attrNames", "path:"+source+"#nixosConfigurations")
	if err == nil {
		return fmt.Errorf("evaluate the flake: nix printed %q in place of the names of its configurations", stdout.String()[:min(stdout.Len(), 200)])
	}

	return fmt.Errorf("evaluate the flake: %w", because(log.Lines(), err))
}

// Platform returns what a configuration of the flake in dir is built for, such as "x86_64-linux".
func (h *Host) Platform(ctx context.Context, dir, configuration string) (string, error) {
	source, err := h.addSource(ctx, dir)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	var log Output
	if err := h.nix(ctx, &out, &log, "eval", "--no-write-lock-file", "--raw", toplevel(source, configuration)+".system"); err != nil {
		return "", h.explain(ctx, source, configuration, log.Lines(), err)
	}

	return strings.TrimSpace(out.String()), nil
}

// Evaluate evaluates the system of a configuration of the flake in dir, and builds nothing. The errors are those
// of [Host.Build].
func (h *Host) Evaluate(ctx context.Context, dir, configuration string) error {
	source, err := h.addSource(ctx, dir)
	if err != nil {
		return err
	}
	var log Output
	if err := h.nix(ctx, &bytes.Buffer{}, &log, "eval", "--no-write-lock-file", "--raw", toplevel(source, configuration)+".drvPath"); err != nil {
		return h.explain(ctx, source, configuration, log.Lines(), err)
	}

	return nil
}

// ClosureSize returns the size in bytes of a system in the store and all that it needs.
func (h *Host) ClosureSize(ctx context.Context, s System) (int64, error) {
	var out bytes.Buffer
	var log Output
	if err := h.nix(ctx, &out, &log, "path-info", "--closure-size", s.Path); err != nil {
		return 0, fmt.Errorf("closure of %s: %w", s.Path, because(log.Lines(), err))
	}
	words := strings.Fields(out.String())
	if len(words) != 2 {
		return 0, fmt.Errorf("closure of %s: nix says %q", s.Path, out.String())
	}

	return strconv.ParseInt(words[1], 10, 64)
}

// ErrCacheKey says that a file is no secret key of a binary cache.
var ErrCacheKey = errors.New("not a secret key of a binary cache")

// PublicCacheKey returns the public key that belongs to the secret key in a file, as hosts name it.
func (h *Host) PublicCacheKey(ctx context.Context, file string) (string, error) {
	secret, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCacheKey, err)
	}
	var out bytes.Buffer
	var log Output
	args := append(h.settings(), "key", "convert-secret-to-public")
	if err := runWith(ctx, bytes.NewReader(secret), &out, &log, "nix", args...); err != nil {
		if errors.Is(err, ErrNoNix) || ctx.Err() != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: %s: %w; make one with `nix-store --generate-binary-cache-key NAME SECRET PUBLIC`", ErrCacheKey, file, because(log.Lines(), err))
	}

	return strings.TrimSpace(out.String()), nil
}

// CopyTo copies a system and all that it needs to a binary cache, signed by the secret key in keyFile if
// that is given, and makes sure that the cache has all of it.
func (h *Host) CopyTo(ctx context.Context, s System, cache, keyFile string) error {
	to := cache
	if keyFile != "" {
		separator := "?"
		if strings.Contains(cache, "?") {
			separator = "&"
		}
		to += separator + "secret-key=" + keyFile
	}

	// nix remembers what a cache had, also after the cache has lost it.
	forget := []string{"--option", "narinfo-cache-positive-ttl", "0", "--option", "narinfo-cache-negative-ttl", "0"}
	log := &Output{Emit: h.logged("nix copy"), Caches: []string{cache}}
	if err := h.nix(ctx, nil, log, append([]string{"copy", "--to", to, s.Path}, forget...)...); err != nil {
		return fmt.Errorf("copy %s to the cache %s: %w", s.Path, masked(cache), because(log.Lines(), err))
	}
	log = &Output{Caches: []string{cache}}
	if err := h.nix(ctx, &bytes.Buffer{}, log, append([]string{"path-info", "--recursive", "--store", cache, s.Path}, forget...)...); err != nil {
		return fmt.Errorf("the cache %s lacks a part of %s: %w", masked(cache), s.Path, because(log.Lines(), err))
	}

	return nil
}
