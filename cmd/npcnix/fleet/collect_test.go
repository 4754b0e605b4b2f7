package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

const day = 24 * time.Hour

// TestAHostIsCollectedOnlyIfItIsNoMore goes through what can be known of a host.
func TestAHostIsCollectedOnlyIfItIsNoMore(t *testing.T) {
	own := []events.FoundQueue{{Name: "npcnix-dev-web1-12345678", Host: "web1", Own: true}}
	foreign := []events.FoundQueue{{Name: "npcnix-dev-web1-87654321", Host: "web1"}}
	list := map[string]bool{"i-0123456789abcdef0": true}
	cases := []struct {
		name     string
		heard    time.Duration // ago; -1: no record
		created  time.Duration // ago
		instance string
		queues   []events.FoundQueue
		alive    map[string]bool
		gone     bool
		says     string
	}{
		{"heard just now", 0, 0, "", own, nil, false, ""},
		{"heard in the last day, though its instance is not listed", 23 * time.Hour, 0, "i-00000000000000000", own, list, false, ""},
		{"silent for a day, and not listed", 25 * time.Hour, 0, "i-00000000000000000", own, list, true, "its instance is no more"},
		{"silent for a year, and listed", 365 * day, 0, "i-0123456789abcdef0", own, list, false, ""},
		{"silent for six days", 6 * day, 0, "i-00000000000000000", own, nil, false, ""},
		{"silent for eight days", 8 * day, 0, "", own, nil, true, "not heard for 8d"},
		{"no instance, silent for six days, with a list", 6 * day, 0, "", own, list, false, ""},
		{"no instance, silent for eight days, with a list", 8 * day, 0, "", own, list, true, "not heard for 8d"},
		{"of a clock that is ahead", -time.Hour, 0, "", own, nil, false, ""},
		{"without a queue", 8 * day, 0, "", nil, nil, true, "not heard"},
		{"with Terraform's queue", 8 * day, 0, "", foreign, nil, false, "did not make its queue npcnix-dev-web1-87654321"},
		{"with Terraform's queue, and its own", 8 * day, 0, "", append(own[:1:1], foreign...), nil, false, "did not make its queue"},
		{"with Terraform's queue, and alive", time.Hour, 0, "", foreign, nil, false, ""},
		{"without a record, made just now", -1, time.Hour, "i-00000000000000000", own, list, false, ""},
		{"without a record, its instance not listed", -1, 25 * time.Hour, "i-00000000000000000", own, list, true, "never heard"},
		{"without a record, its instance listed", -1, 8 * day, "i-0123456789abcdef0", own, list, false, ""},
		{"without a record, and no list", -1, 8 * day, "i-00000000000000000", own, nil, false, "nothing tells whether it lives"},
		{"without a record, for some days", -1, 3 * day, "", own, nil, false, ""},
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range cases {
		r := remains{host: "web1", instance: c.instance, queues: c.queues}
		if c.heard != -1 {
			r.record = store.RecordInfo{Host: "web1", Modified: now.Add(-c.heard)}
		}
		run := Collection{OlderThan: CollectAfter, Alive: c.alive}
		f := run.judge(r, now.Add(-c.created), now)
		if f.gone != c.gone || (c.says == "") != (f.why == "") || !strings.Contains(f.why, c.says) {
			t.Errorf("%s: gone is %v, and it says %q", c.name, f.gone, f.why)
		}
	}
}

// collected is a store and queues that note what is asked of them, in order.
type collected struct {
	now     time.Time
	records []store.RecordInfo
	heard   map[string]time.Time // since the records were listed
	queues  []events.FoundQueue
	refuse  string // the host whose queue cannot be deleted
	trace   []string
}

func (c *collected) Now(context.Context) (time.Time, error)              { return c.now, nil }
func (c *collected) Records(context.Context) ([]store.RecordInfo, error) { return c.records, nil }
func (c *collected) Find(context.Context, []string) ([]events.FoundQueue, error) {
	return c.queues, nil
}
func (c *collected) Created(context.Context, events.FoundQueue) (time.Time, error) {
	return c.now.Add(-30 * day), nil
}

func (c *collected) StatRecord(_ context.Context, host string) (store.RecordInfo, error) {
	for _, info := range c.records {
		if info.Host == host {
			if at, again := c.heard[host]; again {
				info.Modified = at
			}
			return info, nil
		}
	}
	return store.RecordInfo{}, store.ErrNotFound
}

func (c *collected) Delete(_ context.Context, q events.FoundQueue) error {
	if q.Host == c.refuse {
		return errors.New("access denied")
	}
	c.trace = append(c.trace, "queue "+q.Host)
	return nil
}

func (c *collected) GetRecord(context.Context, string) ([]byte, error) { return nil, store.ErrNotFound }

func (c *collected) DeleteRecord(_ context.Context, host string, _ ...string) error {
	c.trace = append(c.trace, "record "+host)
	return nil
}

// TestOneHostDoesNotHoldUpACollection also shows the order, and that a host that is heard meanwhile
// stays.
func TestOneHostDoesNotHoldUpACollection(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	c := &collected{now: now, refuse: "web1", heard: map[string]time.Time{"web2": now}}
	for _, host := range []string{"web1", "web2", "web3"} {
		c.records = append(c.records, store.RecordInfo{Host: host, Modified: now.Add(-30 * day)})
		c.queues = append(c.queues, events.FoundQueue{Name: "npcnix-dev-" + host, Host: host, Own: true})
	}
	var said []string
	run := Collection{Store: c, Queues: c, OlderThan: CollectAfter, Say: func(line string) { said = append(said, line) }}
	run.DryRun = true
	if sum, err := run.Run(t.Context()); err != nil || sum != (Collected{Removed: 3}) || len(c.trace) > 0 {
		t.Errorf("a dry run: %v, %v; it did %q", sum, err, c.trace)
	}
	run.DryRun, said = false, nil
	sum, err := run.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "web1: access denied") {
		t.Errorf("the error is %v", err)
	}
	if sum != (Collected{Removed: 1, Kept: 1}) || !slices.Equal(c.trace, []string{"queue web3", "record web3"}) {
		t.Errorf("%v; it did %q", sum, c.trace)
	}
	if !slices.Equal(said, []string{"removed web3: not heard for 30d"}) {
		t.Errorf("it said %q", said)
	}
}

// A member of a group that has left has no queue whose tag names its instance.
func TestAHostIsAnInstanceByItsTagOrItsName(t *testing.T) {
	const alive, gone = "i-0123456789abcdef0", "i-00000000000000000"
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	c := &collected{now: now, queues: []events.FoundQueue{
		{Name: "npcnix-dev-web1", Host: "web1", Instance: gone, Own: true},
		{Name: "npcnix-dev-web2", Host: "web2", Instance: alive, Own: true},
		{Name: "npcnix-dev-db", Host: "db-" + gone, Instance: alive, Own: true},
		{Name: "npcnix-dev-tf", Host: "tf", Instance: gone},
	}}
	for _, host := range []string{gone, alive, "web-" + gone, "web-" + alive, gone + ".example.org", "web1", "web2", "db-" + gone, "tf"} {
		c.records = append(c.records, store.RecordInfo{Host: host, Modified: now.Add(-25 * time.Hour)})
	}
	run := Collection{Store: c, Queues: c, OlderThan: CollectAfter, Alive: map[string]bool{alive: true}, Say: func(string) {}}
	_, err := run.Run(t.Context())
	slices.Sort(c.trace)
	if want := []string{"queue web1", "record " + gone, "record web-" + gone, "record web1"}; err != nil || !slices.Equal(c.trace, want) {
		t.Errorf("it did %q, not %q: %v", c.trace, want, err)
	}
}

func TestAListOfInstancesIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"i-0123456789abcdef0\ti-01234567\n": "",
		" \n":                               "names no instance",
		"None\n":                            `"None" is not the ID`,
		"i-0123456789abcdef0 web1":          `"web1" is not the ID`,
	} {
		alive, err := ParseInstances(text)
		if want == "" && (err != nil || len(alive) != 2) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, %v", text, alive, err)
		}
	}
}

func TestAHostThatOnlyWritesNewsIsLeft(t *testing.T) {
	s := &oneRecord{`{"schema":2,"host":"i-0123456789abcdef0","only_news":true}`}
	for _, c := range []struct {
		name  string
		alive map[string]bool
		want  Collected
	}{
		{"its silence says nothing", nil, Collected{Left: 1}},
		{"its instance is no more", map[string]bool{"i-00000000000000001": true}, Collected{Removed: 1}},
	} {
		var said []string
		run := Collection{Store: s, OlderThan: CollectAfter, Alive: c.alive, DryRun: true, Say: func(line string) { said = append(said, line) }}
		if got, err := run.Run(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, %q", c.name, got, err, said)
		}
	}
}

// oneRecord is a store with a record of a year ago.
type oneRecord struct{ text string }

func (s *oneRecord) Records(context.Context) ([]store.RecordInfo, error) {
	return []store.RecordInfo{{Host: "i-0123456789abcdef0", Modified: time.Now().Add(-365 * day)}}, nil
}
func (s *oneRecord) GetRecord(context.Context, string) ([]byte, error) { return []byte(s.text), nil }
func (s *oneRecord) StatRecord(context.Context, string) (store.RecordInfo, error) {
	return store.RecordInfo{}, store.ErrNotFound
}
func (s *oneRecord) Now(context.Context) (time.Time, error)                { return time.Now(), nil }
func (s *oneRecord) DeleteRecord(context.Context, string, ...string) error { return nil }
