package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
)

type pullOptions struct {
	remote remoteFlags
	dst    string
}

func newPullCommand(c *common) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:     "pull [--remote URL] --dst DIR",
		Short:   "Fetch the flake of a remote and unpack it",
		Long:    "Fetch the flake of a remote and unpack it into a directory, which must be empty or not exist. Prints its ETag.",
		Example: "  npcnix pull --remote s3://BUCKET/npcnix/remotes/dev.npcnix --dst ./dev",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runPull(cmd.Context(), c, o) },
	}
	o.remote.addFlags(cmd.Flags(), "remote to fetch from (default: this host's)")
	cmd.Flags().StringVar(&o.dst, "dst", "", "directory to unpack into")
	_ = cmd.MarkFlagRequired("dst")
	return cmd
}

func runPull(ctx context.Context, c *common, o pullOptions) error {
	from, err := o.remote.fromSettings(c)
	if err != nil {
		return err
	}
	remote, err := from.open(ctx, c)
	if err != nil {
		return err
	}
	v, err := remote.Latest(ctx, store.Version{})
	if err != nil {
		return err
	}
	made, err := absent(o.dst)
	if err != nil {
		return err
	}
	if err := fetchTrusted(ctx, c, remote, v, o.dst); err != nil {
		if made {
			_ = os.RemoveAll(o.dst)
		}
		return err
	}
	return c.print("%s\n", v.ETag)
}

// fetchTrusted fetches a version. On a host with signers it must be a release that they vouch for, and no older one
// than the host has accepted.
func fetchTrusted(ctx context.Context, c *common, remote *store.Remote, v store.Version, dir string) error {
	conf, err := c.conf()
	if err != nil {
		return err
	}
	policy := conf.Policy(remote.Name())
	if len(policy.Signers) == 0 {
		return remote.Fetch(ctx, v, dir)
	}
	f, now, err := publish.Read(ctx, remote, v)
	if err != nil {
		return err
	}
	verified, err := policy.Verify(f)
	if err != nil {
		return err
	}
	accepted, err := trust.Load(c.dir())
	if err != nil {
		return err
	}
	if err := policy.Check(verified, accepted.Remotes[remote.Name()], orNow(now)); err != nil {
		return err
	}
	return remote.FetchSigned(ctx, v, store.Archive{SHA256: verified.Archive.SHA256, Size: verified.Archive.Size}, dir)
}

// orNow is the store's time, or this machine's where the store tells none.
func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}

// absent reports whether there is no dir yet, so that one that is made can be removed again.
func absent(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
