package activation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// Units, under systemd, by the beginning of their names: the worker's, and the rollback timer's, a service
// and its timer. Each activation has units of its own: after a switch has had systemd reload its files,
// systemd warns of a transient unit that is made again.
const (
	workerUnit   = "npcnix-activate"
	timerUnit    = "npcnix-rollback"
	agentService = "npcnix.service"
	defaultDir   = "/var/lib/npcnix"
)

// unitName is the name of a unit of an activation, without its type: npcnix-activate-ID, or with a data
// directory of its own, as in tests, npcnix-activate-SUM-ID. what tells several of an activation apart.
func unitName(dir, base, id, what string) string {
	name := unitBase(dir, base) + "-" + shortID(id)
	if what != "" {
		name += "-" + what
	}
	return name
}

func unitBase(dir, base string) string {
	if dir == defaultDir {
		return base
	}
	return base + "-" + shortSum(dir)
}

// shortID is what the names of units have of an activation's id.
func shortID(id string) string {
	if !plainID.MatchString(id) {
		return shortSum(id)
	}
	return id[:idLength]
}

const idLength = 8

var plainID = regexp.MustCompile(fmt.Sprintf(`^[a-z0-9]{%d,}$`, idLength))

func shortSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:idLength/2])
}

// detach starts a process that outlives this one. What it logs goes to activation.log in dir.
func detach(dir string, args []string, mode int) error {
	log, err := os.OpenFile(filepath.Join(dir, "activation.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW|mode, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: start %s: %w", nix.ErrMachine, args[0], err)
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie; how it ended is on disk
	return nil
}

// note writes down what systemd's units do before the switch. Without systemd there are none.
func (j *Journal) note(ctx context.Context) error {
	all, err := systemd.Units(ctx)
	if err != nil {
		return err
	}
	j.Units = all
	for name, u := range all {
		switch {
		case u.Fails():
			j.Failed = append(j.Failed, name)
		case u.Ran():
			j.Ran = append(j.Ran, name)
		}
	}
	slices.Sort(j.Ran)
	slices.Sort(j.Failed)
	return nil
}

// conduct is what a unit did before the switch. An older npcnix wrote only names.
func (j *Journal) conduct(name string) systemd.Unit {
	if j.Units != nil {
		return j.Units[name]
	}
	switch {
	case slices.Contains(j.Ran, name):
		return systemd.Unit{Load: "loaded", Active: "active"}
	case slices.Contains(j.Failed, name):
		return systemd.Unit{Load: "loaded", Active: "failed"}
	}
	return systemd.Unit{}
}

// UnitsFailed reports whether the last switch says that units fail, which may have failed before.
func (j *Journal) UnitsFailed() bool { return j.ExitCode == exitUnits }

// Failing are units that a switch did no good, each with how it is.
type Failing struct {
	Failed     []string // that ran before
	Restarting []string // that ran before: they are not up yet, or end and are started again
	New        []string // that did not run before
	Left       []string // mounts that the new system does not have, and that are busy
	// Restarts tells of all that ran before how often they were started again since they were last
	// started on purpose: between two looks they may have ended and run again.
	Restarts map[string]string
}

// NewlyFailing returns the units that do worse than before the activation j, as [systemd.Judge] has it.
// It omits those that match one of the patterns of exempt (path.Match), and npcnix's own. Without
// systemd there are none.
func (c *Coordinator) NewlyFailing(ctx context.Context, j Journal, exempt []string) (Failing, error) {
	f := Failing{Restarts: map[string]string{}}
	all, err := systemd.Look(ctx, j.Ran)
	if err != nil {
		return f, nix.Blame(ctx, err)
	}
	exempt = append([]string{workerUnit + "*", timerUnit + "*", j.AgentUnit}, exempt...)
	named := notStarted(j.Tail)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if systemd.Match(exempt, name) {
			continue
		}
		before, now := j.conduct(name), all[name]
		verdict, how := systemd.Judge(before, now, slices.Contains(named, name))
		said := now.Name + " (" + how + ")"
		switch verdict {
		case systemd.Broken:
			f.Failed = append(f.Failed, said)
		case systemd.Waiting:
			f.Restarting = append(f.Restarting, said)
		case systemd.Failing:
			f.New = append(f.New, said)
		case systemd.Left:
			f.Left = append(f.Left, now.Name)
		}
		if before.Steady() {
			f.Restarts[now.Name] = strconv.Itoa(now.Restarts)
		}
	}
	// A unit of several names was judged by each.
	for _, list := range []*[]string{&f.Failed, &f.Restarting, &f.New, &f.Left} {
		*list = slices.Compact(*list)
	}
	return f, nil
}

// Words of switch-to-configuration about units that it could not start: of the Rust one, and of systemctl
// in the Perl one.
var notStartedLine = regexp.MustCompile(`^(?:Failed to (?:start|restart|reload)|(?:Job|A dependency job) for) ([^ ]+\.[a-z]+)`)

// notStarted returns the units that a switch says it could not start.
func notStarted(lines []string) []string {
	var names []string
	for _, line := range lines {
		if found := notStartedLine.FindStringSubmatch(line); found != nil {
			names = append(names, found[1])
		}
	}
	return names
}
