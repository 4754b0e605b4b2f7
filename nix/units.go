package nix

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// units returns the names of systemd's units that run, and of those that have failed. Without
// systemd there are none.
func (h *Host) units(ctx context.Context) (ran, failed []string, err error) {
	all, err := listUnits(ctx)
	for _, u := range all {
		switch {
		case u.failing():
			failed = append(failed, u.name)
		case u.active == "active" || u.active == "activating" || u.active == "reloading":
			ran = append(ran, u.name)
		}
	}
	return ran, failed, err
}

type unit struct{ name, active, sub string }

// failing: it has failed, or is started again and again.
func (u unit) failing() bool { return u.active == "failed" || u.sub == "auto-restart" }

// listUnits asks systemd for its units, but not for slices, scopes and devices.
func listUnits(ctx context.Context) ([]unit, error) {
	if !underSystemd() {
		return nil, nil
	}
	var out bytes.Buffer
	err := systemctl(ctx, &out, "list-units", "--all", "--full", "--plain", "--no-legend",
		"--type=service,socket,timer,path,mount,target")
	if err != nil {
		return nil, err
	}
	var all []unit
	for line := range strings.Lines(out.String()) {
		// UNIT LOAD ACTIVE SUB DESCRIPTION
		if f := strings.Fields(line); len(f) >= 4 {
			all = append(all, unit{f[0], f[2], f[3]})
		}
	}
	return all, nil
}

// restarts returns how often systemd has started services again by itself.
func restarts(ctx context.Context) (map[string]string, error) {
	if !underSystemd() {
		return nil, nil
	}
	var out bytes.Buffer
	if err := systemctl(ctx, &out, "show", "--property=Id,NRestarts", "*.service"); err != nil {
		return nil, err
	}
	times := map[string]string{}
	for properties := range strings.SplitSeq(out.String(), "\n\n") { // one service's
		var name, n string
		for line := range strings.Lines(properties) {
			switch property, value, _ := strings.Cut(strings.TrimSpace(line), "="); property {
			case "Id":
				name = value
			case "NRestarts":
				n = value
			}
		}
		times[name] = n
	}
	return times, nil
}

// Failing are units that are failing.
type Failing struct {
	Failed     []string // that ran before
	Restarting []string // that ran before: they end and are started again
	New        []string // that did not run before
	// Restarts tells of all that ran before how often they were started again since they were last
	// started on purpose: between two looks they may have ended and run again.
	Restarts map[string]string
}

// NewlyFailing returns the units that are failing and were not before the activation a. Those that
// match one of the patterns of exempt (path.Match), and npcnix's own, are left out. Without systemd
// there are none.
func (h *Host) NewlyFailing(ctx context.Context, a Activation, exempt []string) (Failing, error) {
	var f Failing
	all, err := listUnits(ctx)
	if err != nil {
		return f, err
	}
	exempt = append([]string{workerUnit + "*", deadManUnit + "*", a.AgentUnit}, exempt...)
	if f.Restarts, err = restarts(ctx); err != nil {
		return f, err
	}
	maps.DeleteFunc(f.Restarts, func(name, _ string) bool { return !slices.Contains(a.Ran, name) || matches(exempt, name) })
	for _, u := range all {
		switch {
		case !u.failing() || slices.Contains(a.Failed, u.name) || matches(exempt, u.name):
		case !slices.Contains(a.Ran, u.name):
			f.New = append(f.New, u.name)
		case u.active == "failed":
			f.Failed = append(f.Failed, u.name)
		default:
			f.Restarting = append(f.Restarting, u.name)
		}
	}
	return f, nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// CheckUnitPattern returns an error that says what is wrong with a pattern for NewlyFailing.
func CheckUnitPattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return fmt.Errorf("unit pattern %q: want a unit's name, with * and ? for what varies", pattern)
	}
	return nil
}
