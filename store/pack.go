package store

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Pack writes the flake in src to w as a tar in zstd. The bytes depend on the
// names, contents, links and x bits of the files alone: neither on the machine
// nor on times, owners or the order of directories.
//
// Left out are .git and result* links at the top, what Terraform and OpenTofu
// keep beside their files (state may hold secrets, and changes with each apply),
// and, with a warning each, links that are absolute or lead out of src, sockets, pipes and devices. When
// include is not empty, of the directories at the top only those named are
// packed; files at the top always are. Warn may be nil.
//
// An error leaves a part of an archive in w, to be thrown away.
func Pack(ctx context.Context, src string, include []string, w io.Writer, warn func(msg string)) error {
	if err := CheckFlake(src); err != nil {
		return err
	}
	keep, err := topDirs(src, include)
	if err != nil {
		return err
	}
	if warn == nil {
		warn = func(string) {}
	}
	// None of this may depend on the machine, for it shows in the bytes. The window
	// is that of zstd -3; what is compressed side by side are its multiples.
	zw, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(2<<20),
		zstd.WithConcurrentBlocks(true), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	p := packer{src: src, keep: keep, warn: warn, copyBuf: make([]byte, 256<<10)}
	p.buf = bufio.NewWriterSize(zw, 256<<10)
	p.tw = tar.NewWriter(p.buf)
	if err = p.dir(ctx, ""); err == nil {
		err = p.close()
	}
	if closed := zw.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	return nil
}

// topDirs checks the names given to include: each must be a directory in src.
func topDirs(src string, include []string) ([]string, error) {
	var keep []string
	for _, name := range include {
		clean := path.Clean(filepath.ToSlash(name))
		if clean == "." || clean == ".." || strings.Contains(clean, "/") {
			return nil, fmt.Errorf("include %q: want the name of a directory at the top of %s", name, src)
		}
		if info, err := os.Lstat(filepath.Join(src, clean)); err != nil {
			return nil, fmt.Errorf("include %q: %w", name, err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("include %q: not a directory; files at the top are always packed", name)
		}
		keep = append(keep, clean)
	}
	return keep, nil
}

type packer struct {
	src     string
	keep    []string // directories at the top to pack; empty: all
	warn    func(string)
	buf     *bufio.Writer
	tw      *tar.Writer
	copyBuf []byte
}

func (p *packer) close() error {
	if err := p.tw.Close(); err != nil {
		return err
	}
	return p.buf.Flush()
}

// dir packs what the directory holds, in the order of names. The name is
// slash-separated and relative to src, empty for src itself.
func (p *packer) dir(ctx context.Context, name string) error {
	entries, err := os.ReadDir(filepath.Join(p.src, name))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if name == "" && p.leaveOut(e) || ofTerraform(e) {
			continue
		}
		if err := p.entry(ctx, path.Join(name, e.Name()), e.Type()); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) leaveOut(top fs.DirEntry) bool {
	switch {
	case top.Name() == ".git":
		return true
	case top.Type() == fs.ModeSymlink:
		return strings.HasPrefix(top.Name(), "result")
	default:
		return top.IsDir() && len(p.keep) > 0 && !slices.Contains(p.keep, top.Name())
	}
}

// ofTerraform finds the state, its backups and lock, and the folder of plugins, as
// terraform/remote_s3_upload does.
func ofTerraform(e fs.DirEntry) bool {
	name := e.Name()
	if e.IsDir() {
		return name == ".terraform"
	}
	return strings.HasSuffix(name, ".tfstate") || strings.Contains(name, ".tfstate.")
}

func (p *packer) entry(ctx context.Context, name string, mode fs.FileMode) error {
	switch mode {
	case fs.ModeDir:
		if err := p.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
			return err
		}
		return p.dir(ctx, name)
	case fs.ModeSymlink:
		target, err := os.Readlink(filepath.Join(p.src, name))
		if err != nil {
			return err
		}
		if err := checkLink(name, target); err != nil {
			return p.skip(name, err.Error())
		}
		return p.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
	case 0:
		return p.file(name)
	default:
		return p.skip(name, "neither file nor directory nor link")
	}
}

func (p *packer) skip(name, why string) error {
	if name == "flake.nix" {
		return fmt.Errorf("flake.nix cannot be packed: %s", why)
	}
	p.warn(fmt.Sprintf("left out %s: %s", filepath.Join(p.src, name), why))
	return nil
}

func (p *packer) file(name string) error {
	f, err := os.Open(filepath.Join(p.src, name))
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Size: before.Size(), Mode: 0o644}
	if before.Mode()&0o100 != 0 {
		h.Mode = 0o755
	}
	if err := p.header(h); err != nil {
		return err
	}
	// One byte more than announced is asked for, to notice a file that grew.
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(f, h.Size+1), p.copyBuf)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != h.Size {
		return fmt.Errorf("%s changed while it was packed: try again when nothing writes to it", f.Name())
	}
	return err
}

func (p *packer) header(h tar.Header) error {
	h.ModTime = time.Unix(0, 0)
	return p.tw.WriteHeader(&h)
}

// checkLink refuses targets that are not surely inside the tree. Where ".." comes
// only at the front of every target, and no link serves as another entry's
// directory, what a name resolves to is what it says.
func checkLink(name, target string) error {
	if target == "" || path.IsAbs(target) {
		return fmt.Errorf("link to %q: the target is not relative", target)
	}
	depth, named := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
			if named || depth < 0 {
				return fmt.Errorf("link to %q: the target may lead out of the tree", target)
			}
		default:
			named = true
		}
	}
	return nil
}
