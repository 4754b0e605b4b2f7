package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

// packFlags are shared by pack and push.
type packFlags struct {
	src     string
	include []string
}

func (p *packFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.src, "src", "", "directory of the flake")
	cmd.Flags().StringArrayVar(&p.include, "include", nil, "pack only this top-level directory, besides top-level files (repeatable; default: all)")
	_ = cmd.MarkFlagRequired("src")
}

// pack packs into w. Of the files written meanwhile, none is packed.
func (p *packFlags) pack(ctx context.Context, c *common, w io.Writer, written ...fs.FileInfo) error {
	return store.Pack(ctx, p.src, w, store.PackOptions{
		Include: p.include, Omit: written, Warn: func(msg string) { c.log.Warn(msg) },
	})
}

func packCommand(c *common) *cobra.Command {
	var p packFlags
	var dst string
	cmd := &cobra.Command{
		Use:   "pack --src DIR --dst FILE",
		Short: "Pack a flake into one file, as remotes hold it",
		Long: `Pack a flake into one file, as remotes hold it: tar, compressed with zstd. The same files give the
same bytes, so publishing an unchanged flake changes nothing on any host. Top-level .git and result*
links are left out, and so are Terraform's state and .terraform directories.`,
		Example: "  npcnix pack --src ./configurations --dst dev.npcnix\n  aws s3 cp dev.npcnix s3://BUCKET/npcnix/remotes/dev.npcnix",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dst == "-" || dst == "/dev/stdout" {
				return p.pack(cmd.Context(), c, c.stdout)
			}
			out, err := store.CreateOutput(cmd.Context(), dst)
			if err != nil {
				return fmt.Errorf("write %s: %w", dst, err)
			}
			defer out.Close()
			w := bufio.NewWriterSize(out, 1<<20)
			if err := p.pack(cmd.Context(), c, w, out.Files()...); err != nil {
				return err
			}
			err = w.Flush()
			if err == nil {
				err = out.Commit()
			}
			if err != nil {
				return fmt.Errorf("write %s: %w", dst, err)
			}
			return nil
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&dst, "dst", "", "file to write; - for stdout")
	_ = cmd.MarkFlagRequired("dst")
	return cmd
}

func pushCommand(c *common) *cobra.Command {
	var p packFlags
	var waiting waitFlags
	var wait bool
	var remote, region string
	cmd := &cobra.Command{
		Use:   "push --src DIR --remote URL [--wait]",
		Short: "Pack a flake and publish it to a remote",
		Long: `Pack a flake and publish it to a remote. Prints the ETag that hosts will see.

With --wait it then waits until the hosts run that version, as npcnix wait does and with its flags and
exit codes: see npcnix wait --help. Which hosts to expect is found out before anything is published.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := waiting.onlyWith(wait, cmd.Flags()); err != nil {
				return err
			}
			r, err := c.openStore(ctx, remote, region)
			if err != nil {
				return err
			}
			var gate *fleet.Gate
			if wait {
				if gate, err = waiting.prepare(ctx, c, cmd, r); err != nil {
					return err
				}
			}
			file, err := os.CreateTemp("", "npcnix-push-*")
			if err != nil {
				return fmt.Errorf("make a temporary file: %w", err)
			}
			defer os.Remove(file.Name())
			defer file.Close()
			w := bufio.NewWriterSize(file, 1<<20)
			info, err := file.Stat()
			if err != nil {
				return fmt.Errorf("write %s: %w", file.Name(), err)
			}
			if err := p.pack(ctx, c, w, info); err != nil {
				return err
			}
			if err := w.Flush(); err != nil {
				return fmt.Errorf("write %s: %w", file.Name(), err)
			}
			size, err := file.Seek(0, io.SeekCurrent)
			if err == nil {
				_, err = file.Seek(0, io.SeekStart)
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", file.Name(), err)
			}
			if gate != nil {
				// Without it, what a cache still answers would be taken for a newer publish.
				if gate.Before, err = r.Latest(ctx, store.Version{}); err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
			}
			v, err := r.Publish(ctx, file, size)
			if err != nil {
				return err
			}
			if !waiting.json {
				if _, err := fmt.Fprintln(c.stdout, v.ETag); err != nil {
					return err
				}
			}
			if gate == nil {
				return nil
			}
			return waitFor(ctx, gate, v, fleet.Published)
		},
	}
	p.register(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "then wait until the hosts run it; the flags below that are of npcnix wait go with it")
	waiting.register(cmd.Flags())
	cmd.Flags().StringVar(&remote, "remote", "", "remote to publish to; to prevent accidents it is never taken from config.json")
	cmd.Flags().StringVar(&region, "remote-region", "", "region of the remote's bucket")
	_ = cmd.MarkFlagRequired("remote")
	return cmd
}

func pullCommand(c *common) *cobra.Command {
	var remote, region, dst string
	cmd := &cobra.Command{
		Use:   "pull [--remote URL] --dst DIR",
		Short: "Fetch the flake of a remote and unpack it",
		Long:  "Fetch the flake of a remote and unpack it into a directory, which must be empty or absent. Prints its ETag.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			r, err := c.openRemote(ctx, remote, region)
			if err != nil {
				return err
			}
			v, err := r.Latest(ctx, store.Version{})
			if err != nil {
				return err
			}
			made, err := absent(dst)
			if err != nil {
				return err
			}
			if err := r.Fetch(ctx, v, dst); err != nil {
				if made {
					_ = os.RemoveAll(dst)
				}
				return err
			}
			_, err = fmt.Fprintln(c.stdout, v.ETag)
			return err
		},
	}
	cmd.Flags().StringVar(&remote, "remote", "", "remote to fetch from (default: the one in config.json)")
	cmd.Flags().StringVar(&region, "remote-region", "", "region of the remote's bucket")
	cmd.Flags().StringVar(&dst, "dst", "", "directory to unpack into")
	_ = cmd.MarkFlagRequired("dst")
	return cmd
}

// absent reports whether dir is to be made, and so may be removed again.
func absent(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
