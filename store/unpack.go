package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bounds what an archive may unpack to. Zero fields take the defaults.
type Limits struct {
	Entries int   // files, directories and links; default 200,000
	Bytes   int64 // of the unpacked archive, its headers included; default 2 GiB
}

func (l Limits) orDefault() Limits {
	if l.Entries <= 0 {
		l.Entries = 200_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 2 << 30
	}
	return l
}

// Names longer or deeper than any flake's would make each system call dear.
const (
	maxName  = 4000 // bytes
	maxPart  = 255  // bytes of one path element, what file systems allow
	maxDepth = 200  // path elements
)

// Unpack writes the tar in zstd that r holds into dir, which is created and must
// be empty or absent. It reads r to its end.
//
// Files keep their content, x bit and time, links their target; directories that
// the archive does not name get the time 0. So what is unpacked from one archive
// is the same everywhere, also for a flake that looks at its own lastModified.
//
// Errors say whose fault it is. ErrUnsafe: the archive is not zstd, not tar,
// corrupt, over the limits, or holds what a flake cannot: names or links that
// lead out of dir, devices, pipes. io.ErrUnexpectedEOF: r ended before the
// archive did; whether that is the download's fault only the caller can know.
// Errors of r and of the file system are passed on; a full disk says so.
// On error dir may hold a part of the archive, never anything outside dir.
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
	root, err := emptyDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	a, err := openArchive(r, limits.Bytes)
	if err != nil {
		return err
	}
	defer a.close()
	u := unpacker{root: root, limits: limits, seen: map[string]node{}, copyBuf: make([]byte, 256<<10)}
	defer u.close()
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
			return fmt.Errorf("entry %.200q: %w", h.Name, err)
		}
	}
	if err := a.finish(); err != nil {
		return err
	}
	return u.setTimes()
}

// emptyDir opens dir, which it creates when it is absent.
func emptyDir(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty: give an empty or absent directory", dir)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// unpacker writes entries below root. It knows every name it made, and never
// follows a link: os.Root is the second line of defence, not the first.
type unpacker struct {
	root    *os.Root
	limits  Limits
	seen    map[string]node
	entries int
	bytes   int64
	copyBuf []byte

	last     *os.Root // directory of the last file, if not the top
	lastName string
}

type node struct {
	kind  byte // tar.TypeDir, TypeReg or TypeSymlink; 0: there is none
	mtime time.Time
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return u.count()
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
	if err := u.count(); err != nil {
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
		return u.root.Symlink(h.Linkname, name)
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
		err = u.count()
	} else {
		err = u.mkdir(name)
	}
	if err != nil {
		return err
	}
	u.seen[name] = node{tar.TypeDir, mtime}
	return nil
}

// mkdir makes a directory and those above it as far as they are missing.
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
	if err := u.count(); err != nil {
		return err
	}
	u.seen[name] = node{tar.TypeDir, time.Unix(0, 0)}
	return u.root.Mkdir(name, 0o755)
}

// clear makes way for an entry. A name that comes again replaces its
// predecessor, which must be of the same kind; nothing is ever written through it.
func (u *unpacker) clear(name string, kind byte, mtime time.Time) error {
	before := u.seen[name].kind
	u.seen[name] = node{kind, mtime}
	switch before {
	case 0:
		return nil
	case kind:
		return u.root.Remove(name)
	default:
		return unsafe("the name comes twice, as different things")
	}
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	// Sparse files may hold more than the archive does.
	if u.bytes += h.Size; h.Size < 0 || u.bytes < 0 || u.bytes > u.limits.Bytes {
		return tooLarge(u.limits.Bytes)
	}
	if err := u.clear(name, tar.TypeReg, h.ModTime); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	in, base, err := u.parent(name)
	if err != nil {
		return err
	}
	f, err := in.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, u.copyBuf)
	return errors.Join(err, f.Close())
}

// parent returns the directory that a name stands in, and the name there. It
// keeps the last one open: os.Root would walk the whole path for every file.
func (u *unpacker) parent(name string) (*os.Root, string, error) {
	dir := path.Dir(name)
	if dir == "." {
		return u.root, name, nil
	}
	if u.last == nil || u.lastName != dir {
		u.close()
		in, err := u.root.OpenRoot(dir)
		if err != nil {
			return nil, "", err
		}
		u.last, u.lastName = in, dir
	}
	return u.last, path.Base(name), nil
}

func (u *unpacker) close() {
	if u.last != nil {
		u.last.Close()
		u.last = nil
	}
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
	return u.root.Link(target, name)
}

func (u *unpacker) count() error {
	if u.entries++; u.entries > u.limits.Entries {
		return unsafe("too many entries, more than %d", u.limits.Entries)
	}
	return nil
}

// setTimes comes last, for writing into a directory changes its time.
func (u *unpacker) setTimes() error {
	top, err := u.root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if u.seen["."].kind == 0 {
		u.seen["."] = node{tar.TypeDir, time.Unix(0, 0)}
	}
	for name, n := range u.seen {
		t, err := unix.TimeToTimespec(n.mtime)
		if err != nil {
			return fmt.Errorf("set time of %s: %w", name, err)
		}
		if err := unix.UtimesNanoAt(int(top.Fd()), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set time of %s: %w", name, err)
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

func unsafe(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsafe, fmt.Errorf(format, args...))
}

func tooLarge(limit int64) error {
	return unsafe("too large: unpacks to more than %d bytes", limit)
}
