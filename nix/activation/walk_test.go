package activation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// fakeMachine is what a worker sees of a machine, in memory. Any call may be the worker's last (crash), and
// may fail. It watches that nothing boots that is not verified.
type fakeMachine struct {
	t       *testing.T
	random  *rand.Rand
	journal *Journal // of the worker at work

	running, profiled string
	boots             string         // by the boot loader's configuration
	generations       map[string]int // by system
	touched           bool           // an operator has changed something
	touchedBoot       bool           // what boots, or the profile
	verified          bool           // the new system was
	verifiedAs        string         // what ran then
	rebooting         bool           // was asked for

	otherKernel bool // the new system has one

	newest  bool // the boot loader makes the newest generation the default, whatever it is told
	trouble bool // calls may fail, crash, and be disturbed
	failing int  // percentage of calls that fail
}

// crash ends a worker as kill -9 does.
type crash struct{}

func (m *fakeMachine) chance(percent int) bool { return m.trouble && m.random.IntN(100) < percent }

// mayCrash is called before and after each change of the machine.
func (m *fakeMachine) mayCrash() {
	if m.chance(7) {
		panic(crash{})
	}
}

var errMachine = errors.New("the machine does not")

func (m *fakeMachine) Current(context.Context) (nix.System, error) {
	return nix.System{Path: m.running}, nil
}

func (m *fakeMachine) Profiled() (nix.System, int, error) {
	return nix.System{Path: m.profiled}, m.generations[m.profiled], nil
}

func (m *fakeMachine) RestoresTo(link string, ran nix.System) nix.System {
	for system := range m.generations {
		if system == link {
			return nix.System{Path: system}
		}
	}
	return ran
}

func (m *fakeMachine) Repair(context.Context, nix.System) (bool, error) { return false, nil }

func (m *fakeMachine) Switchable(nix.System) error { return nil }
func (m *fakeMachine) Reboots() bool               { return true }

func (m *fakeMachine) NewestGeneration() (int, error) {
	if m.chance(5) {
		return 0, errMachine
	}
	_, n := m.newestGeneration()
	return n, nil
}

func (m *fakeMachine) newestGeneration() (system string, newest int) {
	for s, n := range m.generations {
		if n > newest {
			system, newest = s, n
		}
	}
	return system, newest
}

func (m *fakeMachine) DropGeneration(s nix.System, after int) error {
	m.mayCrash()
	if n, is := m.generations[s.Path]; is && n > after && s.Path != m.profiled {
		delete(m.generations, s.Path)
	}
	m.mayCrash()
	return nil
}

func (m *fakeMachine) StartStopped(context.Context, *Journal) []string { return nil }

func (m *fakeMachine) SetProfile(_ context.Context, s nix.System) error {
	m.mayCrash()
	if m.chance(m.failing) {
		return errMachine
	}
	m.profiled, m.generations[s.Path] = s.Path, len(m.generations)+1
	m.mayCrash()
	return nil
}

func (m *fakeMachine) RestoreProfile(_ context.Context, link string, _ nix.System) error {
	m.mayCrash()
	if m.chance(m.failing) {
		return errMachine
	}
	m.profiled = link
	m.mayCrash()
	return nil
}

// exit is the error of a process that ended with a status.
func exit(status int) error {
	return exec.Command("/bin/sh", "-c", "exit "+strconv.Itoa(status)).Run()
}

var statuses = map[int]error{1: exit(1), 2: exit(2), 4: exit(4), exitBusy: exit(exitBusy), exitInit: exit(exitInit)}

func (m *fakeMachine) Switch(_ context.Context, r switchRun) outcome {
	m.mayCrash()
	fails := func(status int, tail ...string) outcome {
		return outcome{err: statuses[status], exit: status, tail: tail}
	}
	switch {
	case m.chance(m.failing):
		return fails(1, "a check fails")
	case m.chance(5):
		m.operator()
		return fails(exitBusy, "could not acquire lock")
	case r.action == "test" && !r.noCheck && m.chance(5):
		return fails(exitInit)
	case r.action == "boot":
		m.wantBootable(r.system)
		// Boot loaders know of no other than the profile's.
		if m.profiled != "" {
			m.boots = m.profiled
		}
		if system, _ := m.newestGeneration(); m.newest && system != "" {
			m.boots = system
		}
		m.mayCrash()
		if m.chance(5) {
			return fails(1, "the boot loader is full")
		}
		return outcome{}
	}
	m.running = r.system
	m.mayCrash()
	switch {
	case m.chance(5):
		return fails(2)
	case m.chance(5):
		return fails(4)
	}
	return outcome{}
}

// wantBootable checks that what is made what boots is verified, or can only be booted.
func (m *fakeMachine) wantBootable(system string) {
	j := m.journal
	if system == j.System && j.Phase != RollingBack && !j.BootOnly && !m.verified {
		m.t.Errorf("%s is made what boots in phase %s, and was not verified", system, j.Phase)
	}
}

func (m *fakeMachine) BootsOther(_, _ nix.System) bool  { return m.otherKernel }
func (m *fakeMachine) Flush() error                     { m.mayCrash(); return nil }
func (m *fakeMachine) KillSwitch(string)                {}
func (m *fakeMachine) Prune(int, string, ...nix.System) {}
func (m *fakeMachine) ReleaseBuilt(nix.System)          {}
func (m *fakeMachine) ReleasePrevious()                 {}

func (m *fakeMachine) Reboot(context.Context) error {
	if m.chance(20) {
		return errMachine
	}
	m.rebooting = true
	panic(crash{}) // as the worker ends with the machine
}

// reboot restarts the machine: what boots runs.
func (m *fakeMachine) reboot() {
	m.rebooting = false
	m.running = m.boots
}

// operator does what a person may do at any time.
func (m *fakeMachine) operator() {
	m.touched = true
	switch m.random.IntN(3) {
	case 0: // nixos-rebuild test
		m.running = other
	case 1: // nixos-rebuild boot
		m.profiled, m.boots, m.generations[other] = other, other, 9
		m.touchedBoot = true
	case 2: // nixos-rebuild switch
		m.running, m.profiled, m.boots, m.generations[other] = other, other, other, 9
		m.touchedBoot = true
	}
}

// walk is one activation that is disturbed at random, from its request to its end.
type walk struct {
	*fakeMachine
	dir   string
	steps []string
}

// work is a worker, whose end may be a crash.
func (w *walk) work() {
	j, err := Read(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.journal = j
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case crash:
			w.steps = append(w.steps, "crash")
		default:
			panic(r)
		}
	}()
	worker := &worker{Journal: j, machine: w.fakeMachine, dir: w.dir, log: slog.New(slog.DiscardHandler)}
	if err := worker.toItsEnd(context.Background()); err != nil {
		w.steps = append(w.steps, err.Error())
	}
}

// verify is what the agent, or the rollback timer, makes of a system that runs.
func (w *walk) verify(j *Journal) error {
	if w.chance(30) || w.running != j.System {
		return j.toRollback(w.dir, CauseVersion, "verify")
	}
	w.verified, w.verifiedAs = true, w.running
	return j.advance(w.dir, Committing)
}

// step goes on with what is on disk, as whoever comes next does.
func (w *walk) step(restarted bool) (ended bool) {
	j, err := Read(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if restarted {
		if err := j.afterBoot(context.Background(), w.dir, w.fakeMachine); err != nil {
			w.t.Fatal(err)
		}
	}
	w.steps = append(w.steps, fmt.Sprintf("%s (running %s, profile %s, boots %s)", j.Phase, w.running, w.profiled, w.boots))
	switch j.Phase {
	case Verifying:
		err = w.verify(j)
	case RebootPending:
		if w.chance(30) {
			err = j.toRollback(w.dir, CauseSuperseded, "another is wanted")
		} else {
			w.rebooting = true
		}
	default:
		if !j.Phase.Ended() {
			w.work()
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return j.Phase.Ended()
}

// end checks what is to hold when an activation has ended.
func (w *walk) end() Phase {
	j, err := Read(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	switch j.Phase {
	case Committed:
		if !w.verified || w.verifiedAs != j.System {
			w.t.Errorf("committed without being verified")
		}
		if !w.touched && (w.running != j.System || w.profiled != j.System || w.boots != j.System) {
			w.t.Errorf("committed, and %s runs, the profile has %s, %s boots", w.running, w.profiled, w.boots)
		}
	case RolledBack:
		if !w.touched && (w.running != oldSystem || w.profiled != oldSystem || w.boots != oldSystem) {
			w.t.Errorf("rolled back (%s), and %s runs, the profile has %s, %s boots", j.Cause, w.running, w.profiled, w.boots)
		}
		if w.boots == newSystem && j.Cause != CauseBusy {
			w.t.Errorf("rolled back, and the new system boots")
		}
	}
	operators := w.newest && w.touchedBoot // generation is the newest, which boots whatever the profile has
	if w.profiled != w.boots && j.Phase != RollbackFailed && !operators {
		w.t.Errorf("%s: the profile has %s, and %s boots", j.Phase, w.profiled, w.boots)
	}
	return j.Phase
}

// Whatever happens, and whenever, an activation ends: never committed without having been verified, never with
// one system in the profile and another that boots, and, unless an operator has interfered, with the same
// system running.
const walks = 250

func TestRandomWalksEndWithOneSystem(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("NPCNIX_TEST_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	ends := map[Phase]int{}
	for n := range walks {
		synctest.Test(t, func(t *testing.T) {
			w := &walk{dir: dir, fakeMachine: &fakeMachine{
				t: t, random: rand.New(rand.NewPCG(seed, uint64(n))), trouble: true,
				running: oldSystem, profiled: oldSystem, boots: oldSystem, generations: map[string]int{oldSystem: 1},
				otherKernel: n%2 == 0, newest: n%3 == 0, failing: []int{5, 5, 40, 70}[n%4],
			}}
			ends[w.toItsEnd()]++
			if t.Failed() {
				t.Fatalf("NPCNIX_TEST_SEED=%d, walk %d: %q", seed, n, w.steps)
			}
		})
		if t.Failed() {
			break
		}
	}
	t.Logf("how %d walks ended: %v", walks, ends)
	for _, p := range []Phase{Committed, RolledBack, RollbackFailed} {
		if ends[p] == 0 && !t.Failed() {
			t.Errorf("no walk ended with %s: the walks are too tame", p)
		}
	}
}

func (w *walk) toItsEnd() Phase {
	j := &Journal{
		Schema: journalSchema, ID: "walk", System: newSystem, Previous: oldSystem, ProfileSystem: oldSystem, ProfileLink: oldSystem,
		SwitchSecs: 900, VerifySecs: 300, BootOnly: w.random.IntN(4) == 0, BootOnlyWhy: "init",
	}
	if err := j.advance(w.dir, Pending); err != nil {
		w.t.Fatal(err)
	}
	for i := range 200 {
		w.trouble = i < 40
		restarted := w.rebooting || w.chance(10)
		if restarted {
			w.steps = append(w.steps, "reboot")
			w.reboot()
		}
		if w.chance(3) {
			w.steps = append(w.steps, "operator")
			w.operator()
		}
		if w.step(restarted) {
			return w.end()
		}
	}
	w.t.Error("it does not end")
	return w.end()
}

var _ machine = (*fakeMachine)(nil)
