package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
)

// The bounds of the judgements. docs/safety.md promises them.
const (
	lasts         = 10 * time.Minute // a fault that befalls an idle agent
	lastsAtWork   = 4 * time.Minute  // any other, unless AWS tells of it: one that outlasts a verification's five minutes rolls back
	mostRequests  = 120              // a minute, while a fault lasts
	mostLines     = 4                // a minute, in the log
	heals         = 4 * time.Minute
	healsMessages = 16 * time.Minute // and records
)

// A moment is what the agent does when a fault begins.
type moment string

const (
	idle      moment = "idle"
	fetching  moment = "fetching"
	building  moment = "building"
	verifying moment = "verifying"
)

var moments = []moment{idle, fetching, building, verifying}

// measured is what a case has shown.
type measured struct {
	applied  time.Duration // from the fault's end until the version runs; less than zero: while it lasted
	healed   time.Duration // until nothing is left of it
	requests float64       // a minute
	lines    float64       // in the log, a minute
	said     string        // by the record meanwhile
}

// TestFaults is the matrix: each fault at each moment, or, unless NPCNIX_TEST_FAULTS is "all",
// every other fault at one of them.
func TestFaults(t *testing.T) {
	for version := range 4 {
		flakes(version) // outside of bubbles
	}
	all := os.Getenv("NPCNIX_TEST_FAULTS") == "all"
	var rows []string
	n := 0
	for _, group := range groups {
		for _, f := range group.faults {
			if f.tells == "" && !f.hidden {
				f.tells = group.tells
			}
			var row []measured
			for i, m := range moments {
				if !all && (n%2 != 0 || i != n/2%len(moments)) {
					continue
				}
				t.Run(group.name+"/"+f.name+"/"+string(m), func(t *testing.T) {
					t.Setenv("TMPDIR", memory(t))
					dir := t.TempDir()
					if f.disk {
						mount(t, dir)
					}
					synctest.Test(t, func(t *testing.T) { row = append(row, f.run(t, dir, m)) })
				})
			}
			rows = append(rows, rowOf(group.name, f.name, row))
			n++
		}
	}
	if n < 40 {
		t.Errorf("%d faults are too few", n)
	}
	if all {
		write(t, rows)
	}
}

// memory is where files need no disk, which would take the time that bubbles do not.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "npcnix-faults-")
	if err != nil {
		return os.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	return dir
}

// mount makes dir a small file system of its own.
func mount(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0755"); err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatalf("mount a small file system: %v", err)
		}
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
}

// run has the fault begin at a moment, and judges what becomes of the host.
func (f fault) run(t *testing.T, dir string, m moment) measured {
	w := newWorld(t, dir)
	w.publish(1)
	w.begin()
	time.Sleep(2 * time.Minute)
	if got := w.applied(); got != 1 {
		t.Fatalf("before the fault, version %d is applied\n%s", got, w.logs.String())
	}

	end := f.beginAt(w, m)
	began := time.Now()
	requests, lines := w.requests(), w.logs.lines()
	lasting := lasts
	if m != idle && !(m == verifying && f.outage) {
		lasting = lastsAtWork
	}
	if m == idle {
		time.Sleep(time.Minute)
		w.publish(2)
	}
	time.Sleep(time.Until(began.Add(lasting)))

	got := measured{
		requests: float64(w.requests()-requests) / lasting.Minutes(),
		lines:    float64(w.logs.lines()-lines) / lasting.Minutes(),
		said:     f.truth(w, m),
	}
	early := w.applied() == 2 && m != verifying
	end()
	got.applied, got.healed = w.heal()
	if m == building { // the rest of the build, and the switch, are no delay
		rest := buildTime + switchTime - lasting
		got.applied, got.healed = max(0, got.applied-rest), max(0, got.healed-rest)
	}
	if early {
		got.applied = -1
	}
	f.judge(w, m, got)

	return got
}

// beginAt lets the world come to the moment, and the fault begin.
func (f fault) beginAt(w *world, m moment) (end func()) {
	if m == idle {
		return f.begin(w)
	}

	reached := make(chan struct{})
	go_on := make(chan struct{})
	var once sync.Once
	stop := func() { once.Do(func() { close(reached); <-go_on }) }
	switch m {
	case fetching:
		w.proxy.mu.Lock()
		w.proxy.fetching = stop
		w.proxy.mu.Unlock()
	case building:
		w.host.set(func(h *host) { h.builds, h.slow = stop, true })
	case verifying:
		w.host.set(func(h *host) { h.switches = stop })
	}
	w.publish(2)
	<-reached
	end = f.begin(w)
	close(go_on)

	return end
}

// heal waits until the host has the version, nothing is left in its queue, and its record says so.
func (w *world) heal() (applied, healed time.Duration) {
	ended := time.Now()
	for time.Since(ended) < healsMessages && w.ended == nil {
		synctest.Wait() // the end of some faults breaks connections
		if applied == 0 && w.applied() == 2 {
			applied = time.Since(ended)
		}
		if w.whole() == "" {
			return applied, time.Since(ended)
		}
		time.Sleep(5 * time.Second)
	}

	return applied, time.Since(ended)
}

// applied is the version that the host remembers to have applied.
func (w *world) applied() int {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	version := 0
	_, _ = fmt.Sscanf(w.host.running, "/nix/store/system-%d", &version)

	return version
}

// whole says what is left of a fault; "" if nothing is.
func (w *world) whole() string {
	rec, h := w.record(), w.health()
	visible, inFlight, delayed := w.cloud.Depth(w.queueURL)
	switch {
	case w.applied() != 2:
		return fmt.Sprintf("version %d runs", w.applied())
	case visible+inFlight+delayed > 0:
		return fmt.Sprintf("messages are left: %d visible, %d in flight", visible, inFlight)
	case rec.Status != record.Applied || rec.System != "/nix/store/system-2" || rec.Trouble != nil:
		return fmt.Sprintf("the record says %s of %s, trouble %+v", rec.Status, rec.System, rec.Trouble)
	case h.TransientError != "":
		return "status says " + h.TransientError
	}
	for code, part := range h.Parts {
		if !part.Works {
			return fmt.Sprintf("status says that %s fails: %s", code, part.Error)
		}
	}

	return ""
}

// truth checks that record and status say what keeps the host from its version, if anything does. It returns what
// they say.
func (f fault) truth(w *world, m moment) string {
	rec, h := w.record(), w.health()
	var failing []health.Code
	for code, part := range h.Parts {
		if !part.Works {
			failing = append(failing, code)
		}
	}
	slices.Sort(failing)
	always := f.tells == health.Queue || f.tells == health.Record // the others are met by a round alone
	if f.tells != "" && (always || m == idle || m == fetching) && !slices.Contains(failing, f.tells) &&
		(rec.Trouble == nil || rec.Trouble.Kind != string(f.tells) && !(f.tells == health.Store && rec.Trouble.Kind == string(health.Fetch))) {
		w.Errorf("neither status nor record tells that %s fails: %v, %+v", f.tells, failing, rec.Trouble)
	}
	if w.applied() == 2 && (rec.Status == record.Applied || rec.Status == record.Activating) {
		return said("applied", rec, failing)
	}

	s, err := agent.ReadState(w.dir)
	works := err == nil && s.Intent != nil // and so nothing is wrong that it knows of
	if h.TransientError == "" && len(failing) == 0 && !works && f.tells != "" {
		w.Errorf("nothing runs, and status says nothing of it: %+v", h)
	}
	if !f.unrecorded && rec.Trouble == nil && !works && f.tells != "" {
		w.Errorf("the record tells of no trouble: %+v", rec)
	}

	return said(string(rec.Status), rec, failing)
}

func said(status string, rec record.Record, failing []health.Code) string {
	if rec.Trouble != nil {
		status += ", trouble: " + rec.Trouble.Kind
	}
	if len(failing) > 0 {
		status += fmt.Sprintf("; status: %s", failing)
	}
	return status
}

// judge is the five judgements.
func (f fault) judge(w *world, m moment, got measured) {
	limit := heals
	if m == building {
		limit += lastsAtWork // a build may have to begin again
	}
	if w.ended != nil {
		w.Errorf("the agent has ended: %v", w.ended)
	}
	if got.requests > float64(max(mostRequests, f.requests)) || got.lines > mostLines {
		w.Errorf("%.0f requests and %.1f lines a minute", got.requests, got.lines)
	}
	if left := w.whole(); left != "" {
		w.Errorf("%s after its end, %s", got.healed, left)
	}
	if got.applied > limit {
		w.Errorf("the version was applied %s after the fault's end", got.applied)
	}
	if s, err := agent.ReadState(w.dir); err != nil || s.Failure != nil {
		w.Errorf("a version has failed: %+v, %v", s.Failure, err)
	}
	if w.Failed() {
		w.Logf("measured: %+v\n%s", got, tail(w.logs.String(), 40))
	}
}

func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// rowOf is a fault's row in the table: the worst of its cases.
func rowOf(group, name string, row []measured) string {
	var worst measured
	worst.applied = -1
	var said []string
	for _, m := range row {
		worst.applied, worst.healed = max(worst.applied, m.applied), max(worst.healed, m.healed)
		worst.requests, worst.lines = max(worst.requests, m.requests), max(worst.lines, m.lines)
		if !slices.Contains(said, m.said) {
			said = append(said, m.said)
		}
	}
	applied := "meanwhile"
	if worst.applied >= 0 {
		applied = worst.applied.String()
	}

	return fmt.Sprintf("| %s: %s | %s | %s | %.0f | %.1f |", group, name, applied, worst.healed, worst.requests, worst.lines)
}

// write writes the table, which docs/safety.md shows.
func write(t *testing.T, rows []string) {
	t.Helper()
	table := "| fault | applied after its end | whole after its end | requests a minute | log lines a minute |\n|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	file := filepath.Join("..", "..", ".cache", "faults.md")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
		_ = os.WriteFile(file, []byte(table), 0o644)
	}
	t.Log("\n" + table)
}
