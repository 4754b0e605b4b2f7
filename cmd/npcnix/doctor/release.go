package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// release says whether this host takes what the remote holds, by whom it is signed, and whether the host evaluates.
func (c *chain) release(ctx context.Context) Finding {
	const link = "release"
	if c.blind != "" && c.bucket != "" {
		return unknown(link, c.blind, "")
	}
	verified, now, err := c.verified(ctx)
	refused, is := errors.AsType[*release.Refused](err)
	switch {
	case is && refused.Reason == release.ReasonExpired:
		return wrong(link, refused.Error(), "run `npcnix release renew`, or publish again")
	case is:
		return wrong(link, refused.Error(), "sign the release with a key of this host's `signers`, or change `signers`")
	case err != nil:
		return unknown(link, err.Error(), "see the link `remote`")
	}

	how := "this host evaluates it"
	if s, prebuilt := verified.Systems[c.Host.Config.Configuration]; prebuilt && c.Host.Config.EvaluationMode() != config.EvaluateAlways {
		how = "this host's system is prebuilt"
		c.prebuilt, c.caches = s.Toplevel, verified.Caches
	} else if c.Host.Config.EvaluationMode() == config.EvaluateNever {
		return wrong(link, "the release has no prebuilt system for this host, which never evaluates", "publish with `--prebuild`, or change `evaluation`")
	}
	signed := "signed by " + strings.Join(verified.Keys, ", ") + "; " + how
	if verified.Expires.IsZero() {
		return ok(link, "%s", signed)
	}
	left := verified.Expires.Sub(now)
	if now.After(verified.Renew()) {
		return warning(link, signed+"; it expires in "+left.Round(time.Minute).String(), "run `npcnix release renew` before, from a timer")
	}

	return ok(link, "%s; it expires in %s", signed, left.Round(time.Minute))
}

// cache says whether one of the release's caches has this host's prebuilt system, all of it signed by the cache's keys.
func (c *chain) cache(ctx context.Context) Finding {
	const link = "cache"
	switch {
	case c.prebuilt == "":
		return ok(link, "this host needs none")
	case len(c.caches) == 0:
		return unknown(link, "the release names no cache, so those of nix.conf count, which are not checked", "publish with `--cache URL`")
	}
	host, err := nix.New(nix.Options{Dir: string(c.Host.Dir)})
	if err != nil {
		return unknown(link, err.Error(), "")
	}
	for _, cache := range c.caches {
		if err = host.CachedClosure(ctx, nix.System{Path: c.prebuilt}, nix.Cache{URL: cache.URL, Keys: cache.Keys}); err == nil {
			return ok(link, "%s has %s, signed by its keys", store.Redact(cache.URL), c.prebuilt)
		}
	}
	found := fmt.Sprintf("%s does not give %s: %v", store.Redact(c.caches[len(c.caches)-1].URL), c.prebuilt, err)
	switch {
	case errors.Is(err, nix.ErrUntrusted):
		return wrong(link, found, "delete the .narinfo files of these paths from the cache, since nix copies none that a cache has; then push with `--cache-key FILE --again`")
	case errors.Is(err, nix.ErrNotCached):
		return wrong(link, found, "check the network to the cache, and that this host can read and list it; push with `--again` if a path is gone")
	}

	return unknown(link, found, "run the doctor again")
}

// verified verifies what the remote holds by the host's signers, and returns the store's time too. What the host has
// accepted before does not count.
func (c *chain) verified(ctx context.Context) (*release.Verified, time.Time, error) {
	r, err := store.Open(ctx, c.Remote, store.Options{Region: c.Region, CredentialsFile: c.CredentialsFile})
	if err != nil {
		return nil, time.Time{}, err
	}
	v, err := r.Latest(ctx, store.Version{})
	if err != nil {
		return nil, time.Time{}, err
	}
	now := time.Now()
	frame, err := release.Read(func(n int64) ([]byte, error) {
		tail, err := r.Tail(ctx, v, n)
		if !tail.Now.IsZero() {
			now = tail.Now
		}
		return tail.Data, err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	policy := c.Host.Config.Policy(r.Name())
	verified, err := policy.Verify(frame)
	if err == nil {
		err = policy.Check(verified, release.Accepted{}, now)
	}

	return verified, now, err
}
