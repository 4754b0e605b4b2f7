package store

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a tree in a directory. That nothing leads out of it is the unpacker's
// care; os.Root is the second line of defence.
type disk struct {
	root *os.Root
	top  *os.File

	// The directory used last is kept open: os.Root would walk the whole path for
	// every entry.
	last     *os.Root
	lastName string
}

// newDisk opens dir, which it creates when it is absent, and which must be empty.
func newDisk(dir string) (*disk, error) {
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
	var top *os.File
	if err == nil {
		top, err = root.Open(".")
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &disk{root: root, top: top}, nil
}

func (d *disk) close() {
	if d.last != nil {
		d.last.Close()
	}
	d.top.Close()
	d.root.Close()
}

// parent returns the directory that a name stands in, and the name there.
func (d *disk) parent(name string) (*os.Root, string, error) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return d.root, base, nil
	}
	if d.last != nil && d.lastName == dir {
		return d.last, base, nil
	}
	from, rest := d.root, dir
	if below, ok := strings.CutPrefix(dir, d.lastName+"/"); ok && d.last != nil {
		from, rest = d.last, below
	}
	in, err := from.OpenRoot(rest)
	if err != nil {
		return nil, "", err
	}
	if d.last != nil {
		d.last.Close()
	}
	d.last, d.lastName = in, dir
	return in, base, nil
}

func (d *disk) mkdir(name string) error {
	in, base, err := d.parent(name)
	if err != nil {
		return err
	}
	return in.Mkdir(base, 0o755)
}

func (d *disk) symlink(target, name string) error {
	in, base, err := d.parent(name)
	if err != nil {
		return err
	}
	return in.Symlink(target, base)
}

func (d *disk) link(file, name string) error { return d.root.Link(file, name) }

func (d *disk) remove(name string) error {
	in, base, err := d.parent(name)
	if err != nil {
		return err
	}
	return in.Remove(base)
}

func (d *disk) create(name string, executable bool) (io.WriteCloser, error) {
	mode := fs.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	in, base, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	return in.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

func (d *disk) setTime(name string, at time.Time) error {
	t, err := unix.TimeToTimespec(at)
	if err != nil {
		return unsafe("%v: %w", at, err)
	}
	return unix.UtimesNanoAt(int(d.top.Fd()), name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
