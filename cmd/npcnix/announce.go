package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// restatement is how the message of a release begins that was published again.
var restatement = regexp.MustCompile(`^(rollback|promoted( by force \([^)]*\))?): `)

// restated is the message of a release that is published again. How often that was done before is no news.
func restated(how, message string) string {
	return strings.TrimSuffix(how+": "+restatement.ReplaceAllString(message, ""), ": ")
}

// shownHosts bounds how many hosts are shown before a question.
const shownHosts = 40

// announce tells the operator what will run on which hosts once next is published.
func announce(ctx context.Context, c *common, remote *store.Remote, what string, last publish.Last, next *release.Verified) error {
	records, err := fleet.Heard(ctx, remote, time.Time{})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", what, remote.URL())
	fmt.Fprintf(&b, "  from  %s\n", described(last))
	fmt.Fprintf(&b, "  to    %s, serial %d, signed by %s\n", nameOf(next.Manifest), next.Serial, strings.Join(next.Keys, ", "))
	if err != nil {
		fmt.Fprintf(&b, "  which hosts will take it is not known: their records cannot be read: %v\n", err)
	}
	b.WriteString(changes(records, next))
	return printTo(c.stderr, "%s", b.String())
}

// described is what the remote holds, for a person.
func described(last publish.Last) string {
	switch {
	case last.Release != nil:
		return fmt.Sprintf("%s, serial %d", nameOf(last.Release.Manifest), last.Release.Serial)
	case last.Version.ETag != "":
		return last.Version.ETag + ", which your signers do not vouch for"
	}
	return "nothing: the remote is empty"
}

func nameOf(m *release.Manifest) string {
	if said := saidOf(m.Source); said != "" {
		return m.Release[:12] + " (" + said + ")"
	}
	return m.Release[:12]
}

// changes has a line for each host that will run something else.
func changes(records []record.Record, next *release.Verified) string {
	var b strings.Builder
	same, shown, more := 0, 0, 0
	for _, r := range slices.SortedFunc(slices.Values(records), func(a, b record.Record) int { return cmp.Compare(a.Host, b.Host) }) {
		runs := r.Runs()
		switch {
		case r.RenamedTo != "":
			continue
		case runs.Release == next.Release:
			same++
			continue
		case shown == shownHosts:
			more++
			continue
		}
		shown++
		will := "evaluates its configuration " + r.Configuration
		if s, prebuilt := next.Systems[r.Configuration]; prebuilt {
			will = s.Toplevel
		}
		fmt.Fprintf(&b, "  %s runs %s, and will run %s: %s\n", r.Host, cmp.Or(runs.Rev, fleet.Short(runs.Release), fleet.Short(runs.ETag), "an unknown version"),
			cmp.Or(next.Source.Rev, fleet.Short(next.Release)), will)
	}
	if more > 0 {
		fmt.Fprintf(&b, "  and %d more hosts\n", more)
	}
	if same > 0 {
		fmt.Fprintf(&b, "  already run by %s\n", fleet.Hosts(same))
	}
	if shown+same == 0 {
		b.WriteString("  no host is known\n")
	}
	return b.String()
}
