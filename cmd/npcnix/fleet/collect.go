package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

// Of a collection.
const (
	// CollectAfter is the default of Collection.OlderThan, and LeastCollectAfter the least that it can be: no host is
	// collected that was heard in the last day, whatever a list of instances says.
	CollectAfter      = 7 * 24 * time.Hour
	LeastCollectAfter = 24 * time.Hour

	collectors = 8  // hosts that are removed at a time
	shownFails = 10 // hosts whose errors are named
)

// copyFolders have copies of records, for notifications; see package agent.
var copyFolders = []string{"failed", "recovered"}

var (
	instanceID   = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
	instanceName = regexp.MustCompile(`\bi-[0-9a-f]{8,17}$`)
)

// InstanceNamed is the ID of the EC2 instance that ends a host's name, as in names by module elastic_hosts; "" if none
// does.
func InstanceNamed(host string) string { return instanceName.FindString(host) }

// ForgettingStore is what a collection asks of a remote. *store.Remote serves.
type ForgettingStore interface {
	Records(ctx context.Context) ([]store.RecordInfo, error)
	GetRecord(ctx context.Context, host string) ([]byte, error)
	StatRecord(ctx context.Context, host string) (store.RecordInfo, error)
	Now(ctx context.Context) (time.Time, error)
	DeleteRecord(ctx context.Context, host string, folders ...string) error
}

// HostQueues are the queues that hosts make themselves. *events.OwnQueues serves.
type HostQueues interface {
	Find(ctx context.Context, hosts []string) ([]events.FoundQueue, error)
	Created(ctx context.Context, q events.FoundQueue) (time.Time, error)
	Delete(ctx context.Context, q events.FoundQueue) error
}

// Collection removes what is left of hosts that are no more.
type Collection struct {
	Store  ForgettingStore
	Queues HostQueues // nil: hosts make none
	// OlderThan is for how long a host was not heard that is no more, unless Alive tells.
	OlderThan time.Duration
	// Alive are the instances that there are. Nil: that is not known.
	Alive  map[string]bool
	DryRun bool
	// Say is told of each host that is removed or left, as soon as that is done.
	Say func(line string)
}

// Collected is what became of the hosts.
type Collected struct{ Removed, Kept, Left int }

// remains is what there is of a host.
type remains struct {
	host, instance string
	record         store.RecordInfo // zero: there is none
	queues         []events.FoundQueue
}

// Run removes the hosts that are no more: subscription, queue, and then the record, which has another run go on where
// this one was ended. An error is that of a host that could not be removed; the others are.
func (c *Collection) Run(ctx context.Context) (Collected, error) {
	now, err := c.Store.Now(ctx)
	if err != nil {
		return Collected{}, err
	}
	all, err := c.find(ctx)
	if err != nil {
		return Collected{}, err
	}
	var (
		mu     sync.Mutex
		sum    Collected
		failed []error
	)
	atOnce := collectors
	if c.DryRun {
		atOnce = 1 // it prints the hosts in order
	}
	err = each(ctx, atOnce, all, func(ctx context.Context, r remains) error {
		v, err := c.treat(ctx, r, now)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil && ctx.Err() == nil:
			failed = append(failed, err) // the others are collected all the same
		case err != nil:
			return err
		case v.gone:
			sum.Removed++
			c.Say(map[bool]string{true: "would remove ", false: "removed "}[c.DryRun] + v.why)
		case v.why != "":
			sum.Left++
			c.Say("left " + v.why)
		default:
			sum.Kept++
		}
		return nil
	})
	if more := len(failed) - shownFails; more > 0 {
		failed = append(failed[:shownFails], fmt.Errorf("and %d more hosts", more))
	}

	return sum, errors.Join(append(failed, err)...)
}

// find gathers what there is of each host, in order of their names.
func (c *Collection) find(ctx context.Context) ([]remains, error) {
	infos, err := c.Store.Records(ctx)
	if err != nil {
		return nil, err
	}
	byHost := map[string]*remains{}
	for _, info := range infos {
		byHost[info.Host] = &remains{host: info.Host, record: info}
	}
	var queues []events.FoundQueue
	if c.Queues != nil {
		if queues, err = c.Queues.Find(ctx, slices.Sorted(maps.Keys(byHost))); err != nil {
			return nil, err
		}
	}
	for _, q := range queues {
		key := cmp.Or(q.Host, "/"+q.Name) // no host's name has a slash
		if byHost[key] == nil {
			byHost[key] = &remains{host: q.Host}
		}
		r := byHost[key]
		r.queues = append(r.queues, q)
		if q.Own {
			r.instance = cmp.Or(q.Instance, r.instance)
		}
	}
	var all []remains
	for _, key := range slices.Sorted(maps.Keys(byHost)) {
		r := *byHost[key]
		r.instance = cmp.Or(r.instance, InstanceNamed(r.host))
		all = append(all, r)
	}

	return all, nil
}

// fate is what is to become of a host. Why begins with its name; a host that stays and of which nothing is to be said
// has none.
type fate struct {
	gone bool
	why  string
}

// treat judges a host, and removes it if it is gone.
func (c *Collection) treat(ctx context.Context, r remains, now time.Time) (fate, error) {
	var created time.Time
	if r.record.Host == "" && r.host != "" {
		for _, q := range r.queues {
			at, err := c.Queues.Created(ctx, q)
			if err != nil {
				return fate{}, err
			}
			if at.IsZero() || at.After(created) {
				created = cmp.Or(at, now) // one that is gone since: another is at work on it
			}
		}
	}
	f := c.judge(r, created, now)
	if f.gone && r.record.Host != "" && (c.Alive == nil || r.instance == "") {
		if quiet, err := c.quiet(ctx, r.host); err != nil || quiet {
			return fate{why: fmt.Sprintf("%s: it writes its record only when there is news (record_refresh_secs = 0), so nothing tells whether it lives; delete its record, or list the instances", clean(r.host))}, err
		}
	}
	if !f.gone || c.DryRun {
		return f, nil
	}
	if r.record.Host != "" {
		is, err := c.Store.StatRecord(ctx, r.host)
		switch {
		case errors.Is(err, store.ErrNotFound): // another run has done that
		case err != nil:
			return fate{}, err
		case is.ETag != r.record.ETag || is.Modified.Unix() > r.record.Modified.Unix(): // a header has whole seconds
			return fate{}, nil // it was heard since
		}
	}
	for _, q := range r.queues {
		if err := c.Queues.Delete(ctx, q); err != nil {
			return fate{}, fmt.Errorf("%s: %w", r.host, err)
		}
	}
	if r.record.Host == "" {
		return f, nil
	}

	return f, c.Store.DeleteRecord(ctx, r.host, copyFolders...)
}

// quiet reports whether a host's record says that its silence tells nothing.
func (c *Collection) quiet(ctx context.Context, host string) (bool, error) {
	data, err := c.Store.GetRecord(ctx, host)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoRecord) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r, err := record.Parse(data)

	return err == nil && r.OnlyNews, nil
}

// judge says whether a host is no more. Created is when the newest of its queues was made, if it has no record.
func (c *Collection) judge(r remains, created, now time.Time) fate {
	if r.host == "" {
		return fate{why: fmt.Sprintf("a subscription to %s, which is not there: no record tells whose it was; delete it", clean(r.queues[0].Name))}
	}
	name, known := clean(r.host), r.record.Host != ""
	silent := now.Sub(r.record.Modified)
	if !known {
		silent = now.Sub(created)
	}
	listed := c.Alive != nil && r.instance != ""
	switch {
	case silent < LeastCollectAfter, listed && c.Alive[r.instance], !listed && silent < c.OlderThan:
		return fate{}
	}
	for _, q := range r.queues {
		if !q.Own {
			return fate{why: fmt.Sprintf("%s: not heard for %s, but the host did not make its queue %s, or made it in another account; if Terraform made it, remove the host there",
				name, rounded(silent), clean(q.Name))}
		}
	}
	switch {
	case known && listed:
		return fate{gone: true, why: fmt.Sprintf("%s: not heard for %s, and its instance is no more", name, rounded(silent))}
	case known:
		return fate{gone: true, why: fmt.Sprintf("%s: not heard for %s", name, rounded(silent))}
	case listed:
		return fate{gone: true, why: fmt.Sprintf("%s: never heard, and its instance is no more", name)}
	}

	return fate{why: fmt.Sprintf("%s: its queue %s is %s old and it has no record, so nothing tells whether it lives; delete the queue, or list the instances",
		name, clean(r.queues[0].Name), rounded(silent))}
}

// rounded is a long time as people say it.
func rounded(d time.Duration) string {
	hours := int(d.Hours())
	if hours < 48 {
		return fmt.Sprintf("%dh", hours)
	}

	return fmt.Sprintf("%dd", hours/24)
}

// ParseInstances reads the IDs of living instances from what `aws ec2 describe-instances` prints as text. No ID at all
// is an error, as a command that failed prints none.
func ParseInstances(text string) (map[string]bool, error) {
	alive := map[string]bool{}
	for _, id := range strings.Fields(text) {
		if !instanceID.MatchString(id) {
			return nil, fmt.Errorf("%q is not the ID of an instance, such as i-0123456789abcdef0", clean(id))
		}
		alive[id] = true
	}
	if len(alive) == 0 {
		return nil, errors.New("it names no instance, as if none were alive: the command that made it has perhaps failed")
	}

	return alive, nil
}
