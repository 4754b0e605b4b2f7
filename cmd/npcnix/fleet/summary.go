package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

// Latency is how long after the publish the hosts were done: from the time the store gives to
// the published object to the time it gives to the record that says applied. Both are of the
// store's clock, which on S3 counts in seconds, so no other clock can falsify them. Hosts that
// had the version before this publish are not counted.
type Latency struct {
	Hosts             int
	P50, P99, Slowest time.Duration
	SlowestHost       string
}

func latencyOf(hosts []Host) Latency {
	timed := slices.DeleteFunc(slices.Clone(hosts), func(h Host) bool { return !h.Timed || h.Verdict != Done })
	if len(timed) == 0 {
		return Latency{}
	}
	slices.SortStableFunc(timed, func(a, b Host) int { return cmp.Compare(a.Took, b.Took) })
	rank := func(percent int) time.Duration { return timed[(len(timed)*percent+99)/100-1].Took }
	last := timed[len(timed)-1]
	return Latency{Hosts: len(timed), P50: rank(50), P99: rank(99), Slowest: last.Took, SlowestHost: last.Name}
}

// ranks is the order of states in counts and lists: first what an operator has to look at.
var ranks = []string{
	string(record.RolledBack), string(record.Rejected), string(record.Failed), "dead-letter",
	Unreadable, string(record.Drifted), string(record.Paused), Elsewhere, Renamed, "gone", "unseen",
	string(record.RebootPending), string(record.Held),
	string(record.Activating), string(record.Building), "working", "draining", "waiting",
	Behind, Silent, Unheard, string(record.Applied), "drained",
}

func rank(h Host) int {
	if i := slices.Index(ranks, h.State); i >= 0 {
		return i
	}
	return len(ranks)
}

var storePath = regexp.MustCompile(`/nix/store/[0-9a-z]{32}-`)

// WithoutHashes leaves the names of store paths: of a line that a person reads, the hash would be most.
func WithoutHashes(s string) string { return storePath.ReplaceAllString(s, "") }

// buildContext is what precedes the reason of a failed build. A row of a host has no room for both.
var buildContext = regexp.MustCompile(`^(build configuration "[^"]*"): (?:error: )?(.+)$`)

// reasonFirst puts why something failed before what failed.
func reasonFirst(s string) string { return buildContext.ReplaceAllString(s, "$2 ($1)") }

// byRank sorts hosts that matter to the front.
func byRank(hosts []Host) []Host {
	hosts = slices.Clone(hosts)
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.State, b.State)) })
	return hosts
}

// tally counts the hosts of each state among those that match, each behind a separator.
func tally(hosts []Host, match func(Host) bool, separator string) string {
	n := map[string]int{}
	for _, h := range byRank(hosts) {
		if match(h) {
			n[h.State]++
		}
	}
	var b strings.Builder
	for _, state := range slices.SortedFunc(maps.Keys(n), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(Host{State: a}), rank(Host{State: b})), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(&b, "%s%d %s", separator, n[state], inWords(state))
	}
	return b.String()
}

// Err is nil if the wait passed, and says what happened if not.
func (r Result) Err() error {
	version := Short(r.Version.ETag)
	switch {
	case r.Outcome == Passed:
		return nil
	case r.Because != nil:
		return r.Because
	}
	switch r.Outcome {
	case HostsFailed:
		return fmt.Errorf("%d of %s failed to run %s%s", r.Failed, Hosts(len(r.Hosts)), version,
			tally(r.Hosts, func(h Host) bool { return h.Verdict == Failed }, ", "))
	case Superseded:
		return fmt.Errorf("superseded: %s holds %s by now, so %s no longer reaches the hosts; wait for the newer one", r.Remote, Short(r.Newer.ETag), version)
	case Interrupted:
		return errors.New("interrupted; the hosts go on by themselves")
	}
	why := tally(r.Hosts, func(h Host) bool { return h.Verdict == Missing }, ", ")
	if r.Failed > 0 {
		why += fmt.Sprintf(", and %d failed, %d needed", r.Failed, r.Need)
	}
	if r.Trouble != "" {
		why += "; the fleet could not be seen at the end: " + clean(r.Trouble)
	}
	return fmt.Errorf("time ran out after %s with %d of %s missing%s", Duration(r.Timeout), r.Missing, Hosts(len(r.Hosts)), why)
}

// Hosts counts hosts in words.
func Hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// shownHosts bounds how many hosts a summary tells of one by one.
const shownHosts = 20

// closing is the summary for a person: the hosts that matter with their errors, and the figures.
func closing(r Result) string {
	var b strings.Builder
	told := 0
	var rest []Host
	for _, h := range byRank(r.Hosts) {
		switch {
		case h.Verdict == Done, h.Verdict == Missing && (r.Outcome == Passed || r.Outcome == Superseded):
			continue // nobody has to look at it
		case told == shownHosts, h.Why == "" && h.Verdict == Missing:
			rest = append(rest, h)
			continue
		}
		told++
		fmt.Fprintf(&b, "%s\n", strings.Join(describe(h), " "))
		if h.Verdict == Failed && h.Record != nil {
			for _, line := range tail(h.Record) {
				fmt.Fprintf(&b, "  | %s\n", line)
			}
			fmt.Fprintf(&b, "  look further, on %s: npcnix status; journalctl -u npcnix\n", h.Name)
		}
	}
	for state, names := range groups(rest) {
		more := ""
		if n := len(names) - shownHosts; n > 0 {
			names, more = names[:shownHosts], fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(&b, "%s: %s%s\n", inWords(state), strings.Join(names, " "), more)
	}
	fmt.Fprintf(&b, "%s\n", headline(r))
	if l := r.Latency; l.Hosts > 0 {
		fmt.Fprintf(&b, "publish to applied, %s: p50 %s, p99 %s, slowest %s (%s)\n",
			Hosts(l.Hosts), Duration(l.P50), Duration(l.P99), Duration(l.Slowest), l.SlowestHost)
	}
	if r.Resume != "" {
		fmt.Fprintf(&b, "to go on waiting: %s\n", r.Resume)
	}
	return b.String()
}

// inWords is a state as a sentence has it.
func inWords(state string) string { return strings.ReplaceAll(state, "_", " ") }

// groups yields the names of ranked hosts, state by state.
func groups(ranked []Host) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for len(ranked) > 0 {
			n := slices.IndexFunc(ranked, func(h Host) bool { return h.State != ranked[0].State })
			if n < 0 {
				n = len(ranked)
			}
			var names []string
			for _, h := range ranked[:n] {
				names = append(names, h.Name)
			}
			if !yield(ranked[0].State, names) {
				return
			}
			ranked = ranked[n:]
		}
	}
}

// headline says in one line how it ended.
func headline(r Result) string {
	return fmt.Sprintf("%s: %s, %s (%s)", r.Outcome, Short(r.Version.ETag), counts(r.Progress), stopwatch(r.Elapsed))
}

// tail is what a failed host says beyond the first line of its error.
func tail(r *record.Record) []string {
	var lines []string
	_, rest, _ := strings.Cut(strings.TrimSpace(r.Error), "\n")
	for line := range strings.Lines(rest) {
		lines = append(lines, clean(line))
	}
	for _, line := range r.LogTail {
		lines = append(lines, clean(line))
	}
	return lines[max(0, len(lines)-shownHosts):]
}
