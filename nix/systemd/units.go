package systemd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unit is how a unit is at one moment. What a switch needs to know of the moment before it is kept in JSON.
type Unit struct {
	Name string `json:"-"` // the primary one

	Load   string `json:"load,omitempty"`   // loaded, not-found, masked, bad-setting, error
	Active string `json:"active"`           // active, reloading, inactive, failed, activating, deactivating
	Sub    string `json:"sub,omitempty"`    // more exactly, by kind of unit
	Result string `json:"result,omitempty"` // of its last run: success, or what it failed of
	Type   string `json:"type,omitempty"`   // of a service

	RemainAfterExit bool    `json:"remain_after_exit,omitempty"`
	Restarts        int     `json:"restarts,omitempty"` // by systemd itself, since it was last started on purpose
	UpSecs          float64 `json:"up_secs,omitempty"`  // since it has become active
	Defined         bool    `json:"defined,omitempty"`  // it has a file; systemd finds mounts without one in the kernel

	Wanted     bool `json:"-"` // by a unit that is active
	Triggered  bool `json:"-"` // by a socket, timer or path that is active
	Conflicted bool `json:"-"` // with a unit that is active
	Unmet      bool `json:"-"` // one of its conditions was not met when it was to be started
	Queued     bool `json:"-"` // systemd has a job for it
}

// Up is how long the unit has been active.
func (u Unit) Up() time.Duration { return time.Duration(u.UpSecs * float64(time.Second)) }

// properties are what Units asks for.
var properties = []string{
	"Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "Type", "RemainAfterExit", "NRestarts",
	"ActiveEnterTimestampMonotonic", "WantedBy", "RequiredBy", "UpheldBy", "BoundBy", "TriggeredBy",
	"FragmentPath", "Conflicts", "ConflictedBy", "ConditionResult", "ConditionTimestampMonotonic", "Job",
}

// kinds of units that are looked at: not slices, scopes and devices.
var kinds = []string{"*.service", "*.socket", "*.timer", "*.path", "*.mount", "*.target"}

// Units asks systemd for the units that it has loaded, and for those named, by each of their names.
// Without systemd there are none.
func Units(ctx context.Context, names ...string) (map[string]Unit, error) {
	if !Running() {
		return nil, nil
	}
	args := append([]string{"show", "--all", "--property=" + strings.Join(properties, ","), "--"}, kinds...)
	out, err := systemctl(ctx, append(args, names...)...)
	if err != nil {
		return nil, err
	}
	return parseUnits(out, monotonic()), nil
}

// Look asks systemd how its units are after a switch before which those named ran. Details are asked for only where
// [Judge] needs them: to ask for those of every unit takes systemd, and a verification, several times as long.
func Look(ctx context.Context, ran []string) (map[string]Unit, error) {
	if !Running() {
		return nil, nil
	}
	out, err := systemctl(ctx, append([]string{"list-units", "--all", "--full", "--plain", "--no-legend", "--"}, kinds...)...)
	if err != nil {
		return nil, err
	}
	units := parseList(out)
	names := inQuestion(units, ran)
	if len(names) == 0 {
		return units, nil
	}
	out, err = systemctl(ctx, append([]string{"show", "--property=" + strings.Join(properties, ","), "--"}, names...)...)
	if err != nil {
		return nil, err
	}
	blocks := parseBlocks(out)
	maps.Copy(units, unitsOf(blocks, up(units, blocks), monotonic()))
	return units, nil
}

// parseList reads what systemctl list-units prints.
func parseList(text string) map[string]Unit {
	units := map[string]Unit{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 4 {
			units[f[0]] = Unit{Name: f[0], Load: f[1], Active: f[2], Sub: f[3]}
		}
	}
	return units
}

// inQuestion returns the units of which more must be known than a list says. These are all that are neither active nor
// inactive, and what ran and does not. Of what ran and does, they are the services with a process, which may have
// been restarted, and the mounts, which may be left over. A name that is not primary is in no list.
func inQuestion(listed map[string]Unit, ran []string) []string {
	names := map[string]bool{}
	for _, name := range ran {
		u, primary := listed[name]
		kind := path.Ext(name)
		names[name] = !primary || u.Active != "active" || kind == ".service" && u.Sub != "exited" || kind == ".mount"
	}
	for name, u := range listed {
		names[name] = names[name] || u.Active != "active" && u.Active != "inactive"
	}
	maps.DeleteFunc(names, func(_ string, asked bool) bool { return !asked })
	return slices.Sorted(maps.Keys(names))
}

// parseUnits reads what systemctl show prints of all units.
func parseUnits(text string, now time.Duration) map[string]Unit {
	blocks := parseBlocks(text)
	return unitsOf(blocks, up(nil, blocks), now)
}

func parseBlocks(text string) (blocks []map[string]string) {
	for block := range strings.SplitSeq(text, "\n\n") {
		p := map[string]string{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
				p[name] = value
			}
		}
		if p["Id"] != "" {
			blocks = append(blocks, p)
		}
	}
	return blocks
}

// up are the units that are active. The blocks are newer than the list.
func up(listed map[string]Unit, blocks []map[string]string) map[string]bool {
	up := map[string]bool{}
	for name, u := range listed {
		up[name] = u.Active == "active"
	}
	for _, p := range blocks {
		up[p["Id"]] = p["ActiveState"] == "active"
	}
	return up
}

// unitsOf are the units of the blocks, by each of their names.
func unitsOf(blocks []map[string]string, up map[string]bool, now time.Duration) map[string]Unit {
	units := map[string]Unit{}
	for _, p := range blocks {
		u := unit(p, now)
		u.Wanted = anyOf(p["WantedBy"]+" "+p["RequiredBy"]+" "+p["UpheldBy"]+" "+p["BoundBy"], up)
		u.Triggered = anyOf(p["TriggeredBy"], up)
		u.Conflicted = anyOf(p["Conflicts"]+" "+p["ConflictedBy"], up)
		for _, name := range append(strings.Fields(p["Names"]), p["Id"]) {
			units[name] = u
		}
	}
	return units
}

func unit(p map[string]string, now time.Duration) Unit {
	u := Unit{
		Name: p["Id"], Load: p["LoadState"], Active: p["ActiveState"], Sub: p["SubState"], Result: p["Result"], Type: p["Type"],
		RemainAfterExit: p["RemainAfterExit"] == "yes",
		Unmet:           p["ConditionResult"] == "no" && p["ConditionTimestampMonotonic"] != "0", // which a unit that was never started has
		Defined:         p["FragmentPath"] != "",
		Queued:          p["Job"] != "" && p["Job"] != "0",
	}
	u.Restarts, _ = strconv.Atoi(p["NRestarts"])
	if since, err := strconv.ParseInt(p["ActiveEnterTimestampMonotonic"], 10, 64); err == nil && since > 0 && u.Active == "active" {
		u.UpSecs = max(0, (now - time.Duration(since)*time.Microsecond).Seconds())
	}
	return u
}

func anyOf(names string, in map[string]bool) bool {
	return slices.ContainsFunc(strings.Fields(names), func(name string) bool { return in[name] })
}

// monotonic is the time that systemd's monotonic time stamps count in.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// UnitSum tells one state of a unit from another, as far as a restart of it would have it: its text, its
// drop-ins, and the files that its environment and its credentials come from. It is "" where there is no
// such unit.
func UnitSum(ctx context.Context, unit string) string {
	text, err := systemctl(ctx, "cat", unit)
	if err != nil {
		return ""
	}
	sum := sha256.New()
	_, _ = io.WriteString(sum, text)
	for _, path := range unitFiles(text) {
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "\x00%s\x00%t\x00%s", path, err == nil, data)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// unitFiles returns the files that the text of a unit has its environment and its credentials from.
func unitFiles(text string) []string {
	var paths []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "EnvironmentFile":
			value = strings.TrimPrefix(value, "-")
		case "LoadCredential", "LoadCredentialEncrypted":
			_, value, _ = strings.Cut(value, ":")
		default:
			continue
		}
		if path.IsAbs(value) {
			paths = append(paths, value)
		}
	}
	return paths
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
