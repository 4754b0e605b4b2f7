package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

func TestRoster(t *testing.T) {
	t.Run("a table tells what hosts run, who is behind and who is silent", testRosterTable)
	t.Run("after a rollback, what runs and what is wanted differ", testRosterRollback)
	t.Run("a board that is too low shows first what an operator has to look at", testBoard)
	t.Run("waves, health, and reasons without hashes are shown, in 80 columns", testRosterWaves)
	t.Run("a watch shows only news and survives the store", testRosterNews)
	t.Run("if nothing is published, the records are shown", testRosterUnpublished)
	t.Run("a watch ends if the records cannot be read", testRosterForbidden)
}

func testRosterTable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1", "system", "/nix/store/01234567890123456789012345678901-nixos", "reboot_due", true)
		s.says("web2", "applied", "v1")
		s.put("web3", "garbage")
		Sleep(t.Context(), 3*time.Hour)
		s.publish("v2")
		Sleep(t.Context(), 30*time.Minute)
		s.says("web2", "applied", "v2", "warning", "what boots\x1b[2J is unknown")
		r := &Roster{Store: s, Stale: time.Hour}
		rows, now, err := r.Look(t.Context())
		if err != nil || now.ETag != "v2" {
			t.Fatal(now, err)
		}
		want := `HOST  RUNS  WANTED  STATUS      HEARD
web1  v1    v1      behind 30m  3h30m ago, silent
  a reboot is due
web2  v2    v2      applied     0s ago
  warning: what boots[2J is unknown
web3  -     -       unreadable  3h30m ago, silent
  damaged record: invalid character 'g' looking for beginning of value
3 hosts, 2 behind v2, 2 silent
`
		if text := Table(rows, rows, now, 0); text != want {
			t.Errorf("got\n%s", text)
		}
		for line := range strings.Lines(Table(rows, rows, now, 40)) {
			if columns(strings.TrimSuffix(line, "\n")) > 40 {
				t.Errorf("%q is wider than the terminal", line)
			}
		}
		if got := (rows[0].Behind && rows[0].Silent && rows[0].RebootDue && *rows[0].BehindBy == 1800) && !rows[1].Behind && !rows[1].Silent; !got {
			t.Errorf("%+v", rows)
		}
	})
}

func testRosterNews(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		s.says("web2", "building", "v1")
		at(t, 12*time.Second, func() { s.says("web2", "applied", "v1") })
		at(t, 22*time.Second, func() { s.fail(errors.New("503")) })
		at(t, 42*time.Second, func() { s.fail(nil); s.says("web1", "failed", "v1") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var shown, warned []string
		r := &Roster{Store: s, Stale: time.Hour}
		at(t, 52*time.Second, func() { s.forget("web2") })
		err := r.Watch(ctx, 5*time.Second, true, func(rows, all []Row, now store.Version) error {
			for _, row := range rows {
				shown = append(shown, row.Host+" "+row.Status)
			}
			if text := Table(rows, all, now, 0); !strings.Contains(text, "\n2 hosts, ") {
				t.Errorf("the sums are not of all hosts:\n%s", text)
			}
			return nil
		}, func(msg string) { warned = append(warned, msg) })
		if want := []string{"web1 applied", "web2 building", "web2 applied", "web1 failed"}; err != nil || !slices.Equal(shown, want) {
			t.Errorf("%v: %q", err, shown)
		}
		if want := []string{"the records cannot be read, trying again: 503", "the record of web2 is gone"}; !slices.Equal(warned, want) {
			t.Errorf("warned %q", warned)
		}
		if s.count("get") != 4 {
			t.Errorf("%d records were read, want 4", s.count("get"))
		}
	})
}

func testRosterUnpublished(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("")
		r := &Roster{Store: s, Stale: time.Hour}
		rows, now, err := r.Look(t.Context())
		if text := Table(rows, rows, now, 0); err != nil || text != "nothing is published, and no host has been heard\n" {
			t.Errorf("%v: %s", err, text)
		}
		s.says("web1", "applied", "v1")
		s.says("web2", "applied", "")
		rows, now, err = r.Look(t.Context())
		if err != nil || len(rows) != 2 || rows[0].Behind || rows[0].Status != "applied" {
			t.Fatal(rows, err)
		}
		if text := Table(rows, rows, now, 0); !strings.Contains(text, "\n2 hosts, nothing is published, 0 silent\n") {
			t.Error(text)
		}
	})
}

func testRosterWaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		v := func(etag, release, rev string) map[string]string {
			return map[string]string{"etag": etag, "release": release, "rev": rev}
		}
		old, dirty, present := v("v0", "0123456789ab0", "rev1"), v("v1", "3333456789ab0", "rev2"), v("v2", "4444456789ab0", "rev2")
		nameless := v("v0", "5555456789ab0", "")
		s.says("a-canary-with-a-very-long-name.eu-central-1.compute.internal", "applied", "v2", "version", present, "running", present, "healthy_secs", 600)
		s.says("sick", "applied", "v2", "version", present, "running", present, "unhealthy", "check web: refused\nmore")
		s.says("web1", "failed", "v2", "version", present, "running", old, "error",
			`build configuration "web1": builder for '/nix/store/g928vl7mw3w9zdkddqdc6bdvdl4c7z8s-nginx-1.28.0.drv' failed with exit code 1`)
		s.says("web2", "held", "v2", "version", present, "running", dirty)
		s.says("web3", "rolled_back", "v1", "version", dirty, "running", nameless)
		fails := errors.New("503")
		reads := 0
		r := &Roster{Store: s, Stale: time.Hour, WavesOf: func(context.Context, store.Version) (Waves, error) {
			reads++
			return Waves{3, func(host, _ string) int { return len(host)%3 + 1 }}, fails
		}}
		rows, now, err := r.Look(t.Context())
		if text := Table(rows, rows, now, 0); err != nil || strings.Contains(text, "WAVE") {
			t.Errorf("%v: without the waves, the rest is to be shown:\n%s", err, text)
		}
		fails = nil
		rows, now, err = r.Look(t.Context())
		if _, _, again := r.Look(t.Context()); err != nil || again != nil || reads != 2 {
			t.Errorf("%v, %v, %d reads of the waves, want 2", err, again, reads)
		}
		Sleep(t.Context(), 30*time.Minute)
		want := `HOST                   RUNS      WANTED    WAVE  STATUS                  HEARD
a-canary-with-a-ve...  rev2      rev2      1/3   applied, healthy 10m    30m ago
sick                   rev2      rev2      2/3   applied, unhealthy      30m ago
  unhealthy: check web: refused
web1                   rev1      rev2      2/3   failed                  30m ago
  builder for 'nginx-1.28.0.drv' failed with exit code 1 (build configuration...
web2                   33334567  44444567  2/3   held                    30m ago
web3                   55554567  rev2      2/3   rolled back, behind 0s  30m ago
5 hosts, 3 behind rev2, 0 silent, 2 failed, 1 unhealthy
`
		if text := Table(rows, rows, now, 80); text != want {
			t.Errorf("got\n%s", text)
		}
		for line := range strings.Lines(Table(rows, rows, now, 80)) {
			if columns(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%q is wider than 80 columns", line)
			}
		}
		s.publish("v3") // which all hosts take at once
		r.WavesOf = func(context.Context, store.Version) (Waves, error) { return Waves{}, nil }
		rows, now, err = r.Look(t.Context())
		if text := Table(rows, rows, now, 80); err != nil || strings.Contains(text, "WAVE") {
			t.Errorf("%v: a version without a plan has waves:\n%s", err, text)
		}
	})
}

func testRosterForbidden(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.fail(store.ErrForbidden)
		err := (&Roster{Store: s}).Watch(t.Context(), time.Second, false, nil, nil)
		if !errors.Is(err, store.ErrForbidden) {
			t.Error(err)
		}
	})
}

func testRosterRollback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "rolled_back", "v2", "error", "check web: refused\nmore", "running", map[string]string{"etag": "v1"})
		s.says("web2", "paused", "", "running", map[string]string{"etag": "v1"}, "error", "")
		rows, now, err := (&Roster{Store: s, Stale: time.Hour}).Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := Table(rows, rows, now, 0)
		for _, want := range []string{"web1  v1    v2      rolled back  0s ago\n  check web: refused\n", "web2  v1    -       paused       0s ago\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		if rows[0].Running != "v1" || rows[0].Wanted != "v2" {
			t.Errorf("%+v", rows[0])
		}
	})
}

func testBoard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out strings.Builder
		board := NewBoard(&out, func() (int, int) { return 60, 7 })
		rows := []Row{{Host: "a", Status: "applied"}, {Host: "b", Status: "applied"}, {Host: "c", Status: "failed", Why: "it does not build"}, {Host: "d", Status: "applied"}}
		for i := range rows {
			rows[i].Heard = time.Now()
		}
		board.Show(rows, store.Version{})
		for _, want := range []string{"c     -     -       failed   0s ago", "  it does not build", "and 1 more; 4 hosts, nothing is published, 0 silent, 1 f"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, out.String())
			}
		}
		if n := strings.Count(out.String(), "\n"); n > 6 {
			t.Errorf("%d lines on a terminal of 7", n)
		}
	})
}

func TestFailingHostsAreNamedAgainAtTheEnd(t *testing.T) {
	var rows []Row
	for i := range 30 {
		rows = append(rows, Row{Host: fmt.Sprintf("web%02d", i), Status: "applied"})
	}
	rows[2].Status, rows[3].Status, rows[4].Unhealthy = "failed", "rolled_back", "a check fails"
	const sum = "30 hosts, nothing is published, 30 silent, 2 failed, 1 unhealthy\n"
	for i := range rows {
		rows[i].Silent = true
	}
	if got := Table(rows, rows, store.Version{}, 0); !strings.HasSuffix(got, "\nfailing: web02, web03, web04\n"+sum) {
		t.Errorf("%s", got)
	}
	if got := Table(rows[:20], rows, store.Version{}, 0); strings.Contains(got, "failing: ") {
		t.Errorf("they have not scrolled by:\n%s", got)
	}
}
