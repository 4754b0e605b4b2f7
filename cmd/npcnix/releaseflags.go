package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// releaseFlags describe the release that pack and push make of a packed flake.
type releaseFlags struct {
	keys           []string
	signers        string
	required       int
	rolloutSigners string
	prebuild       bool
	configurations []string
	cache          string
	cacheKey       string
	systems        []string
	rev, message   string
	expires        time.Duration

	plan        *release.Plan // that push's flags describe; nil: none
	rolloutKeys []string
}

// minExpires is the least time that a release is valid for. In less, no host could begin to activate it.
const minExpires = time.Minute

const signersRequiredHelp = "how many of --signers must have signed an earlier release to trust it, as in the hosts' signers_required"

const rolloutSignersHelp = "file of public keys that may have signed a rollout's progress besides"

// addKeyFlags adds the flags of all that signs.
func (f *releaseFlags) addKeyFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.keys, "sign-key", nil, "private key to sign the release with: a file of OpenSSH, agent:FINGERPRINT, or awskms:ARN (repeatable)")
	flags.StringVar(&f.signers, "signers", "", "file of public keys whose earlier releases to trust (default: the signing keys)")
	flags.IntVar(&f.required, "signers-required", 1, signersRequiredHelp)
	flags.StringVar(&f.rolloutSigners, "rollout-signers", "", rolloutSignersHelp)
	flags.DurationVar(&f.expires, "expires", 0, "time after which no host begins to activate the release, at least 1m (default: never)")
}

func (f *releaseFlags) addFlags(flags *pflag.FlagSet) {
	f.addKeyFlags(flags)
	flags.BoolVar(&f.prebuild, "prebuild", false, "build the systems and copy them to --cache, so that hosts evaluate nothing")
	flags.StringArrayVar(&f.configurations, "prebuild-configuration", nil, "prebuild only this configuration (repeatable; default: all)")
	flags.StringVar(&f.cache, "cache", "", "URL of the binary cache that hosts fetch prebuilt systems from")
	flags.StringVar(&f.cacheKey, "cache-key", "", "file with the secret key that signs what is copied to the cache")
	flags.StringArrayVar(&f.systems, "system", nil, "NAME=PATH of a system that was built elsewhere (repeatable)")
	flags.StringVar(&f.rev, "rev", "", "revision of the source, shown to people")
	flags.StringVar(&f.message, "message", "", "what changed, shown to people")
}

// open returns the publisher that the flags describe, for the remote of that name; nil without any of them.
func (f *releaseFlags) open(ctx context.Context, c *common, remote string) (*publish.Publisher, func(), error) {
	o := publish.Options{
		Remote: remote, KeyNames: f.keys, Systems: map[string]string{}, Prebuild: f.prebuild, Configurations: f.configurations,
		CacheKey: f.cacheKey, Source: release.Source{Rev: f.rev, Message: f.message}, Expires: f.expires, Log: c.log,
		Required: f.required, Plan: f.plan, RolloutKeyNames: f.rolloutKeys,
	}
	if f.expires != 0 && f.expires < minExpires {
		return nil, nil, usageError{fmt.Errorf("--expires is %v: hosts need at least %v to begin", f.expires, minExpires)}
	}
	for _, s := range f.systems {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			return nil, nil, usageError{fmt.Errorf("--system is %q: it must be NAME=PATH", s)}
		}
		if !strings.HasPrefix(path, "/nix/store/") {
			return nil, nil, usageError{fmt.Errorf("--system is %q: PATH must be a system in /nix/store, as `nix build --print-out-paths` prints it", s)}
		}
		o.Systems[name] = path
	}
	if !o.Wanted() {
		return nil, nil, f.unused()
	}
	if err := f.checkCache(); err != nil {
		return nil, nil, usageError{err}
	}
	if len(f.keys) > 0 && remote == "" {
		return nil, nil, usageError{errors.New("a signed release must name the remote that it is for: give --for REMOTE")}
	}

	work, err := os.MkdirTemp("", "npcnix-publish-*")
	if err != nil {
		return nil, nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	if err := f.complete(ctx, c, &o, work); err != nil {
		_ = os.RemoveAll(work)
		return nil, nil, err
	}
	p, err := publish.Open(ctx, o)
	if err != nil {
		_ = os.RemoveAll(work)
		return nil, nil, keyError(err)
	}

	return p, func() { _ = p.Close(); _ = os.RemoveAll(work) }, nil
}

// keyError is the error of keys that cannot be used. Only what AWS answers may be another one next time.
func keyError(err error) error {
	if errors.Is(err, release.ErrKMS) {
		return err
	}

	return usageError{err}
}

// checkCache refuses a cache or prebuild flags that mean nothing, and what nix would not take as one cache: in its list of caches, a space begins the next one.
func (f *releaseFlags) checkCache() error {
	switch {
	case len(f.configurations) > 0 && !f.prebuild:
		return errors.New("--prebuild-configuration limits what is prebuilt: give --prebuild too")
	case f.cacheKey != "" && f.cache == "":
		return errors.New("--cache-key signs what is copied to a cache: give --cache URL too")
	case f.cache != "" && !strings.Contains(f.cache, "://"), strings.ContainsFunc(f.cache, unicode.IsSpace):
		return fmt.Errorf("--cache is %q: it must be a URL without spaces, such as s3://BUCKET?region=REGION or file:///DIR", store.Redact(f.cache))
	case f.cache != "" && f.cacheKey == "" && len(f.keys) > 0:
		return errors.New("--cache needs --cache-key FILE: of a signed release, hosts accept only what a key of that release has signed")
	}
	if u, err := url.Parse(f.cache); err == nil && u.User != nil {
		return fmt.Errorf("--cache is %s with a user or password: every host would get that in the release, and anyone who can read it; use a netrc file of nix", store.Redact(f.cache))
	}

	return nil
}

// complete adds what must be read or asked for.
func (f *releaseFlags) complete(ctx context.Context, c *common, o *publish.Options, work string) (err error) {
	if o.Signers, err = readSigners("signers", f.signers); err != nil {
		return err
	}
	if o.RolloutSigners, err = readSigners("rollout-signers", f.rolloutSigners); err != nil {
		return err
	}
	if o.Nix, err = nix.New(nix.Options{Dir: work, Log: c.log}); err != nil {
		return err
	}
	if f.cache == "" {
		return nil
	}
	cache := release.Cache{URL: f.cache}
	if f.cacheKey != "" {
		if o.CacheKey, err = filepath.Abs(f.cacheKey); err != nil { // nix runs in another directory
			return err
		}
		key, err := o.Nix.PublicCacheKey(ctx, f.cacheKey)
		if errors.Is(err, nix.ErrCacheKey) {
			return usageError{fmt.Errorf("--cache-key: %w", err)}
		}
		if err != nil {
			return err
		}
		cache.Keys = []string{key}
	}
	o.Caches = []release.Cache{cache}

	return nil
}

// readSigners reads the file of a flag; none if that was not given.
func readSigners(flag, file string) (release.Signers, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	keys, err := release.ParseSigners(string(text))
	if err != nil {
		return nil, usageError{fmt.Errorf("--%s %s: %w", flag, file, err)}
	}

	return keys, nil
}

// unused returns a usage error for flags that mean nothing without a release.
func (f *releaseFlags) unused() error {
	if f.required != 1 || f.rolloutSigners != "" {
		return usageError{errors.New("--signers-required and --rollout-signers are about earlier releases: give --sign-key, --prebuild or --system too")}
	}
	if f.rev != "" || f.message != "" || f.expires != 0 || f.cache != "" || f.cacheKey != "" || f.signers != "" || len(f.configurations) > 0 {
		return usageError{errors.New("--rev, --message, --expires, --signers, --cache, --cache-key and --prebuild-configuration describe a release: give --sign-key, --prebuild or --system too")}
	}

	return nil
}
