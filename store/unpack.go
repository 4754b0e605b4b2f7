package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Unpack writes the tar in zstd that r holds into dir, which is created and must
// be empty or absent. It reads r to its end.
//
// Files keep their content, x bit and time, and links their target. Directories that
// the archive does not name get the time 0. So one archive unpacks to the same tree
// everywhere, even for a flake that reads its own lastModified.
//
// The error says whose fault it is:
//
//   - ErrUnsafe: the archive is not zstd, not tar, corrupt or over the limits, or it
//     holds what a flake cannot have: names or links that lead out of dir, devices,
//     pipes, or names that the file system here cannot store.
//   - io.ErrUnexpectedEOF: r ended before the archive did. Only the caller knows
//     whether the download is at fault.
//   - Any other error is that of r or of the file system.
//
// On error dir can hold a part of the archive. Nothing is written outside dir.
func Unpack(ctx context.Context, r io.Reader, dir string, limits Limits) error {
	err := unpack(ctx, r, dir, limits.orDefault())
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("unpack: the disk is full, make room under %s: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

func unpack(ctx context.Context, r io.Reader, dir string, limits Limits) error {
	disk, err := newDisk(dir)
	if err != nil {
		return err
	}
	defer disk.close()
	a, err := openArchive(r, limits.Bytes)
	if err != nil {
		return err
	}
	defer a.close()
	return newUnpacker(disk, limits).archive(ctx, a)
}

// tree is what an archive is unpacked to. Names are clean and relative, and their
// parent directories exist; "." is the tree itself. Only remove and setTime are given
// names that exist.
type tree interface {
	mkdir(name string) error
	symlink(target, name string) error
	link(file, name string) error
	create(name string, executable bool) (io.WriteCloser, error)
	remove(name string) error // a file or a link
	setTime(name string, t time.Time) error
}

// unpacker makes entries in a tree. It knows every name that it made, and never
// follows a link.
type unpacker struct {
	tree   tree
	budget *budget
	seen   map[string]node
	bytes  int64
}

// copyBuffers are for contents.
var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

type node struct {
	kind  byte // tar.TypeDir, TypeReg or TypeSymlink; 0: there is none
	mtime time.Time
}

func newUnpacker(t tree, limits Limits) *unpacker {
	return &unpacker{tree: t, budget: newBudget(limits), seen: map[string]node{}}
}

// archive unpacks all of a.
func (u *unpacker) archive(ctx context.Context, a *archive) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := a.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, a); err != nil {
			return fmt.Errorf("entry %.200q: %w", h.Name, unwritable(err))
		}
	}
	if err := a.finish(); err != nil {
		return err
	}
	return u.setTimes()
}

// unwritable makes errors that every attempt on this machine would meet the archive's
// fault.
func unwritable(err error) error {
	for _, errno := range []syscall.Errno{syscall.ENAMETOOLONG, syscall.EMLINK, syscall.EILSEQ, syscall.ELOOP} {
		if errors.Is(err, errno) {
			return unsafe("this machine cannot write it: %w", err)
		}
	}
	return err
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return u.budget.entry("")
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.dir(name, h.ModTime)
	}
	if name == "." {
		return unsafe("it would replace the directory unpacked to")
	}
	if err := u.budget.entry(name); err != nil {
		return err
	}
	if parent := path.Dir(name); parent != "." {
		if err := u.mkdir(parent); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(name, h, content)
	case tar.TypeSymlink:
		if err := checkLink(name, h.Linkname); err != nil {
			return unsafe("%v", err)
		}
		if err := u.clear(name, tar.TypeSymlink, h.ModTime); err != nil {
			return err
		}
		return u.tree.symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.hardLink(name, h)
	case tar.TypeChar, tar.TypeBlock:
		return unsafe("a device")
	case tar.TypeFifo:
		return unsafe("a pipe")
	default:
		return unsafe("of unknown type %q", h.Typeflag)
	}
}

// dir makes the directory that an entry names, or gives it the entry's time.
func (u *unpacker) dir(name string, mtime time.Time) error {
	var err error
	if name == "." || u.seen[name].kind == tar.TypeDir {
		err = u.budget.entry(name)
	} else {
		err = u.mkdir(name)
	}
	if err != nil {
		return err
	}
	u.seen[name] = node{tar.TypeDir, mtime}
	return nil
}

// mkdir makes a directory, and its parents if they are missing.
func (u *unpacker) mkdir(name string) error {
	switch u.seen[name].kind {
	case tar.TypeDir:
		return nil
	case 0:
	default:
		return unsafe("%.200q is a directory here, and was none before", name)
	}
	if parent := path.Dir(name); parent != "." {
		if err := u.mkdir(parent); err != nil {
			return err
		}
	}
	if err := u.budget.entry(name); err != nil {
		return err
	}
	u.seen[name] = node{tar.TypeDir, time.Unix(0, 0)}
	return u.tree.mkdir(name)
}

// clear removes an earlier entry of the same name, which must be of the same kind.
// Nothing is ever written through it.
func (u *unpacker) clear(name string, kind byte, mtime time.Time) error {
	before := u.seen[name].kind
	u.seen[name] = node{kind, mtime}
	switch before {
	case 0:
		return nil
	case kind:
		return u.tree.remove(name)
	default:
		return unsafe("the name comes twice, as different things")
	}
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	// A sparse file can be larger than its archive.
	if u.bytes += h.Size; h.Size < 0 || u.bytes < 0 || u.bytes > u.budget.Bytes {
		return tooLarge(u.budget.Bytes)
	}
	if err := u.clear(name, tar.TypeReg, h.ModTime); err != nil {
		return err
	}
	f, err := u.tree.create(name, h.Mode&0o100 != 0)
	if err != nil {
		return err
	}
	buffer := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buffer)
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, buffer[:])
	return errors.Join(err, f.Close())
}

func (u *unpacker) hardLink(name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if u.seen[target].kind != tar.TypeReg {
		return unsafe("hard link to %.200q, which is no earlier file of the archive", h.Linkname)
	}
	if name == target {
		return nil
	}
	if err := u.clear(name, tar.TypeReg, u.seen[target].mtime); err != nil {
		return err
	}
	return u.tree.link(target, name)
}

// setTimes comes last, for writing into a directory changes its time.
func (u *unpacker) setTimes() error {
	if u.seen["."].kind == 0 {
		u.seen["."] = node{tar.TypeDir, time.Unix(0, 0)}
	}
	for name, n := range u.seen {
		if err := u.tree.setTime(name, n.mtime); err != nil {
			return fmt.Errorf("set time of %.200q: %w", name, err)
		}
	}
	return nil
}

// cleanName returns the entry's name without needless parts, "." for the
// directory unpacked to.
func cleanName(raw string) (string, error) {
	switch {
	case path.IsAbs(raw):
		return "", unsafe("absolute name")
	case len(raw) > maxName:
		return "", unsafe("name too long")
	}
	depth := 0
	for part := range strings.SplitSeq(raw, "/") {
		if part == ".." {
			return "", unsafe("name leads out of the directory")
		}
		if depth++; len(part) > maxPart || depth > maxDepth {
			return "", unsafe("name too long or too deep")
		}
	}
	return path.Clean(raw), nil
}
