package activation

import (
	"context"
	"log/slog"
	"path"
	"strings"
	"testing"
)

func TestTimer(t *testing.T) {
	t.Run("it ends without an error when it is stopped", func(t *testing.T) {
		dir := t.TempDir()
		j := Journal{Schema: journalSchema, ID: "x", VerifySecs: 300, Phase: Switching}
		if err := j.advance(dir, Verifying); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := RunTimer(ctx, dir, "x", 0, slog.New(slog.DiscardHandler)); err != nil {
			t.Error(err)
		}
		if now, err := Read(dir); err != nil || now.Phase != Verifying {
			t.Errorf("%+v, %v", now, err)
		}
	})
	t.Run("it says for how long it has waited", func(t *testing.T) {
		for _, c := range []struct {
			j    Journal
			want string
		}{
			{Journal{VerifySecs: 300}, "not verified within 5m0s: "},
			{Journal{VerifySecs: 300, BootOnly: true}, "not verified within 10m0s: "},
			{Journal{VerifySecs: 300, Restarts: 1}, "not verified within 10m0s: "},
		} {
			if got := c.j.overdueReason(); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		}
	})
	t.Run("each activation has units of its own", func(t *testing.T) {
		for _, c := range []struct{ dir, id, what, want string }{
			{defaultDir, "tfmnz2dwnfwn3gcl3key3braxr", "", "npcnix-rollback-tfmnz2dw"},
			{defaultDir, "tfmnz2dwnfwn3gcl3key3braxr", "pending", "npcnix-rollback-tfmnz2dw-pending"},
			{"/elsewhere", "tfmnz2dwnfwn3gcl3key3braxr", "", "npcnix-rollback-????????-tfmnz2dw"},
			{defaultDir, "short", "", "npcnix-rollback-????????"},
			{defaultDir, "with / and spaces", "", "npcnix-rollback-????????"},
			{defaultDir, "", "", "npcnix-rollback-????????"},
		} {
			got := unitName(c.dir, timerUnit, c.id, c.what)
			if is, err := path.Match(c.want, got); err != nil || !is || strings.ContainsAny(got, "/ ") {
				t.Errorf("%+v has the unit %s", c, got)
			}
			again := unitName(c.dir, timerUnit, c.id, c.what)
			if other := unitName(c.dir, timerUnit, c.id+"other", c.what); again != got || len(c.id) < idLength && other == got {
				t.Errorf("%+v has the units %s, %s; another %s", c, got, again, other)
			}
		}
	})
	t.Run("its patterns match its units, and those of an older npcnix", func(t *testing.T) {
		timer := rollbackTimer{dir: defaultDir, id: "tfmnz2dwnfwn3gcl3key3braxr"}
		for unit, want := range map[string]struct{ all, timers bool }{
			"npcnix-rollback-tfmnz2dw.service": {true, false},
			"npcnix-rollback-tfmnz2dw.timer":   {true, true},
			"npcnix-rollback.service":          {true, false},
			"npcnix-rollback.timer":            {true, true},
			"npcnix-rollback-other000.timer":   {false, false},
			"npcnix-activate-tfmnz2dw.service": {false, false},
		} {
			match := func(patterns []string) (is bool) {
				for _, p := range patterns {
					ok, err := path.Match(p, unit)
					is = is || ok && err == nil
				}
				return is
			}
			if all, timers := match(timer.patterns(anyType)), match(timer.patterns(timerType)); all != want.all || timers != want.timers {
				t.Errorf("%s: %v, %v; want %+v", unit, all, timers, want)
			}
		}
	})
}
