package systemd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Unit is a unit that systemd has loaded.
type Unit struct{ Name, Active, Sub string }

// Failing reports whether a unit has failed, or waits to be started again.
func (u Unit) Failing() bool { return u.Active == "failed" || u.Sub == "auto-restart" }

// Runs reports whether a unit is active, or about to be.
func (u Unit) Runs() bool {
	return !u.Failing() && (u.Active == "active" || u.Active == "activating" || u.Active == "reloading")
}

// Units returns the loaded units, but not slices, scopes and devices. Without systemd there are none.
func Units(ctx context.Context) ([]Unit, error) {
	if !Running() {
		return nil, nil
	}
	out, err := systemctl(ctx, "list-units", "--all", "--full", "--plain", "--no-legend",
		"--type=service,socket,timer,path,mount,target")
	if err != nil {
		return nil, err
	}
	var all []Unit
	for line := range strings.Lines(out) {
		// UNIT LOAD ACTIVE SUB DESCRIPTION
		if f := strings.Fields(line); len(f) >= 4 {
			all = append(all, Unit{f[0], f[2], f[3]})
		}
	}
	return all, nil
}

// Restarts returns how often systemd has started each service again by itself since it was last started
// on purpose. Without systemd there are none.
func Restarts(ctx context.Context) (map[string]string, error) {
	if !Running() {
		return nil, nil
	}
	out, err := systemctl(ctx, "show", "--property=Id,NRestarts", "*.service")
	if err != nil {
		return nil, err
	}
	times := map[string]string{}
	for properties := range strings.SplitSeq(out, "\n\n") { // one service's
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

// UnitSum tells one text of a unit and its drop-ins from another. It is "" where there is no such unit.
func UnitSum(ctx context.Context, unit string) string {
	text, err := systemctl(ctx, "cat", unit)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// OwnUnit returns the service whose main process this is; "" where there is none.
func OwnUnit(ctx context.Context) string {
	if !Running() {
		return ""
	}
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(cgroup)) {
		unit := path.Base(strings.TrimSpace(line))
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		pid, err := systemctl(ctx, "show", "--property=MainPID", "--value", unit)
		if err == nil && strings.TrimSpace(pid) == strconv.Itoa(os.Getpid()) {
			return unit
		}
	}
	return ""
}

// Match reports whether the name of a unit matches one of the patterns (path.Match).
func Match(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// CheckPattern returns an error that says what is wrong with a pattern for Match.
func CheckPattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return fmt.Errorf("unit pattern %q: want a unit's name, with * and ? for what varies", pattern)
	}
	return nil
}
