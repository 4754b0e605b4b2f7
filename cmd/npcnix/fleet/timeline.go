package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Timeline is how one version reached the hosts, by the times of their records.
type Timeline struct {
	Version record.Version
	Bars    []Bar    // first what an operator has to look at, then the slowest
	Others  []string // hosts whose records have no times of it, as "name: status"
}

// Bar is how the version went through one host.
type Bar struct {
	Host, Status string
	Attempt      int // a later one begins long after the publish
	Spans        []Span
	// Skew is by how much the host's clock is ahead of the store's; SkewKnown, whether that can be told.
	Skew      time.Duration
	SkewKnown bool
}

// Stage is what a host does for a version, as the metrics of a host have it; and Fails, what ends otherwise.
type Stage string

const (
	Notice      Stage = "notice"
	Fetch       Stage = "fetch"
	Build       Stage = "build"
	Activate    Stage = "activate"
	Acknowledge Stage = "acknowledge"
	Fails       Stage = "fails" // from the end of the last stage that was reached
)

var stages = []Stage{Notice, Fetch, Build, Activate, Acknowledge, Fails}

// Span is one stage, from the publish. It can be negative: the notice compares two clocks.
type Span struct {
	Stage    Stage
	From, To time.Duration
}

// clockTolerance is up to what difference two clocks are taken for equal. A store counts in seconds, and a
// record takes some time to reach it.
const clockTolerance = 2 * time.Second

// skewed reports whether the host's clock differs from the store's, so that its notice is wrong by that.
func (b Bar) skewed() bool { return b.SkewKnown && b.Skew.Abs() > clockTolerance || b.total() < 0 }

// total is the time from the publish to the end of the last span.
func (b Bar) total() time.Duration { return b.Spans[len(b.Spans)-1].To }

// done reports whether the host has acknowledged the version.
func (b Bar) done() bool { return b.Spans[len(b.Spans)-1].Stage == Acknowledge }

// Timeline reads the records, and returns the timeline of a version: the one whose ETag, release or revision
// begins so, or, if that is "", the one that the remote holds.
func (r *Roster) Timeline(ctx context.Context, begins string) (Timeline, error) {
	_, now, err := r.Look(ctx)
	if err != nil {
		return Timeline{}, err
	}
	version, err := r.version(begins, now)
	if err != nil {
		return Timeline{}, err
	}
	t := Timeline{Version: version}
	for host, e := range r.records.known {
		h := r.records.standing(host, r.Store.URL(), now, "")
		if h.State == Renamed || h.State == Elsewhere || e.record == nil || e.record.Version.ETag != version.ETag {
			t.Others = append(t.Others, host+": "+inWords(h.State))
			continue
		}
		if bar, timed := barOf(e.record, e.info.Modified); timed {
			t.Bars = append(t.Bars, bar)
		} else {
			t.Others = append(t.Others, host+": "+inWords(bar.Status))
		}
	}
	slices.Sort(t.Others)
	slices.SortFunc(t.Bars, func(a, b Bar) int {
		return cmp.Or(cmp.Compare(rank(Host{State: a.Status}), rank(Host{State: b.Status})), cmp.Compare(b.total(), a.total()), cmp.Compare(a.Host, b.Host))
	})
	return t, nil
}

// ErrVersion is an error of who names a version.
var ErrVersion = errors.New("no such version")

// version finds the version that is meant, among those that the records and the remote are about.
func (r *Roster) version(begins string, now store.Version) (record.Version, error) {
	found := map[string]record.Version{}
	if strings.HasPrefix(now.ETag, begins) {
		found[now.ETag] = record.Version{ETag: now.ETag}
	}
	for _, e := range r.records.known {
		if e.record == nil {
			continue
		}
		v := e.record.Version
		named := begins != "" && (strings.HasPrefix(v.ETag, begins) || strings.HasPrefix(v.Release, begins) || strings.HasPrefix(v.Rev, begins))
		if v.ETag != "" && (named || begins == "" && v.ETag == now.ETag) {
			found[v.ETag] = v
		}
	}
	delete(found, "")
	switch {
	case len(found) > 1:
		return record.Version{}, fmt.Errorf("%w: %d versions begin with %s; name one by more letters of its ETag", ErrVersion, len(found), clean(begins))
	case len(found) == 0 && begins != "":
		return record.Version{}, fmt.Errorf("%w: neither a record nor the remote has a version that begins with %s; a record tells of the last one alone", ErrVersion, clean(begins))
	}
	for _, v := range found {
		return v, nil
	}
	return record.Version{}, nil // nothing is published
}

// barOf makes a bar of a record. A host that does nothing for the version has no times of it.
func barOf(r *record.Record, written time.Time) (bar Bar, timed bool) {
	bar = Bar{Host: r.Host, Status: clean(string(r.Status)), Attempt: r.Attempt}
	if !r.Times.Written.IsZero() && !written.IsZero() {
		bar.Skew, bar.SkewKnown = r.Times.Written.Sub(written), true
	}
	t, end := r.Times, Acknowledge
	switch r.Status {
	case record.Applied:
	case record.Building, record.Activating, record.RebootPending:
		t.Acknowledged = time.Time{} // it is not done yet
	case record.Failed, record.RolledBack, record.Rejected:
		end = Fails
	default:
		return bar, false
	}
	start := t.Published
	if start.IsZero() {
		start = t.Noticed
	}
	if start.IsZero() {
		return bar, false
	}
	last := start
	for _, s := range []struct {
		stage Stage
		at    time.Time
	}{{Notice, t.Noticed}, {Fetch, t.Fetched}, {Build, t.Built}, {Activate, t.Activated}, {end, t.Acknowledged}} {
		if !s.at.IsZero() && (s.stage != Notice || !t.Published.IsZero()) {
			bar.Spans = append(bar.Spans, Span{s.stage, last.Sub(start), s.at.Sub(start)})
			last = s.at
		}
	}
	return bar, len(bar.Spans) > 0
}

// Figures are the times that hosts took.
type Figures struct {
	Hosts             int
	P50, P99, Slowest time.Duration
	SlowestHost       string
}

// figures are those of a stage, of the hosts that have acknowledged the version; of "", from the publish to the
// acknowledgement. Where two clocks count, hosts whose clock is wrong do not;
// nor do those to which nothing told when it was published.
func (t Timeline) figures(stage Stage) Figures {
	type took struct {
		host string
		time time.Duration
	}
	var all []took
	for _, b := range t.Bars {
		fromPublish := b.Spans[0].Stage == Notice && !b.skewed()
		if !b.done() || (stage == "" || stage == Notice) && !fromPublish {
			continue
		}
		if stage == "" {
			all = append(all, took{b.Host, b.total()})
			continue
		}
		for _, s := range b.Spans {
			if s.Stage == stage {
				all = append(all, took{b.Host, s.To - s.From})
			}
		}
	}
	if len(all) == 0 {
		return Figures{}
	}
	slices.SortFunc(all, func(a, b took) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.host, b.host)) })
	last := all[len(all)-1]
	return Figures{len(all), all[(len(all)*50+99)/100-1].time, all[(len(all)*99+99)/100-1].time, last.time, last.host}
}

// bounds are the earliest and the latest moment of all bars, from the publish.
func (t Timeline) bounds() (first, last time.Duration) {
	for _, b := range t.Bars {
		for _, s := range b.Spans {
			first, last = min(first, s.To), max(last, s.To)
		}
	}
	return first, max(last, first+time.Millisecond)
}
