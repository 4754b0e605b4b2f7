package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// memory is a binary cache. Each request takes its time, so others come between.
type memory struct {
	random *rand.Rand

	mu      sync.Mutex // of all that follows, of clients, and of the world
	files   map[string]memoryFile
	version int
	after   func(what string) // a change
}

type memoryFile struct {
	data     []byte
	version  store.Version
	modified time.Time
}

var errKilled = errors.New("killed")

// client is one process that uses the memory. It is killed at one of its requests; 0: never.
type client struct {
	*memory
	slow time.Duration // that a request takes at most
	left int
	dead bool
}

func (m *memory) client(killed float64, slow time.Duration) *client {
	c := &client{memory: m, slow: slow}
	if m.random.Float64() < killed {
		c.left = 1 + m.random.IntN(60)
	}
	return c
}

// pause is mostly short.
func (m *memory) pause(most time.Duration) {
	d := time.Duration(m.random.Int64N(int64(200 * time.Millisecond)))
	if m.random.IntN(8) == 0 {
		d = time.Duration(m.random.Int64N(int64(most)))
	}
	time.Sleep(d + time.Microsecond)
}

// request says whether the request is carried out, and whether its answer arrives.
func (c *client) request() (done bool, err error) {
	c.pause(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return false, errKilled
	case c.left == 1:
		c.dead = true
		return c.random.IntN(2) == 0, errKilled
	case c.left > 1:
		c.left--
	}
	return true, nil
}

func (c *client) List(_ context.Context, prefix string) (found []store.CacheFile, err error) {
	if _, err := c.request(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		if f := c.files[name]; strings.HasPrefix(name, prefix) {
			found = append(found, store.CacheFile{Name: name, Size: int64(len(f.data)), Modified: f.modified})
		}
	}
	return found, nil
}

func (c *client) Read(_ context.Context, name string) ([]byte, store.Version, error) {
	if _, err := c.request(); err != nil {
		return nil, store.Version{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, has := c.files[name]
	if !has {
		return nil, store.Version{}, store.ErrNotFound
	}
	return f.data, f.version, nil
}

func (c *client) ReadAny(ctx context.Context, name string) ([]byte, error) {
	data, _, err := c.Read(ctx, name)
	return data, err
}

func (c *client) Write(_ context.Context, name string, data []byte, over *store.Version) error {
	done, err := c.request()
	c.mu.Lock()
	defer c.mu.Unlock()
	if over != nil && c.files[name].version != *over {
		return store.ErrChanged
	}
	if done {
		c.version++
		c.files[name] = memoryFile{data, store.Version{ETag: fmt.Sprint(c.version)}, time.Now().Truncate(time.Second)}
	}
	return err
}

// Delete can be carried out after its client is dead.
func (c *client) Delete(_ context.Context, names []string) error {
	done, err := c.request()
	if done && err != nil {
		go func() { c.pause(90 * time.Second); c.remove(names) }()
	} else if done {
		c.remove(names)
	}
	return err
}

func (m *memory) remove(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		delete(m.files, name)
	}
	m.after(fmt.Sprintf("%d files are deleted", len(names)))
}

func (c *client) Now(context.Context) (time.Time, error) {
	_, err := c.request()
	return time.Now(), err
}

// world has paths, of which the last are systems; remotes that publish them; and hosts.
type world struct {
	*memory
	t       *testing.T
	needs   [][]int // of each path
	systems []int
	remotes []*remote
	keep    int
	older   time.Duration
	swept   int
	reused  int // paths of copies that the cache had
	waited  int
	refused int
}

type remote struct {
	name     string
	history  []publication // the newest first
	hosts    []int         // what each runs
	previous []int
}

type publication struct {
	systems []int
	at      time.Time
}

func storePath(i int) string {
	return fmt.Sprintf("/nix/store/%s-p%d", strings.Repeat(string("abcdfghijk"[i%10]), 16)+fmt.Sprintf("%016d", i), i)
}

// archiveOf is shared by two paths.
func archiveOf(i int) string { return fmt.Sprintf("nar/%d.nar.xz", i/2) }

func newMemoryWorld(t *testing.T, random *rand.Rand) *world {
	w := &world{t: t, memory: &memory{random: random, files: map[string]memoryFile{}}}
	for i := range 20 {
		var needs []int
		for range min(i, 2) {
			needs = append(needs, random.IntN(i))
		}
		w.needs = append(w.needs, needs)
		if i >= 10 {
			w.systems = append(w.systems, i)
		}
	}
	for _, name := range []string{"a/one", "b/two"} {
		w.remotes = append(w.remotes, &remote{name: name, hosts: []int{-1, -1, -1}, previous: []int{-1, -1, -1}})
	}
	w.keep, w.older = 1+random.IntN(2), time.Duration(24+random.IntN(48))*time.Hour
	w.after = w.check
	return w
}

func (w *world) count(what *int, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*what += n
}

func (w *world) closure(i int, into map[int]bool) {
	if i < 0 || into[i] {
		return
	}
	into[i] = true
	for _, n := range w.needs[i] {
		w.closure(n, into)
	}
}

// kept, for whoever holds mu, are the systems of the releases that stay: of the newest, and of those that were held lately.
func (w *world) kept(r *remote, older time.Duration) (systems []int) {
	for n, p := range r.history {
		if n < w.keep || time.Since(r.history[n-1].at) <= older {
			systems = append(systems, p.systems...)
		}
	}
	return systems
}

// check, for whoever holds mu, fails if the cache lacks what is needed.
func (w *world) check(what string) {
	for _, r := range w.remotes {
		all := map[int]bool{}
		for _, i := range slices.Concat(w.kept(r, w.older), r.hosts) {
			w.closure(i, all)
		}
		for i := range all {
			for _, name := range []string{digest(storePath(i)) + infoExt, archiveOf(i)} {
				if _, has := w.files[name]; !has && !w.t.Failed() {
					w.t.Errorf("%s: %s lacks %s, %s", time.Now().Format(time.DateTime), r.name, name, what)
				}
			}
		}
	}
}

// push builds systems, copies them as nix does, checks them and publishes.
func (w *world) push(r *remote, systems []int) {
	c := w.client(0.1, 40*time.Second)
	ctx := w.t.Context()
	note, err := Begin(ctx, c, r.name, func(time.Time) { w.count(&w.waited, 1) })
	if err != nil {
		return
	}
	var paths []string
	for _, s := range systems {
		w.pause(5 * time.Minute) // it is built
		if note.Again(ctx) != nil || w.copy(ctx, c, s, map[int]bool{}) != nil {
			_ = note.Failed(ctx)
			return
		}
		paths = append(paths, storePath(s))
	}
	if w.random.IntN(6) == 0 { // another build fails
		_ = note.Failed(ctx)
		return
	}
	if note.Copied(ctx, paths) == nil {
		w.publish(r, systems)
	}
}

func (w *world) publish(r *remote, systems []int) {
	w.pause(time.Hour)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.history = append([]publication{{systems, time.Now()}}, r.history...)
	w.check("a push has published it")
}

// copy copies what the cache lacks, and what others need first.
func (w *world) copy(ctx context.Context, c *client, i int, done map[int]bool) error {
	if done[i] {
		return nil
	}
	done[i] = true
	name := digest(storePath(i)) + infoExt
	_, err := c.ReadAny(ctx, name)
	if err == nil {
		w.count(&w.reused, 1)
	}
	for _, n := range w.needs[i] { // nix asks for each path by itself
		if err := w.copy(ctx, c, n, done); err != nil {
			return err
		}
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := c.ReadAny(ctx, archiveOf(i)); errors.Is(err, store.ErrNotFound) {
		err = c.Write(ctx, archiveOf(i), []byte("content"), nil)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	var references strings.Builder
	for _, n := range w.needs[i] {
		references.WriteString(" " + strings.TrimPrefix(storePath(n), "/nix/store/"))
	}
	text := fmt.Sprintf("StorePath: %s\nURL: %s\nReferences:%s\n", storePath(i), archiveOf(i), references.String())
	return c.Write(ctx, name, []byte(text), nil)
}

// rollback publishes an earlier release again, if the cache still has it.
func (w *world) rollback(r *remote) {
	w.mu.Lock()
	if len(r.history) < 2 {
		w.mu.Unlock()
		return
	}
	old := r.history[w.random.IntN(len(r.history))].systems
	w.mu.Unlock()
	c := w.client(0.1, 40*time.Second)
	var paths []string
	for _, s := range old {
		paths = append(paths, storePath(s))
	}
	note, err := Keep(w.t.Context(), c, r.name, paths, nil)
	if err != nil {
		return
	}
	all := map[int]bool{}
	for _, s := range old {
		w.closure(s, all)
	}
	lacks := false
	w.mu.Lock()
	for i := range all {
		for _, name := range []string{digest(storePath(i)) + infoExt, archiveOf(i)} {
			_, has := w.files[name]
			lacks = lacks || !has
		}
	}
	w.mu.Unlock()
	if lacks {
		w.count(&w.refused, 1)
		_ = note.Failed(w.t.Context())
		return
	}
	w.publish(r, old)
}

// host takes what its remote holds, which takes a while.
func (w *world) host(r *remote, h int) {
	w.mu.Lock()
	if len(r.history) == 0 {
		w.mu.Unlock()
		return
	}
	systems := r.history[0].systems
	w.mu.Unlock()
	w.pause(3 * time.Hour)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.previous[h], r.hosts[h] = r.hosts[h], systems[h%len(systems)]
}

// collect is a run over some of the remotes.
func (w *world) collect() {
	c := w.client(0.2, 100*time.Second)
	over := w.remotes[:1+w.random.IntN(2)]
	gc := Collection{Files: c, Keep: w.keep, OlderThan: w.older, Grace: 24 * time.Hour, DryRun: w.random.IntN(10) == 0, Say: func(string) {}, batch: 1 + w.random.IntN(4)}
	for _, r := range over {
		gc.Remotes = append(gc.Remotes, r.name)
	}
	gc.Needed = func(context.Context) (map[string][]string, error) {
		needed := map[string][]string{}
		for _, r := range over {
			w.mu.Lock()
			releases := w.kept(r, w.older)
			w.mu.Unlock()
			w.pause(time.Minute)
			w.mu.Lock()
			for _, i := range slices.Concat(releases, r.hosts, r.previous) {
				if i >= 0 {
					needed[r.name] = append(needed[r.name], storePath(i))
				}
			}
			w.mu.Unlock()
		}
		return needed, nil
	}
	swept, err := gc.Run(w.t.Context())
	if err != nil && !errors.Is(err, errKilled) && !errors.Is(err, ErrPushing) && !errors.Is(err, ErrSweeping) {
		w.t.Errorf("a run fails: %v", err)
	}
	if err == nil && !gc.DryRun {
		w.count(&w.swept, swept.Paths)
	}
}
