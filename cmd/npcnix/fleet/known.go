package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/agent/config"
)

// shownNames bounds how many hosts an error names.
const shownNames = 20

// knownHosts returns the hosts that have a record, if that is needed to prepare a gate. An error counts
// only if no host was named: the wait asks the store again, and reports it. Then a host that was renamed is
// known by its new name alone.
func knownHosts(ctx context.Context, o Options, read *records) ([]string, error) {
	if len(o.Hosts) > 0 && len(o.MustKnow) == 0 {
		return nil, nil
	}
	infos, err := o.Store.Records(ctx)
	if err != nil && len(o.Hosts) > 0 {
		return nil, nil
	}
	if len(o.Hosts) == 0 {
		_ = read.take(ctx, infos, nil) // what cannot be read the wait reads again
	}
	var known []string
	for _, info := range infos {
		if e := read.known[info.Host]; e.record == nil || e.record.RenamedTo == "" {
			known = append(known, info.Host)
		}
	}
	slices.Sort(known)
	return known, err
}

// checkKnown returns an error if hosts have no record while others have: their names are wrong then, or
// they are yet to come.
func checkKnown(named, known []string) error {
	var strange, meant []string
	for _, host := range named {
		if slices.Contains(known, host) || slices.Contains(strange, host) {
			continue
		}
		strange = append(strange, host)
		if near := config.Nearest(host, known); near != "" && withoutDigits(near) != withoutDigits(host) {
			meant = append(meant, near)
		}
	}
	if len(strange) == 0 || len(known) == 0 {
		return nil
	}
	question := ""
	if len(meant) > 0 {
		question = fmt.Sprintf(" (did you mean %s?)", shortList(meant))
	}
	return fmt.Errorf("%w: no record of %s%s; known are %s; for hosts that are yet to come, give --allow-unknown",
		ErrHosts, shortList(strange), question, shortList(known))
}

// withoutDigits is what hosts of one kind have in common.
func withoutDigits(host string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, host)
}

// shortList names some of the hosts, and counts the rest.
func shortList(hosts []string) string {
	var names []string
	for _, host := range hosts[:min(len(hosts), shownNames)] {
		names = append(names, clean(host))
	}
	text := strings.Join(names, ", ")
	if more := len(hosts) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
