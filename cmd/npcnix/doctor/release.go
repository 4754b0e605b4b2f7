package doctor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
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
	if _, prebuilt := verified.Systems[c.Host.Config.Configuration]; prebuilt && c.Host.Config.EvaluationMode() != config.EvaluateAlways {
		how = "this host's system is prebuilt"
	} else if c.Host.Config.EvaluationMode() == config.EvaluateNever {
		return wrong(link, "the release has no prebuilt system for this host, which never evaluates", "publish with `--prebuild`, or change `evaluation`")
	}
	signed := "signed by " + strings.Join(verified.Keys, ", ") + "; " + how
	if verified.Expires.IsZero() {
		return ok(link, "%s", signed)
	}
	left := verified.Expires.Sub(now)
	if left < verified.Expires.Sub(verified.Created)/4 {
		return warning(link, signed+"; it expires in "+left.Round(time.Minute).String(), "run `npcnix release renew` before, from a timer")
	}

	return ok(link, "%s; it expires in %s", signed, left.Round(time.Minute))
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
