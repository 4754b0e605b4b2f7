package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/npcnix/npcnix/store"
)

// readers is how many files are read at a time.
const readers = 32

const (
	infoExt    = ".narinfo"
	listingExt = ".ls" // of a path's files, which nix writes if it is told to
	archives   = "nar/"
)

// info is what a cache says of a store path.
type info struct {
	path       string // /nix/store/…
	archive    string // name of the file with its content
	references []string
}

// digest is the part of a store path that names it in a cache.
func digest(storePath string) string {
	name, _, _ := strings.Cut(path.Base(storePath), "-")
	return name
}

// parseInfo reads the narinfo of the path with that digest.
func parseInfo(id string, data []byte) (info, error) {
	var i info
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "StorePath":
			i.path = value
		case "URL":
			i.archive, _, _ = strings.Cut(value, "?")
		case "References":
			for _, r := range strings.Fields(value) {
				i.references = append(i.references, digest(r))
			}
		}
	}
	if digest(i.path) != id || i.archive == "" {
		return info{}, fmt.Errorf("%s%s of the cache is damaged: it does not say which path it is of, and which file has it", id, infoExt)
	}

	return i, nil
}

// marker finds out which files are needed.
type marker struct {
	files  Files
	say    func(line string)
	known  map[string]info // of the paths that the cache has, by digest
	marked map[string]bool // digests of paths
}

// read reads what the cache says of paths. Those that it lacks are omitted. A damaged one is an error, unless
// damaged is told of it.
func (m *marker) read(ctx context.Context, ids []string, damaged func(error)) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var first error
	free := make(chan struct{}, readers)
	for _, id := range ids {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			data, err := m.files.ReadAny(ctx, id+infoExt)
			var i info
			if err == nil {
				if i, err = parseInfo(id, data); err != nil && damaged != nil {
					mu.Lock()
					defer mu.Unlock()
					damaged(err)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				m.known[id] = i
			case !errors.Is(err, store.ErrNotFound) && first == nil:
				first = err
			}
		})
	}
	wg.Wait()

	return errors.Join(ctx.Err(), first)
}

// mark marks systems and all that they need. A system that the cache lacks needs nothing of it: it was built
// elsewhere. A path that another one needs must be there; it is told if it is not, as nobody can fetch that system.
func (m *marker) mark(ctx context.Context, systems []string) error {
	var next []string
	add := func(id string) {
		if !m.marked[id] {
			m.marked[id] = true
			next = append(next, id)
		}
	}
	for _, s := range systems {
		add(digest(s))
	}
	needed := map[string]string{} // by which path
	for len(next) > 0 {
		now := next
		next = nil
		unknown := slices.DeleteFunc(slices.Clone(now), func(id string) bool { _, known := m.known[id]; return known })
		if err := m.read(ctx, unknown, nil); err != nil {
			return err
		}
		for _, id := range now {
			i, has := m.known[id]
			if by := needed[id]; !has && by != "" {
				m.say(fmt.Sprintf("damaged: the cache lacks %s, which %s needs; push a release with it again, with --again", id, by))
				continue
			}
			if !has {
				delete(m.marked, id) // a push can bring it yet
			}
			for _, r := range i.references {
				if _, seen := needed[r]; !seen && r != id {
					needed[r] = i.path
				}
				add(r)
			}
		}
	}

	return nil
}

// noted is a root with what the cache says of its file.
type noted struct {
	root
	file store.CacheFile
}

// roots reads the notes of publishes.
func roots(ctx context.Context, files Files) ([]noted, error) {
	found, err := files.List(ctx, rootsFolder)
	if err != nil {
		return nil, err
	}
	all := make([]noted, 0, len(found))
	for _, f := range found {
		data, err := files.ReadAny(ctx, f.Name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		n := noted{file: f}
		if err := json.Unmarshal(data, &n.root); err != nil {
			return nil, fmt.Errorf("%s of the cache cannot be understood: %w; delete it if no push runs", f.Name, err)
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b noted) int { return b.file.Modified.Compare(a.file.Modified) })

	return all, nil
}

// Bytes is a size for a person.
func Bytes(n int64) string {
	switch {
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	case n < 1<<30:
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
	}

	return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) + " GiB"
}
