package herd

import (
	"slices"
	"testing"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
)

// figures are what one publish came to.
type figures struct {
	t *testing.T
	publish
	limits limits
	hosts  int
	wait   *wait // of an operator; nil: there is none

	toNix       []time.Duration // from the notice to the call of nix, where there was a notice
	fromPublish []time.Duration // to the call of nix
	requests    []int           // of each host that were served, but for what further messages ask for
	sent        int             // the most of a host, what was refused and what further messages ask for included
	last        time.Time       // the last record was there
	reads       int
	writes      int
	queue       int
	slowed      int
	gaps        []time.Duration // from a SlowDown to the next request
}

// wait is what an operator saw, and asked for.
type wait struct {
	fleet.Result
	ended time.Time
	seen
}

// perMessage is what a further message may ask for: a receive, a look at the store, and a delete.
const perMessage = 3

// add counts a host in.
func (f *figures) add(s seen, published time.Time) {
	f.hosts++
	if !s.noticed.IsZero() {
		f.toNix = append(f.toNix, s.built.Sub(s.noticed))
	}
	f.fromPublish = append(f.fromPublish, s.built.Sub(published))
	served := s.reads + s.writes + s.queue
	f.requests = append(f.requests, served-perMessage*max(0, s.messages-1))
	f.sent = max(f.sent, served+s.slowed)
	if s.wrote.After(f.last) {
		f.last = s.wrote
	}
	f.reads += s.reads
	f.writes += s.writes
	f.queue += s.queue
	f.slowed += s.slowed
	f.gaps = append(f.gaps, s.gaps...)
}

// dollars is what AWS asks for the hosts' requests, by its list prices in us-east-1: for a million, 0.40 for reads of
// S3 and requests to SQS, and 5 for writes.
func (f *figures) dollars() float64 {
	return (0.4*float64(f.reads+f.queue) + 5*float64(f.writes)) / 1e6
}

func (f *figures) log() {
	n := float64(f.hosts)
	f.t.Logf("%d hosts, %s: notice to nix p50 %v, p99 %v, most %v; publish to nix p50 %v, p99 %v; %d answers SlowDown; "+
		"for each host %.2f reads, %.2f writes, %.2f requests to SQS, %d in all at most, %d with those refused and of further messages; %.5f dollars",
		f.hosts, f.name, percentile(f.toNix, 50), percentile(f.toNix, 99), percentile(f.toNix, 100),
		percentile(f.fromPublish, 50), percentile(f.fromPublish, 99), f.slowed,
		float64(f.reads)/n, float64(f.writes)/n, float64(f.queue)/n, slices.Max(f.requests), f.sent, f.dollars())
	if w := f.wait; w != nil {
		f.t.Logf("wait: %v, %v after the last record, with %d looks, at most %d LIST in each, and %d reads in all",
			w.Outcome, w.ended.Sub(f.last).Round(time.Millisecond), len(w.lists), slices.Max(w.lists), w.reads)
	}
}

// check says what a herd must not come to. The times are those of the bubble: they depend on the cloud's limits and
// the hosts' behaviour, and not on this machine.
func (f *figures) check() {
	f.t.Helper()
	f.log()
	if f.wait != nil {
		f.wait.check(f)
	}
	// What the limits ask for, and for each request the longest pause of the SDK after its first refusal.
	perHost := max(1/float64(f.limits.writes), float64(f.gets)/float64(f.limits.reads))
	bound := time.Duration(float64(f.hosts)*perHost*float64(time.Second)) + time.Duration(f.gets)*2*time.Second
	if p99 := percentile(f.toNix, 99); p99 > bound {
		f.t.Errorf("%s: notice to nix takes %v at p99, which is more than %v", f.name, p99, bound)
	}
	if most := percentile(f.toNix, 100); most > 30*time.Second {
		f.t.Errorf("%s: a host was held up for %v", f.name, most)
	}
	if most := slices.Max(f.requests); most > 8 {
		f.t.Errorf("%s: a host has made %d requests", f.name, most)
	}
	if share := inStep(f.gaps); len(f.gaps) > 100 && share > 0.2 {
		f.t.Errorf("%s: of %d retries, %.0f %% come equally long after the refusal", f.name, len(f.gaps), 100*share)
	}
}

// check says what a wait must not come to.
func (w *wait) check(f *figures) {
	f.t.Helper()
	if w.Outcome != fleet.Passed || w.Done != f.hosts {
		f.t.Errorf("%s: the wait %s with %d of %d hosts", f.name, w.Outcome, w.Done, f.hosts)
	}
	for _, h := range w.Hosts {
		if h.Record == nil || h.Record.Attempt != 1 || h.Record.Trouble != nil {
			f.t.Errorf("%s: the record of %s: %+v", f.name, h.Name, h.Record)
		}
	}
	if after := w.ended.Sub(f.last); after > 2*time.Second {
		f.t.Errorf("%s: the wait sees the last record after %v", f.name, after)
	}
	if most := slices.Max(w.lists); most > 1+(f.hosts+999)/1000 {
		f.t.Errorf("%s: a look of the wait lists %d pages", f.name, most)
	}
}

// percentile returns the time within which so many percent of ds lie.
func percentile(ds []time.Duration, percent int) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)-1, len(ds)*percent/100)].Round(time.Millisecond)
}

// inStep is the share of the pauses that are of the same length, to 50 ms.
func inStep(pauses []time.Duration) float64 {
	same, most := map[time.Duration]int{}, 0
	for _, p := range pauses {
		same[p/(50*time.Millisecond)]++
		most = max(most, same[p/(50*time.Millisecond)])
	}
	return float64(most) / float64(max(1, len(pauses)))
}
