package nixos

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var suites = []string{"bookworm", "trixie"} // systemd 252 and 257

// TestWhatBecomesOfAVersion runs the scenarios on each flavour of switch-to-configuration and each systemd, and
// prints how they ended as the table of docs/design. It runs a slice of them, but all of them where
// NPCNIX_TEST_MATRIX is set, as `make matrix` does. NPCNIX_TEST_COLUMN and NPCNIX_TEST_SCENARIO are patterns of the
// columns, such as rust-now/trixie, and of the scenarios that are run. What the table knows is kept in
// .cache/matrix.tsv, so that it can be filled by several runs.
func TestWhatBecomesOfAVersion(t *testing.T) {
	whole := os.Getenv("NPCNIX_TEST_MATRIX") != ""
	only := os.Getenv("NPCNIX_TEST_COLUMN")
	pattern := os.Getenv("NPCNIX_TEST_SCENARIO")
	module := Module(t)
	var ends table
	if whole || only != "" {
		ends.file = "../../.cache/matrix.tsv"
		ends.load()
	}
	t.Run("columns", func(t *testing.T) {
		for _, flavour := range Flavours {
			for _, suite := range suites {
				column := flavour + "/" + suite
				// The slice is of the newest and the oldest there are.
				if only != "" && !regexp.MustCompile(only).MatchString(column) || only == "" && !whole && column != RustNow+"/trixie" && column != Perl2022+"/bookworm" {
					continue
				}
				t.Run(column, func(t *testing.T) {
					t.Parallel()
					h := New(t, Options{Suite: suite, Flavour: flavour, Agent: agentBinary, Module: module})
					for _, s := range scenarios {
						if pattern != "" && !regexp.MustCompile(pattern).MatchString(s.name) || slices.Contains(s.unknown, flavour) {
							continue
						}
						if s.slice || whole || only != "" {
							h.meets(s, column, &ends)
						}
					}
				})
			}
		}
	})
	report := ends.String()
	t.Log("\n" + report)
	if whole || only != "" {
		if err := os.WriteFile("../../.cache/matrix.md", []byte(report), 0o644); err != nil { // for make matrix, as go test shows no log of what passes
			t.Error(err)
		}
	}
}

// meets has the host meet one scenario.
func (h *Host) meets(s scenario, column string, ends *table) {
	outer := h.t.(*testing.T)
	outer.Run(s.name, func(t *testing.T) {
		h.use(t)
		defer h.use(outer)
		ended := "?"
		defer func() {
			if t.Failed() {
				ended += " (!)"
			}
			ends.add(s.name, column, ended)
		}()
		h.stand(s.before)
		if s.prepare != nil {
			s.prepare(h)
		}
		version, etag := h.Publish(s.name, s.change)
		if s.meanwhile != nil {
			s.meanwhile(h, version, etag)
		}
		r := h.Final(etag)
		if s.want != "reboot_pending" && r.Status == "reboot_pending" { // it was restarted, and its agent is yet to say so
			r = h.afterReboots(etag)
		}
		ended = r.Status
		if r.Status != s.want && (s.or == "" || r.Status != s.or) {
			t.Errorf("%s is %s, want %s: %s", version, r.Status, s.want, r.Text())
		}
		for _, text := range s.says {
			if !strings.Contains(r.Text(), text) {
				t.Errorf("the record lacks %q: %s", text, r.Text())
			}
		}
		runs := h.Applied
		if r.Status == "applied" {
			h.Applied, h.current, runs = version, s.change, version
		}
		if s.stays != "" {
			h.current, runs = "?", s.stays
		} else {
			h.stands(runs)
		}
		if got := h.Runs(); got != runs {
			t.Errorf("%s runs, want %s", got, runs)
		}
		if !s.fails {
			if out := h.Must("systemctl", "list-units", "--failed", "--plain", "--no-legend"); strings.TrimSpace(out) != "" {
				t.Errorf("units have failed: %s", out)
			}
		}
		if s.after != nil {
			s.after(h)
		}
		if t.Failed() {
			t.Logf("journal:\n%s", h.Journal())
		}
	})
}

// stand sees to it that the host runs the system of a module.
func (h *Host) stand(module string) {
	h.t.Helper()
	if module == "" {
		module = "{ }"
	}
	if h.current == module {
		return
	}
	version, etag := h.Publish("before", module)
	r := h.Final(etag)
	if r.Status == "reboot_pending" { // as after a scenario that was about that
		h.Kill()
		h.Boot()
		r = h.afterReboots(etag)
	}
	if r.Status != "applied" {
		h.t.Fatalf("what runs before is %s: %s\n%s", r.Status, r.Text(), h.Journal())
	}
	h.Applied, h.current = version, module
	_, _ = h.Run("systemctl", "reset-failed")
}

// stands checks that the host runs a version and boots it, and that nothing is under way or left of it.
func (h *Host) stands(version string) {
	h.t.Helper()
	h.Await("the end of the activation", h.Ended)
	if got := h.Profiled(); got != version {
		h.t.Errorf("the profile has %s, want %s", got, version)
	}
	if got := h.Boots(); got != version {
		h.t.Errorf("the boot loader starts %s, want %s", got, version)
	}
	h.Await("no unit of npcnix's to be left", func() bool {
		left, _ := h.Run("systemctl", "list-units", "--all", "--plain", "--no-legend", "npcnix-activate*", "npcnix-rollback*")
		return strings.TrimSpace(left) == ""
	})
	h.Await("the agent to run", func() bool { return h.State("npcnix") == "active" })
}

// table is what became of the scenarios.
type table struct {
	mu      sync.Mutex
	rows    []string
	columns []string
	ended   map[string]string
	file    string // keeps them; "" for none
}

// load reads what earlier runs have kept.
func (t *table) load() {
	text, _ := os.ReadFile(t.file)
	for line := range strings.Lines(string(text)) {
		if cell := strings.Split(strings.TrimSuffix(line, "\n"), "\t"); len(cell) == 3 {
			t.set(cell[0], cell[1], cell[2])
		}
	}
}

func (t *table) add(row, column, ended string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(row, column, ended)
	if t.file == "" {
		return
	}
	if file, err := os.OpenFile(t.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		fmt.Fprintf(file, "%s\t%s\t%s\n", row, column, ended)
		_ = file.Close()
	}
}

func (t *table) set(row, column, ended string) {
	if t.ended == nil {
		t.ended = map[string]string{}
	}
	if !slices.Contains(t.columns, column) {
		t.columns = append(t.columns, column)
		slices.Sort(t.columns)
	}
	if !slices.Contains(t.rows, row) {
		t.rows = append(t.rows, row)
	}
	t.ended[row+"\n"+column] = ended
}

func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what happens | %s |\n|---|%s\n", strings.Join(t.columns, " | "), strings.Repeat("---|", len(t.columns)))
	for _, s := range scenarios {
		if !slices.Contains(t.rows, s.name) {
			continue
		}
		fmt.Fprintf(&b, "| %s |", s.name)
		for _, column := range t.columns {
			ended := t.ended[s.name+"\n"+column]
			switch flavour, _, _ := strings.Cut(column, "/"); {
			case slices.Contains(s.unknown, flavour):
				ended = "–"
			case ended == "":
				ended = "not run"
			}
			fmt.Fprintf(&b, " %s |", strings.ReplaceAll(ended, "_", " "))
		}
		b.WriteString("\n")
	}
	return b.String()
}
