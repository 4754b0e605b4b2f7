package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/store"
)

// flakeFlags name the flake that pack and push pack.
type flakeFlags struct {
	src     string
	include []string
}

func (f *flakeFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.src, "src", "", "directory of the flake")
	cmd.Flags().StringArrayVar(&f.include, "include", nil, "pack only this top-level directory, besides top-level files (repeatable; default: all)")
	_ = cmd.MarkFlagRequired("src")
}

// pack packs into w. Of the files written meanwhile, none is packed.
func (f *flakeFlags) pack(ctx context.Context, c *common, w io.Writer, written ...fs.FileInfo) error {
	return store.Pack(ctx, f.src, w, store.PackOptions{Include: f.include, Omit: written, Warn: c.warn})
}

const packHelp = `Pack a flake into one file, as remotes hold it: a tar archive, compressed with zstd. The same files give
the same bytes, so if you publish an unchanged flake, nothing changes on any host.

Omitted are .git, links named result* into the nix store, Terraform's state and .terraform directories.`

type packOptions struct {
	flake flakeFlags
	dst   string
}

func newPackCommand(c *common) *cobra.Command {
	var o packOptions
	cmd := &cobra.Command{
		Use:     "pack --src DIR --dst FILE",
		Short:   "Pack a flake into one file, as remotes hold it",
		Long:    packHelp,
		Example: "  npcnix pack --src ./configurations --dst dev.npcnix\n  aws s3 cp dev.npcnix s3://BUCKET/npcnix/remotes/dev.npcnix",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runPack(cmd.Context(), c, o) },
	}
	o.flake.addFlags(cmd)
	cmd.Flags().StringVar(&o.dst, "dst", "", "file to write; - for stdout")
	_ = cmd.MarkFlagRequired("dst")
	return cmd
}

func runPack(ctx context.Context, c *common, o packOptions) error {
	if o.dst == "-" || o.dst == "/dev/stdout" {
		return o.flake.pack(ctx, c, c.stdout)
	}
	out, err := store.CreateOutput(ctx, o.dst)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.dst, err)
	}
	defer out.Close()
	w := bufio.NewWriterSize(out, 1<<20)
	if err := o.flake.pack(ctx, c, w, out.Files()...); err != nil {
		return err
	}
	err = w.Flush()
	if err == nil {
		err = out.Commit()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", o.dst, err)
	}
	return nil
}
