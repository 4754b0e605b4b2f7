// Package rollout takes a release through the waves of its plan: it reads the hosts' records, judges the admitted
// waves, and publishes the next step of the rollout's progress.
//
// It promises that each step is one conditional publish, so that of two commands one wins, and that it needs
// nothing but the object and the records: a command that was killed is taken up by another at any step. Nothing
// is taken from an object that the given keys do not vouch for.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Standing is where a host stands in a rollout.
type Standing string

const (
	Passed  Standing = "passed"  // it runs the release, and was healthy for the soak
	Waiting Standing = "waiting" // it is admitted, and does not run the release yet, or not for long enough
	Failed  Standing = "failed"  // it failed, rolled back or rejected the release, or is unhealthy with it
	Held    Standing = "held"    // its wave is not admitted
	Silent  Standing = "silent"  // it was not heard in the two hours before the wave: it is counted nowhere
)

// Host is one host of a rollout.
type Host struct {
	Name     string   `json:"host"`
	Wave     int      `json:"wave"` // from 1
	Standing Standing `json:"standing"`
	Why      string   `json:"why,omitempty"`
}

// Tally is where the hosts stand.
type Tally struct {
	Hosts []Host // by wave and name
	count map[Standing]int
}

// Count is how many hosts stand so.
func (t Tally) Count(s Standing) int { return t.count[s] }

// Wave says in words how the hosts of a wave stand.
func (t Tally) Wave(number int) string {
	count, all := map[Standing]int{}, 0
	for _, h := range t.Hosts {
		if h.Wave == number {
			count[h.Standing]++
			all++
		}
	}
	said := fleet.Hosts(all)
	for _, s := range []Standing{Passed, Waiting, Failed, Held, Silent} {
		if count[s] > 0 {
			said += fmt.Sprintf(", %d %s", count[s], s)
		}
	}

	return said
}

// judge says where each host stands, by its record. What was published is the object of the present step.
func judge(m *release.Manifest, p *release.Progress, published store.Version, remote string, records []fleet.Entry) Tally {
	t := Tally{count: map[Standing]int{}}
	for _, e := range records {
		r := e.Record
		if r == nil || r.RenamedTo != "" || !store.SameObject(r.Remote, remote) {
			continue
		}
		h := Host{Name: e.Host, Wave: m.Rollout.Wave(e.Host, r.Configuration)}
		h.Standing, h.Why = standing(m, published.ETag, *r)
		switch {
		case h.Wave > p.Admitted && h.Standing == Waiting:
			h.Standing, h.Why = Held, ""
		case h.Standing != Failed && published.Modified.Sub(e.Heard) > fleet.StaleAfter:
			h.Standing, h.Why = Silent, "not heard since "+e.Heard.UTC().Format(time.RFC3339)
		}
		t.Hosts = append(t.Hosts, h)
		t.count[h.Standing]++
	}
	slices.SortFunc(t.Hosts, func(a, b Host) int { return cmp.Or(a.Wave-b.Wave, cmp.Compare(a.Name, b.Name)) })

	return t
}

// standing is where a host stands with a release, whatever its wave.
func standing(m *release.Manifest, etag string, r record.Record) (Standing, string) {
	name := m.Release
	if r.Unhealthy != "" && r.Runs().Release == name {
		line, _, _ := strings.Cut(r.Unhealthy, "\n")
		return Failed, "unhealthy: " + fleet.Clean(line)
	}
	about := r.Version.Release == name || r.Version.Release == "" && r.Version.ETag == etag
	switch r.Status {
	case record.Failed, record.RolledBack, record.Rejected:
		if about {
			return Failed, said(r)
		}
	case record.Applied:
		switch {
		case r.Runs().Release != name:
		case r.HealthySecs < m.Rollout.Soak: // silence is not health
			return Waiting, "it soaks"
		default:
			return Passed, ""
		}
	}
	if !about && r.Status != record.Paused {
		return Waiting, ""
	}

	return Waiting, said(r)
}

// said is what a record says of its version, in words.
func said(r record.Record) string {
	line, _, _ := strings.Cut(strings.TrimSpace(r.Error), "\n")

	return fleet.Clean(strings.TrimSuffix(strings.ReplaceAll(string(r.Status), "_", " ")+": "+line, ": "))
}

// Share is a number of hosts: so many, or so many per cent of those that count.
type Share struct {
	n       int
	percent bool
}

// ParseShare reads "N" or "N%".
func ParseShare(text string) (Share, error) {
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || percent && n > 100 {
		return Share{}, fmt.Errorf("%q: it must be a number of hosts, or a percentage such as 10%%", text)
	}

	return Share{n, percent}, nil
}

// of is the share of n hosts, rounded down.
func (s Share) of(n int) int {
	if s.percent {
		return n * s.n / 100
	}

	return s.n
}

// Budget is what a wave can lose.
type Budget struct {
	Failed  int   // hosts that failed
	Missing Share // hosts of the admitted waves that do not run the release
}

// verdict is what becomes of the admitted waves.
type verdict string

const (
	pending verdict = "pending"
	passed  verdict = "passed"
	failed  verdict = "failed"
)

func (b Budget) verdict(t Tally) verdict {
	there := t.Count(Passed) + t.Count(Waiting) + t.Count(Failed)
	switch {
	case t.Count(Failed) > b.Failed:
		return failed
	case t.Count(Waiting) <= b.Missing.of(there):
		return passed
	}

	return pending
}
