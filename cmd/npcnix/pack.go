package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
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

// printNames prints what would be packed. It packs, so that what hosts would refuse is an error here too.
func (f *flakeFlags) printNames(ctx context.Context, c *common) error {
	var names strings.Builder
	o := store.PackOptions{Include: f.include, Warn: c.warn, Packed: func(name string) { names.WriteString(name + "\n") }}
	if err := store.Pack(ctx, f.src, io.Discard, o); err != nil {
		return err
	}
	return c.print("%s", names.String())
}

const packHelp = `Pack a flake into one file, as remotes hold it: a tar archive, compressed with zstd. The same files give
the same bytes, so if you publish an unchanged flake, nothing changes on any host.

In a git tree, what git tracks is packed, as nix does, and what submodules track that are checked out. Files that git
neither tracks nor ignores are named in a warning. Elsewhere all of the directory is packed.

Always omitted are .git and .direnv, links named result* into the nix store, Terraform's state and .terraform
directories, and what a .npcnixignore at the top names, as .gitignore does but without ! and **.`

type packOptions struct {
	flake   flakeFlags
	release releaseFlags
	remote  string // that the release is for
	dst     string
	list    bool
}

func newPackCommand(c *common) *cobra.Command {
	var o packOptions
	cmd := &cobra.Command{
		Use:     "pack --src DIR --dst FILE | --list",
		Short:   "Pack a flake into one file, as remotes hold it",
		Long:    packHelp,
		Example: "  npcnix pack --src ./configurations --dst dev.npcnix\n  aws s3 cp dev.npcnix s3://BUCKET/npcnix/remotes/dev.npcnix",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runPack(cmd.Context(), c, o) },
	}
	o.flake.addFlags(cmd)
	o.release.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&o.remote, "for", "", "URL of the remote that the release is for; a signed one must name it")
	cmd.Flags().StringVar(&o.dst, "dst", "", "file to write; - for stdout")
	cmd.Flags().BoolVar(&o.list, "list", false, "print the names of the files that would be packed, and write nothing")
	cmd.MarkFlagsOneRequired("dst", "list")
	cmd.MarkFlagsMutuallyExclusive("dst", "list")
	return cmd
}

func runPack(ctx context.Context, c *common, o packOptions) error {
	if o.list {
		return o.flake.printNames(ctx, c)
	}
	name := ""
	if o.remote != "" {
		var err error
		if name, err = store.NameOf(o.remote); err != nil {
			return err
		}
	}
	publisher, done, err := o.release.open(ctx, c, name)
	if err != nil {
		return err
	}
	if publisher != nil {
		defer done()
	}

	pack := o.flake.pack
	if publisher != nil {
		pack = o.packRelease(publisher)
	}
	if o.dst == "-" || o.dst == "/dev/stdout" {
		return pack(ctx, c, c.stdout, filesOf(c.stdout)...)
	}
	out, err := store.CreateOutput(ctx, o.dst)
	if err != nil {
		return fmt.Errorf("write %s: %w", o.dst, err)
	}
	defer out.Close()
	w := bufio.NewWriterSize(out, 1<<20)
	if err := pack(ctx, c, w, out.Files()...); err != nil {
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

// filesOf is the file that w writes to, such as one to which a shell has redirected stdout; none if it is no file.
func filesOf(w io.Writer) []fs.FileInfo {
	file, is := w.(*os.File)
	if !is {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return []fs.FileInfo{info}
}

// packRelease returns what packs the flake and appends the release's frame.
func (o packOptions) packRelease(p *publish.Publisher) func(context.Context, *common, io.Writer, ...fs.FileInfo) error {
	return func(ctx context.Context, c *common, w io.Writer, written ...fs.FileInfo) error {
		file, err := o.flake.temporary(ctx, c, written...)
		if err != nil {
			return err
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if _, err := p.Frame(ctx, file, 0); err != nil {
			return withCode(ctx, nil, nil, err)
		}
		if _, err := rewound(file); err != nil {
			return err
		}
		_, err = io.Copy(w, file)
		return err
	}
}

// temporary packs the flake into a temporary file. The caller removes it.
func (f *flakeFlags) temporary(ctx context.Context, c *common, written ...fs.FileInfo) (_ *os.File, err error) {
	file, err := os.CreateTemp("", "npcnix-pack-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	if err := f.pack(ctx, c, w, append(written, info)...); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	return file, nil
}
