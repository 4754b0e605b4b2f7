package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

func TestTheRosterSaysWhoIsBehindAndWhoIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1", "system", "/nix/store/01234567890123456789012345678901-nixos", "reboot_due", true)
		s.says("web2", "applied", "v1")
		s.put("web3", "garbage")
		sleep(t.Context(), 3*time.Hour)
		s.publish("v2")
		sleep(t.Context(), 30*time.Minute)
		s.says("web2", "applied", "v2", "warning", "what boots\x1b[2J is unknown")
		r := &Roster{Store: s, Stale: time.Hour}
		rows, now, err := r.Look(t.Context())
		if err != nil || now.ETag != "v2" {
			t.Fatal(now, err)
		}
		text := Table(rows, rows, now)
		for _, want := range []string{"web1  web1           v1 behind 30m", "applied, reboot due", "3h30m ago SILENT  01234567-nixos",
			"web2  web2           v2 ", "0s ago", "applied, WARNING what boots[2J is unknown", "web3  -              - behind 30m", "unreadable: damaged record", "3 hosts, 2 behind v2, 2 silent"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		if got := (rows[0].Behind && rows[0].Silent && rows[0].RebootDue && *rows[0].BehindBy == 1800) && !rows[1].Behind && !rows[1].Silent; !got {
			t.Errorf("%+v", rows)
		}
	})
}

func TestWatchingTheRosterShowsOnlyNewsAndSurvivesTheStore(t *testing.T) {
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
				shown = append(shown, row.Host+" "+row.State)
			}
			if text := Table(rows, all, now); !strings.Contains(text, "\n2 hosts, ") {
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

func TestTheRosterOfARemoteThatHoldsNothingShowsTheRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("")
		r := &Roster{Store: s, Stale: time.Hour}
		rows, now, err := r.Look(t.Context())
		if text := Table(rows, rows, now); err != nil || text != "nothing is published, and no host has been heard\n" {
			t.Errorf("%v: %s", err, text)
		}
		s.says("web1", "applied", "v1")
		s.says("web2", "applied", "")
		rows, now, err = r.Look(t.Context())
		if err != nil || len(rows) != 2 || rows[0].Behind || rows[0].State != "applied" {
			t.Fatal(rows, err)
		}
		if text := Table(rows, rows, now); !strings.Contains(text, "\n2 hosts, nothing is published, 0 silent\n") {
			t.Error(text)
		}
	})
}

func TestWatchingARosterThatCannotBeReadEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.fail(store.ErrForbidden)
		err := (&Roster{Store: s}).Watch(t.Context(), time.Second, false, nil, nil)
		if !errors.Is(err, store.ErrForbidden) {
			t.Error(err)
		}
	})
}
