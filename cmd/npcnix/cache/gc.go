package cache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Errors of a run that deletes nothing. The next run can.
var (
	ErrPushing  = errors.New("a push is under way, or was killed")
	ErrSweeping = errors.New("another run deletes from the cache, or was ended while it did")
)

const (
	// lease is for how long a run can delete.
	lease = 10 * time.Minute
	// margin is the part of it in which no request begins: a store can be late to carry one out.
	margin = 4 * time.Minute
	// atOnce is how many files are deleted before the lease is looked at again.
	atOnce = 1000
)

// A Collection deletes from a cache what nothing needs.
type Collection struct {
	Files Files
	// Needed returns the toplevels that must stay, of kept releases and running hosts, by remote: a sweep asks again.
	// What the cache lacks of them is no error.
	Needed func(ctx context.Context) (map[string][]string, error)
	// Remotes are the names of those that Needed speaks for. Of other remotes all stays that they ever published, or
	// needed when a run spoke for them.
	Remotes []string
	// Keep is of how many of the last publishes of each remote the notes stay, whatever Needed says; and OlderThan of
	// those for how long.
	Keep      int
	OlderThan time.Duration
	// Grace is how long a file must be known to be unmarked before it is deleted, and for how long a push counts as
	// under way that did not end. It is longer than any push takes.
	Grace  time.Duration
	DryRun bool
	Say    func(line string)

	batch int // 0: atOnce
}

// Swept is what a run did.
type Swept struct {
	Marked  int   // paths that are needed
	Paths   int   // that are deleted, or would be
	Bytes   int64 // of all files that are
	Waiting int   // paths that no longer are needed, and are not deleted yet
	Held    int64 // their bytes
	Others  int   // remotes whose notes stay, because they were not named
}

// unmarked remembers what the last runs found unmarked.
type unmarked struct {
	Files map[string]seen `json:"files"`
}

type seen struct {
	Since    time.Time `json:"since"`    // the first run that found it unmarked, by the cache's clock
	Modified time.Time `json:"modified"` // of the file
}

// run is a run of a collection.
type run struct {
	Collection
	marker
	now     time.Time
	files   map[string]store.CacheFile // that can be deleted, if they are not marked
	before  unmarked
	needed  map[string][]string
	expired []string // notes
	swept   Swept
}

// Run marks, and then deletes what an earlier run has found unmarked too, at least Grace ago. With DryRun nothing
// changes.
func (c Collection) Run(ctx context.Context) (Swept, error) {
	r := &run{Collection: c, marker: marker{files: c.Files, say: c.Say, known: map[string]info{}, marked: map[string]bool{}}, files: map[string]store.CacheFile{}}
	if err := r.look(ctx); err != nil {
		return Swept{}, err
	}
	switch err := r.remark(ctx); {
	case errors.Is(err, ErrPushing):
		c.Say(err.Error())
	case err != nil:
		return Swept{}, err
	}
	due, after := r.due()
	if c.DryRun {
		r.count(due)
		return r.swept, nil
	}
	if err := r.save(ctx, after); err != nil {
		return Swept{}, err
	}
	if len(due) == 0 && len(r.expired) == 0 {
		r.count(nil)
		return r.swept, nil
	}

	return r.swept, r.sweep(ctx)
}

// look reads what the cache has.
func (r *run) look(ctx context.Context) error {
	var err error
	if r.now, err = r.Files.Now(ctx); err != nil {
		return err
	}
	data, err := r.Files.ReadAny(ctx, unmarkedFile)
	if err == nil {
		err = json.Unmarshal(data, &r.before)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("what the last run found is not known: %w", err)
	}

	return r.list(ctx)
}

// list lists the cache, and reads what it says of the paths that are not known yet.
func (r *run) list(ctx context.Context) error {
	all, err := r.Files.List(ctx, "")
	if err != nil {
		return err
	}
	clear(r.files)
	var ids []string
	for _, f := range all {
		id, isInfo := strings.CutSuffix(f.Name, infoExt)
		_, isListing := strings.CutSuffix(f.Name, listingExt)
		flat := !strings.Contains(f.Name, "/")
		if _, known := r.known[id]; isInfo && flat && !known {
			ids = append(ids, id)
		}
		if isInfo && flat || isListing && flat || strings.HasPrefix(f.Name, archives) {
			r.files[f.Name] = f
		}
	}

	return r.read(ctx, ids, func(err error) { r.Say(err.Error()) })
}

// remark marks what is needed now. It fails with ErrPushing if that is not known.
func (r *run) remark(ctx context.Context) error {
	all, err := roots(ctx, r.Files) // before Needed: what was published since is in either
	if err != nil {
		return err
	}
	var systems []string
	var pushing error
	others, last := map[string]bool{}, map[string]map[string]bool{}
	r.expired = nil
	for _, n := range all {
		age := r.now.Sub(n.file.Modified)
		ours := slices.Contains(r.Remotes, n.Remote)
		if ours && n.file.Name == summary(n.Remote) {
			continue // it is written again
		}
		if !ours {
			others[n.Remote] = true
		}
		if last[n.Remote] == nil {
			last[n.Remote] = map[string]bool{}
		}
		kept := last[n.Remote]
		if what := strings.Join(n.Systems, " "); len(kept) < r.Keep && what != "" {
			kept[what] = true
		}
		switch {
		case n.Copying && age <= r.Grace:
			pushing = fmt.Errorf("%w: to %s, since %s; after %s it counts no longer", ErrPushing, n.Remote,
				n.file.Modified.UTC().Format(time.RFC3339), n.file.Modified.Add(r.Grace).UTC().Format(time.RFC3339))
		case len(n.Systems) == 0, ours && age > max(r.OlderThan, r.Grace) && !kept[strings.Join(n.Systems, " ")]:
			r.expired = append(r.expired, n.file.Name)
			continue
		}
		systems = append(systems, n.Systems...)
	}
	r.swept.Others = len(others)
	if r.needed, err = r.Needed(ctx); err != nil {
		return err
	}
	for _, needed := range r.needed {
		systems = append(systems, needed...)
	}
	if err := r.mark(ctx, systems); err != nil {
		return err
	}

	return pushing
}

// due returns the names of the files to delete, and what to remember of all unmarked ones.
func (r *run) due() (due []string, after unmarked) {
	after.Files = map[string]seen{}
	ripe := map[string]bool{}
	for name, f := range r.files {
		if id := strings.TrimSuffix(strings.TrimSuffix(name, infoExt), listingExt); r.marked[id] {
			continue
		}
		s, known := r.before.Files[name]
		if !known || !s.Modified.Equal(f.Modified) {
			s = seen{r.now, f.Modified}
		}
		after.Files[name] = s
		ripe[name] = r.now.Sub(s.Since) >= r.Grace
	}
	r.keepClosed(ripe)
	// An archive stays as long as a path has it, marked or not: paths of equal content share one.
	for id, i := range r.known {
		if r.marked[id] {
			delete(after.Files, i.archive)
		}
		if r.marked[id] || !ripe[id+infoExt] {
			delete(ripe, i.archive)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ripe)) {
		if ripe[name] {
			due = append(due, name)
		}
	}
	// First what names others: a path without its archive would be a trap.
	slices.SortStableFunc(due, func(a, b string) int { return rank(a) - rank(b) })

	return due, after
}

// keepClosed has paths stay that one which stays needs: a cache has all of a path's closure, or not the path.
func (r *run) keepClosed(ripe map[string]bool) {
	var staying []string
	for id := range r.known {
		if !r.marked[id] && !ripe[id+infoExt] {
			staying = append(staying, id)
		}
	}
	for len(staying) > 0 {
		id := staying[len(staying)-1]
		staying = staying[:len(staying)-1]
		for _, needed := range r.known[id].references {
			if ripe[needed+infoExt] {
				ripe[needed+infoExt] = false
				staying = append(staying, needed)
			}
		}
	}
}

func rank(name string) int {
	switch {
	case strings.HasSuffix(name, infoExt):
		return 0
	case strings.HasPrefix(name, archives):
		return 2
	}
	return 1
}

// count tells of what is deleted and adds it up.
func (r *run) count(due []string) {
	chosen, told := map[string]bool{}, map[string]bool{}
	for _, name := range due {
		chosen[name] = true
		r.swept.Bytes += r.files[name].Size
	}
	for _, name := range due {
		i := r.known[strings.TrimSuffix(name, infoExt)]
		size := r.files[name].Size
		if strings.HasPrefix(name, archives) && told[name] {
			continue
		}
		if i.path != "" && chosen[i.archive] && !told[i.archive] {
			size += r.files[i.archive].Size
			told[i.archive] = true
		}
		if i.path == "" {
			i.path = name
		}
		r.Say(fmt.Sprintf("%11s  %s", Bytes(size), i.path))
	}
	for name, f := range r.files {
		id, isInfo := strings.CutSuffix(name, infoExt)
		switch {
		case isInfo && r.marked[id]:
			r.swept.Marked++
		case isInfo && chosen[name]:
			r.swept.Paths++
		case isInfo:
			r.swept.Waiting++
		}
		if archive := r.known[id].archive; isInfo && !r.marked[id] && !chosen[name] {
			r.swept.Held += f.Size + r.files[archive].Size
		}
	}
}

func (r *run) save(ctx context.Context, u unmarked) error {
	data, err := json.Marshal(u)
	if err != nil {
		return err
	}

	return r.Files.Write(ctx, unmarkedFile, data, nil)
}

// sweep deletes. From its note on, no push begins to copy; so what is needed is found out again after it. The cache is
// listed again too: a push that failed meanwhile can have left a path that uses the archive of another one.
func (r *run) sweep(ctx context.Context) error {
	end, err := r.begin(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(r.list(ctx), r.remark(ctx)); err != nil {
		r.count(nil)
		return errors.Join(err, r.Files.Delete(ctx, []string{sweepFile}))
	}
	due, after := r.due()
	r.count(due)
	deleted := 0
	for part := range slices.Chunk(due, cmp.Or(r.batch, atOnce)) {
		if time.Now().After(end) {
			r.Say(fmt.Sprintf("time is up: %d files are left to the next run", len(due)-deleted))
			break
		}
		// If this fails, the note stays until it ends by itself: the store can carry out a request that got no answer.
		if err := r.Files.Delete(ctx, part); err != nil {
			return err
		}
		deleted += len(part)
	}
	for _, name := range due[:deleted] {
		delete(after.Files, name)
	}
	if err := r.save(ctx, after); err != nil {
		return err
	}
	// A run that does not speak for a remote goes by its notes alone, so what they said stays noted in short.
	for _, remote := range r.Remotes {
		n := Note{r.Files, summary(remote), root{Remote: remote, Systems: r.needed[remote]}}
		if err := n.write(ctx); err != nil {
			return err
		}
	}

	return r.Files.Delete(ctx, append(r.expired, sweepFile))
}

// summary is the name of the note of what a remote needed at the last run that spoke for it.
func summary(remote string) string {
	return rootsFolder + fmt.Sprintf("%x", sha256.Sum256([]byte(remote))) + ".json"
}

// begin notes the sweep, and returns the time by this machine's clock until which deletions can begin.
func (r *run) begin(ctx context.Context) (time.Time, error) {
	other, over, err := readSweep(ctx, r.Files)
	if err != nil {
		return time.Time{}, err
	}
	begun := time.Now()
	now, err := r.Files.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if now.Before(other.Until) {
		return time.Time{}, fmt.Errorf("%w: it can until %s", ErrSweeping, other.Until.UTC().Format(time.RFC3339))
	}
	data, err := json.Marshal(sweep{Until: now.Add(lease)})
	if err != nil {
		return time.Time{}, err
	}
	err = r.Files.Write(ctx, sweepFile, data, &over)
	if errors.Is(err, store.ErrChanged) {
		err = fmt.Errorf("%w: it has just begun", ErrSweeping)
	}

	return begun.Add(lease - margin), err
}
