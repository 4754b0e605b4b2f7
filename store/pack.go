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

// PackOptions adjusts Pack. The zero value packs the whole directory.
type PackOptions struct {
	// Include limits the directories at the top to those named; files at the top
	// are always packed. Empty: all directories.
	Include []string
	// Omit has files and directories that are not packed, wherever they are: above all the output.
	Omit []fs.FileInfo
	// Limits are those of the hosts that will unpack the archive.
	Limits Limits
	// Warn receives a line for each entry that cannot be packed, and one for those that git does not track; nil
	// drops them.
	Warn func(msg string)
	// Packed is told the name of each file and link; nil is not.
	Packed func(name string)
}

// Pack writes the flake in src to w as a tar in zstd. The bytes depend on the
// names, contents, links and x bits of the files alone. They do not depend on the
// machine, times, owners or the order of directories.
//
// In a git tree it packs what git tracks and nothing else, as nix does. Whatever is tracked, it omits .git at
// every depth, since a clone's configuration can hold a token; .direnv; result links into the nix store at the
// top; the state and plugins of Terraform and OpenTofu, since state can hold secrets and changes with each apply;
// and what a .npcnixignore at the top names. It omits, with a warning each, links that are absolute or lead out
// of src, sockets, pipes and devices. A flake that hosts would refuse to unpack is an error.
//
// On error, w has received a part of an archive.
func Pack(ctx context.Context, src string, w io.Writer, o PackOptions) error {
	if err := CheckFlake(src); err != nil {
		return err
	}
	keep, err := topDirs(src, o.Include)
	if err != nil {
		return err
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if o.Packed == nil {
		o.Packed = func(string) {}
	}
	ignored, err := readIgnored(src)
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	tracked, err := trackedIn(ctx, src, ignored, o.Warn)
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	// None of this can depend on the machine, because it shows in the bytes. The window
	// is that of zstd -3; the blocks that are compressed in parallel are multiples of it.
	zw, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(2<<20),
		zstd.WithConcurrentBlocks(true), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	p := packer{src: src, keep: keep, tracked: tracked, ignored: ignored, options: o, budget: newBudget(o.Limits), copyBuf: make([]byte, 256<<10)}
	p.buf = bufio.NewWriterSize(zw, 256<<10)
	p.plain = &countingWriter{w: p.buf}
	p.tw = tar.NewWriter(p.plain)
	if err = p.dir(ctx, ""); err == nil {
		err = p.close()
	}
	if closed := zw.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, ErrUnsafe) {
		return fmt.Errorf("pack %s: every host would refuse it: %w", src, err)
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", src, err)
	}
	return nil
}

// countingWriter counts the bytes of the tar.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
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
	tracked tracked
	ignored ignored
	options PackOptions
	budget  *budget
	plain   *countingWriter
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

// dir packs the entries of a directory, in the order of their names. The name is
// slash-separated and relative to src; it is empty for src itself.
func (p *packer) dir(ctx context.Context, name string) error {
	entries, err := os.ReadDir(filepath.Join(p.src, name))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if omit, err := p.omits(name, e); err != nil {
			return err
		} else if omit {
			continue
		}
		if err := p.entry(ctx, path.Join(name, e.Name()), e.Type()); err != nil {
			return err
		}
	}
	return nil
}

// omits reports whether an entry of the directory is no part of the flake.
func (p *packer) omits(dir string, e fs.DirEntry) (bool, error) {
	name := path.Join(dir, e.Name())
	_, known := p.tracked[name]
	switch {
	case e.Name() == ".git", e.Name() == ".direnv", ofTerraform(e), p.tracked != nil && !known, p.ignored.match(name, e.IsDir()):
		return true, nil
	case dir == "" && e.IsDir() && len(p.keep) > 0 && !slices.Contains(p.keep, e.Name()):
		return true, nil
	case dir == "" && e.Type() == fs.ModeSymlink && (e.Name() == "result" || strings.HasPrefix(e.Name(), "result-")):
		target, err := os.Readlink(filepath.Join(p.src, e.Name()))
		return strings.HasPrefix(target, "/nix/store/"), err
	}
	return p.written(e)
}

// written reports whether an entry is among what is to be omitted.
func (p *packer) written(e fs.DirEntry) (bool, error) {
	if len(p.options.Omit) == 0 || e.Type() != 0 && !e.IsDir() {
		return false, nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // another writer's temporary file
	}
	return err == nil && slices.ContainsFunc(p.options.Omit, func(o fs.FileInfo) bool { return os.SameFile(o, info) }), err
}

// ofTerraform finds the state, its backups and lock, and the folder of plugins, as
// terraform/remote_s3_upload does.
func ofTerraform(e fs.DirEntry) bool {
	name := e.Name()
	if e.IsDir() {
		return name == ".terraform"
	}
	return terraformState(name)
}

func terraformState(name string) bool {
	return strings.HasSuffix(name, ".tfstate") || strings.Contains(name, ".tfstate.")
}

func (p *packer) entry(ctx context.Context, name string, mode fs.FileMode) error {
	switch mode {
	case fs.ModeDir:
		if p.tracked[name] {
			p.options.Warn(fmt.Sprintf("submodule %s is not checked out, so hosts get none of its files: git submodule update --init", filepath.Join(p.src, name)))
		}
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
	p.options.Warn(fmt.Sprintf("omitted %s: %s", filepath.Join(p.src, name), why))
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
	// Reading one byte more than announced notices a file that grew.
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(f, h.Size+1), p.copyBuf)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != h.Size {
		return fmt.Errorf("%s changed while it was packed: try again when nothing writes to it", f.Name())
	}
	return err
}

// header writes an entry's header, unless hosts would refuse the entry.
func (p *packer) header(h tar.Header) error {
	name, err := cleanName(h.Name)
	if err == nil {
		err = p.budget.entry(name)
	}
	if err == nil && p.plain.n+h.Size > p.budget.Bytes {
		err = tooLarge(p.budget.Bytes)
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w; omit directories with --include", h.Name, err)
	}
	if h.Typeflag != tar.TypeDir {
		p.options.Packed(name)
	}
	h.ModTime = time.Unix(0, 0)
	return p.tw.WriteHeader(&h)
}

// checkLink refuses targets that could lead out of the tree. If ".." comes only at the
// front of each target, and no link is another entry's directory, then a path resolves
// to what its text says.
func checkLink(name, target string) error {
	switch {
	case target == "" || path.IsAbs(target):
		return fmt.Errorf("link to %.200q: the target is not relative", target)
	case len(target) > maxTarget:
		return fmt.Errorf("link to %.200q…: the target is longer than %d bytes", target, maxTarget)
	}
	depth, named := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
			if named || depth < 0 {
				return fmt.Errorf("link to %.200q: the target may lead out of the tree", target)
			}
		default:
			named = true
		}
	}
	return nil
}
