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
	// Silent: it was not heard in the two hours before the step, and its record does not name this publish. It is
	// counted nowhere.
	Silent Standing = "silent"
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

// in is how many hosts of a wave stand so.
func (t Tally) in(wave int, s Standing) int {
	n := 0
	for _, h := range t.Hosts {
		if h.Wave == wave && h.Standing == s {
			n++
		}
	}

	return n
}

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
		h, named := Host{Name: e.Host, Standing: Waiting}, false
		switch r := e.Record; {
		case r == nil: // perhaps a newer npcnix wrote it: what the host says is unknown
			h.Wave, h.Why = m.Rollout.Wave(e.Host, ""), fleet.Clean(fmt.Sprint(e.Err))
		case r.RenamedTo != "" || !store.SameObject(r.Remote, remote):
			continue
		default:
			h.Wave, named = m.Rollout.Wave(e.Host, r.Configuration), about(m, published.ETag, *r)
			h.Standing, h.Why = standing(m, named, *r)
		}
		switch {
		case h.Wave > p.Admitted && h.Standing == Waiting:
			h.Standing, h.Why = Held, ""
		case !named && h.Standing != Failed && published.Modified.Sub(e.Heard) > fleet.StaleAfter:
			h.Standing, h.Why = Silent, "not heard since "+e.Heard.UTC().Format(time.RFC3339)
		}
		t.Hosts = append(t.Hosts, h)
		t.count[h.Standing]++
	}
	slices.SortFunc(t.Hosts, func(a, b Host) int { return cmp.Or(a.Wave-b.Wave, cmp.Compare(a.Name, b.Name)) })

	return t
}

// about reports whether a record is about this publish of the release. What a host said of an earlier one does not
// count: it tries the release again. Only what refused the object names no release.
func about(m *release.Manifest, etag string, r record.Record) bool {
	if r.Version.Release == "" {
		return r.Version.ETag == etag
	}

	return r.Version.Release == m.Release && (r.Version.Serial == m.Serial || r.Version.Serial == 0)
}

// standing is where a host stands with a release, whatever its wave. About tells whether its record is about it.
func standing(m *release.Manifest, about bool, r record.Record) (Standing, string) {
	name := m.Release
	if r.Unhealthy != "" && r.Runs().Release == name {
		line, _, _ := strings.Cut(r.Unhealthy, "\n")
		return Failed, "unhealthy: " + fleet.Clean(line)
	}
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

// pollTime is how long hosts that were all silent are waited for: agents that hear of nothing ask the store every ten
// minutes.
const pollTime = 15 * time.Minute

// verdict judges the hosts of the first waves, so many of which are admitted. Patient says that hosts which were
// silent before the last step can still be heard.
func (b Budget) verdict(t Tally, admitted int, patient bool) verdict {
	there := t.Count(Passed) + t.Count(Waiting) + t.Count(Failed)
	switch {
	case t.Count(Failed) > b.Failed:
		return failed
	case there == 0, patient && t.in(admitted, Silent) > 0 && t.in(admitted, Passed) == 0:
		return pending
	case t.Count(Waiting) <= b.Missing.of(there):
		return passed
	}

	return pending
}
