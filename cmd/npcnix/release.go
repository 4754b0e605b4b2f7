package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

type releaseOptions struct {
	remote  remoteFlags
	file    string
	signers string
	asJSON  bool
}

func newReleaseCommand(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release",
		Short: "Look at a release: what it is and who vouches for it",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newReleaseShowCommand(c), newReleaseVerifyCommand(c), newReleaseSignerCommand(c), newRenewCommand(c))
	return cmd
}

const releaseShowHelp = `Print what a release says of itself. Nothing is verified: see npcnix release verify.

With --json it prints the frame, whose manifest is the exact signed bytes. To verify them with OpenSSH:

  npcnix release show --remote URL --json >frame.json
  jq -r .manifest frame.json | base64 -d >manifest
  jq -r '.signatures[0]' frame.json >signature
  ssh-keygen -Y verify -f ALLOWED_SIGNERS -I PRINCIPAL -n npcnix-release -s signature <manifest`

func newReleaseShowCommand(c *common) *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:   "show [--remote URL | --file FILE]",
		Short: "Print what a release says of itself",
		Long:  releaseShowHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runReleaseShow(cmd.Context(), c, o) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the frame as one JSON object")
	return cmd
}

const releaseVerifyHelp = `Verify a release as a host does: by the keys in --signers, or on a host by its own signers. It must be meant
for the remote, be signed by enough keys, and not have expired, and the packed flake must be the one that
was signed. What this host has accepted before does not count.`

func newReleaseVerifyCommand(c *common) *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:   "verify [--remote URL | --file FILE] [--signers FILE]",
		Short: "Verify a release as a host does",
		Long:  releaseVerifyHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runReleaseVerify(cmd.Context(), c, o) },
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&o.signers, "signers", "", "file of the trusted public keys (default: this host's signers)")
	return cmd
}

func (o *releaseOptions) addFlags(cmd *cobra.Command) {
	o.remote.addFlags(cmd.Flags(), "remote that holds the release (default: this host's)")
	cmd.Flags().StringVar(&o.file, "file", "", "file that npcnix pack has made, instead of a remote")
	cmd.MarkFlagsMutuallyExclusive("file", "remote")
}

// open returns the remote, or the file as one, and the version that it holds.
func (o *releaseOptions) open(ctx context.Context, c *common) (*store.Remote, store.Version, error) {
	from := o.remote
	var err error
	if o.file != "" {
		from.url, err = fileURL(o.file)
	} else {
		from, err = o.remote.fromSettings(c)
	}
	if err != nil {
		return nil, store.Version{}, err
	}
	remote, err := from.open(ctx, c)
	if err != nil {
		return nil, store.Version{}, err
	}
	v, err := remote.Latest(ctx, store.Version{})
	return remote, v, err
}

var errNoRelease = errors.New("it is a packed flake without a manifest: nobody has signed it, and it names no systems")

func runReleaseShow(ctx context.Context, c *common, o releaseOptions) error {
	remote, v, err := o.open(ctx, c)
	if err != nil {
		return err
	}
	f, _, err := publish.Read(ctx, remote, v)
	if err != nil {
		return err
	}
	if f == nil {
		return errNoRelease
	}
	if o.asJSON {
		return c.printJSON(f)
	}
	m, err := release.Parse(f.Manifest)
	if err != nil {
		return err
	}
	return c.print("%s", describeRelease(m, f))
}

// describeRelease says what a release is, for a person.
func describeRelease(m *release.Manifest, f *release.Frame) string {
	var l lines
	l.add("release", "%s", m.Release)
	l.add("remote", "%s", or(m.Remote, "any"))
	l.add("serial", "%d", m.Serial)
	l.add("created", "%s", m.Created.UTC().Format(time.RFC3339))
	if !m.Expires.IsZero() {
		l.add("expires", "%s", m.Expires.UTC().Format(time.RFC3339))
	}
	if m.Source.Rev != "" {
		l.add("rev", "%s", fleet.Clean(m.Source.Rev))
	}
	if m.Source.Message != "" {
		l.add("message", "%s", fleet.Clean(m.Source.Message))
	}
	l.add("signatures", "%d", len(f.Signatures))
	for _, name := range slices.Sorted(maps.Keys(m.Systems)) {
		s := m.Systems[name]
		l.add("system", "%s: %s (%s, %d MiB)", fleet.Clean(name), s.Toplevel, fleet.Clean(s.Platform), s.ClosureSize>>20)
	}
	for _, cache := range m.Caches {
		l.add("cache", "%s", store.Redact(cache.URL))
	}
	return l.String()
}

func runReleaseVerify(ctx context.Context, c *common, o releaseOptions) error {
	remote, v, err := o.open(ctx, c)
	if err != nil {
		return err
	}
	policy, err := o.policy(c, remote)
	if err != nil {
		return err
	}
	f, now, err := publish.Read(ctx, remote, v)
	if err != nil {
		return err
	}
	verified, err := policy.Verify(f)
	if err == nil {
		err = policy.Check(verified, release.Accepted{}, orNow(now))
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "npcnix-verify-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := remote.FetchSigned(ctx, v, store.Archive{SHA256: verified.Archive.SHA256, Size: verified.Archive.Size}, dir); err != nil {
		return err
	}
	if o.asJSON {
		return c.printJSON(view(verified.Manifest, v, verified.Keys))
	}
	return c.print("verified: %s, signed by %s\n", publish.Short(verified.Manifest), strings.Join(verified.Keys, ", "))
}

// releaseView is the JSON of a release that was verified or renewed.
type releaseView struct {
	Release string    `json:"release"`
	Remote  string    `json:"remote"`
	Serial  int64     `json:"serial"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	ETag    string    `json:"etag"`
	Rev     string    `json:"rev,omitempty"`
	Message string    `json:"message,omitempty"`
	Keys    []string  `json:"keys"` // fingerprints of the trusted keys that signed it
}

func view(m *release.Manifest, v store.Version, keys []string) releaseView {
	if keys == nil {
		keys = []string{}
	}
	return releaseView{m.Release, m.Remote, m.Serial, m.Created, m.Expires, v.ETag, m.Source.Rev, m.Source.Message, keys}
}

// policy is what the release must satisfy.
func (o *releaseOptions) policy(c *common, remote *store.Remote) (release.Policy, error) {
	conf, err := c.conf()
	if err != nil {
		return release.Policy{}, err
	}
	p := conf.Policy(remote.Name())
	if o.signers != "" {
		text, err := os.ReadFile(o.signers)
		if err != nil {
			return release.Policy{}, fmt.Errorf("--signers: %w", err)
		}
		if p.Signers, err = release.ParseSigners(string(text)); err != nil {
			return release.Policy{}, usageError{fmt.Errorf("--signers %s: %w", o.signers, err)}
		}
	}
	if len(p.Signers) == 0 {
		return release.Policy{}, usageError{errors.New("no signers: give --signers FILE, or set signers on this host")}
	}
	return p, nil
}

// fileURL is the URL of a file, as a remote.
func fileURL(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "file", Path: abs}).String(), nil
}
