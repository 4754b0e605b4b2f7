package store

import (
	"archive/tar"
	"io"
	"path"
	"strings"
	"testing"
	"time"
)

// memory is a tree that fails the test when it is asked for what the disk's tree may
// assume never to be asked for: a name that leads out or through a link, a directory
// that is not there, a name that is taken.
type memory struct {
	tb    testing.TB
	nodes map[string]memoryNode
}

type memoryNode struct {
	kind   byte // tar.TypeDir, TypeReg or TypeSymlink
	target string
}

func newMemory(tb testing.TB) *memory {
	return &memory{tb: tb, nodes: map[string]memoryNode{".": {kind: tar.TypeDir}}}
}

// add checks that a name is free and stands in a true directory.
func (m *memory) add(name string, n memoryNode) {
	if path.IsAbs(name) || path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../") {
		m.tb.Fatalf("%q is no clean name inside the tree", name)
	}
	if len(name) > maxName {
		m.tb.Fatalf("a name of %d bytes", len(name))
	}
	if _, taken := m.nodes[name]; taken {
		m.tb.Fatalf("%q is there already", name)
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if m.nodes[dir].kind != tar.TypeDir {
			m.tb.Fatalf("%q is to be made, but %q is no directory", name, dir)
		}
		if dir == "." {
			break
		}
	}
	m.nodes[name] = n
}

func (m *memory) mkdir(name string) error {
	m.add(name, memoryNode{kind: tar.TypeDir})
	return nil
}

func (m *memory) symlink(target, name string) error {
	m.add(name, memoryNode{kind: tar.TypeSymlink, target: target})
	return nil
}

func (m *memory) link(file, name string) error {
	if m.nodes[file].kind != tar.TypeReg {
		m.tb.Fatalf("hard link %q to %q, which is no file", name, file)
	}
	m.add(name, memoryNode{kind: tar.TypeReg})
	return nil
}

func (m *memory) create(name string, _ bool) (io.WriteCloser, error) {
	m.add(name, memoryNode{kind: tar.TypeReg})
	return discard{}, nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

func (m *memory) remove(name string) error {
	if kind := m.nodes[name].kind; kind != tar.TypeReg && kind != tar.TypeSymlink {
		m.tb.Fatalf("%q is to be removed, and is of kind %q", name, kind)
	}
	delete(m.nodes, name)
	return nil
}

func (m *memory) setTime(name string, _ time.Time) error {
	if m.nodes[name].kind == 0 {
		m.tb.Fatalf("%q is to get a time, and is not there", name)
	}
	return nil
}

// checkLinks fails the test if a link leads out of the tree.
func (m *memory) checkLinks() {
	for name, n := range m.nodes {
		if n.kind == tar.TypeSymlink && !m.stays(path.Dir(name), n.target, 40) {
			m.tb.Fatalf("%q leads out, by %q", name, n.target)
		}
	}
}

// stays follows a target from a directory, as a kernel does, and reports whether it
// never leaves the tree. What it names need not exist.
func (m *memory) stays(dir, target string, hops int) bool {
	if path.IsAbs(target) {
		return false
	}
	at := dir
	parts := strings.Split(target, "/")
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return false
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, part)
		n := m.nodes[at]
		if n.kind != tar.TypeSymlink {
			continue
		}
		if hops--; hops < 0 {
			return true // the kernel gives up
		}
		if path.IsAbs(n.target) {
			return false
		}
		at = path.Dir(at)
		parts = append(strings.Split(n.target, "/"), parts...)
	}
	return true
}
