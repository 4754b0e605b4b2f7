package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Store is what is asked of a remote. *store.Remote serves.
type Store interface {
	// URL names the remote in messages.
	URL() string
	// Latest returns the present version; have, where nothing changed since.
	Latest(ctx context.Context, have store.Version) (store.Version, error)
	// Records lists the hosts' records, one request per 1,000, or returns store.ErrNoListing.
	Records(ctx context.Context) ([]store.RecordInfo, error)
	// StatRecord looks at one record; store.ErrNotFound where there is none.
	StatRecord(ctx context.Context, host string) (store.RecordInfo, error)
	// GetRecord reads one record.
	GetRecord(ctx context.Context, host string) ([]byte, error)
}

// readers is how many records are read at a time.
const readers = 32

// entry is a host's record as it was last read.
type entry struct {
	info   store.RecordInfo
	record *record.Record
	err    error // why it cannot be understood
}

// records keeps the fleet's records, and reads only those that have changed.
type records struct {
	store Store
	known map[string]entry
}

// refresh brings the records up to date; of the hosts named alone, unless that is nil. On an
// error what could be read is kept, and the rest is read the next time.
func (r *records) refresh(ctx context.Context, hosts map[string]bool) error {
	infos, err := r.list(ctx, hosts)
	if err != nil {
		return err
	}
	return r.take(ctx, infos, hosts)
}

// take reads the records that have changed, of those listed.
func (r *records) take(ctx context.Context, infos []store.RecordInfo, hosts map[string]bool) error {
	var changed []store.RecordInfo
	listed := map[string]bool{}
	for _, info := range infos {
		if hosts != nil && !hosts[info.Host] {
			continue
		}
		listed[info.Host] = true
		have, known := r.known[info.Host]
		if !known || have.info.ETag != info.ETag || info.ETag == "" { // without one a change does not show
			changed = append(changed, info)
		} else {
			have.info = info // it was perhaps written again with the same content
			r.known[info.Host] = have
		}
	}
	for host := range r.known {
		if !listed[host] {
			delete(r.known, host) // its operator took the record away
		}
	}
	var mu sync.Mutex
	return each(ctx, readers, changed, func(ctx context.Context, info store.RecordInfo) error {
		body, err := r.store.GetRecord(ctx, info.Host)
		if errors.Is(err, store.ErrNotFound) {
			return nil // it went since it was listed
		}
		if err != nil && !errors.Is(err, store.ErrNoRecord) {
			return err
		}
		record, bad := (*record.Record)(nil), err
		if err == nil {
			record, bad = decode(info.Host, body)
		}
		mu.Lock()
		defer mu.Unlock()
		r.known[info.Host] = entry{info: info, record: record, err: bad}
		return nil
	})
}

// Entry is one host's record.
type Entry struct {
	Host   string
	Record *record.Record // nil if it cannot be understood
	Err    error          // why it cannot be
	Heard  time.Time      // when it was written, by the store's clock
}

// Reader reads a fleet's records again and again, and of these only those that have changed.
type Reader struct {
	Store   Store
	records records
}

// Look returns all records, in any order.
func (r *Reader) Look(ctx context.Context) ([]Entry, error) {
	if r.records.known == nil {
		r.records = records{store: r.Store, known: map[string]entry{}}
	}
	if err := r.records.refresh(ctx, nil); err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(r.records.known))
	for host, e := range r.records.known {
		entries = append(entries, Entry{host, e.record, e.err, e.info.Modified})
	}
	return entries, nil
}

// Heard returns the records of the hosts that have written one since then, by the store's clock.
func Heard(ctx context.Context, s Store, since time.Time) ([]record.Record, error) {
	all := records{store: s, known: map[string]entry{}}
	if err := all.refresh(ctx, nil); err != nil {
		return nil, err
	}
	var heard []record.Record
	for _, e := range all.known {
		if e.record != nil && !e.info.Modified.Before(since) {
			heard = append(heard, *e.record)
		}
	}
	return heard, nil
}

// list finds what records there are. A store that cannot list is asked for each host.
func (r *records) list(ctx context.Context, hosts map[string]bool) ([]store.RecordInfo, error) {
	infos, err := r.store.Records(ctx)
	if !errors.Is(err, store.ErrNoListing) || hosts == nil {
		return infos, err
	}
	var names []string
	for host := range hosts {
		names = append(names, host)
	}
	var mu sync.Mutex
	infos = nil
	err = each(ctx, readers, names, func(ctx context.Context, host string) error {
		info, err := r.store.StatRecord(ctx, host)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		infos = append(infos, info)
		return nil
	})
	return infos, err
}

// standing judges one host. A record that was written long before the version was published, by the
// store's clock, is of an earlier publish of the same files: the host may have died since.
func (r *records) standing(host, remote string, v store.Version, release string) Host {
	e, known := r.known[host]
	var h Host
	if known && e.err != nil {
		h = unreadable(host, e.err)
	} else {
		h = judge(host, e.record, remote, v.ETag, release)
	}
	h.Heard = e.info.Modified
	if h.Verdict != Missing && !h.Heard.IsZero() && v.Modified.Sub(h.Heard) > StaleAfter {
		h.Verdict, h.State, h.Why = Missing, Silent, "not heard since "+h.Heard.UTC().Format(time.RFC3339)
	}
	return h
}

// each calls do for all items, some at a time, and returns the first error once all that
// began have ended. After an error no more begin.
func each[T any](ctx context.Context, atOnce int, items []T, do func(context.Context, T) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first error
	)
	for range min(atOnce, len(items)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if first != nil || next == len(items) || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				item := items[next]
				next++
				mu.Unlock()
				if err := do(ctx, item); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if first == nil {
		return ctx.Err()
	}
	return first
}

// Sleep waits, and reports whether ctx still lives.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
