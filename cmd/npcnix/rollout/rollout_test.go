package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

func TestJudge(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	m := &release.Manifest{Release: "new", Rollout: &release.Plan{Soak: 900, Waves: [][]string{{"a"}, {"100%"}}}}
	soaked := func(r record.Record) record.Record { r.HealthySecs = 900; return r }
	ill := func(r record.Record) record.Record { r.Unhealthy = "check web: it answers 500"; return r }
	of := func(status record.Status, about, runs string) record.Record {
		return record.Record{Remote: "s3://b/k", Status: status, Version: record.Version{ETag: "e", Release: about}, Running: &record.Version{Release: runs}}
	}
	for _, c := range []struct {
		name     string
		host     string
		admitted int
		record   record.Record
		ago      time.Duration
		want     Standing
	}{
		{"it was healthy with the release for the soak", "a", 1, soaked(of(record.Applied, "new", "new")), 0, Passed},
		{"it runs the release, and the soak is not over", "a", 1, of(record.Applied, "new", "new"), 0, Waiting},
		{"it is unhealthy with the release", "a", 1, ill(of(record.Applied, "new", "new")), 0, Failed},
		{"it is unhealthy with another one", "a", 1, ill(of(record.Building, "new", "old")), 0, Waiting},
		{"it was healthy with another one", "a", 1, soaked(of(record.Applied, "old", "old")), 0, Waiting},
		{"it runs another one", "a", 1, of(record.Applied, "old", "old"), 0, Waiting},
		{"it builds it", "a", 1, of(record.Building, "new", "old"), 0, Waiting},
		{"it failed", "a", 1, of(record.Failed, "new", "old"), 0, Failed},
		{"it rolled back", "a", 1, of(record.RolledBack, "new", "old"), 0, Failed},
		{"it refuses the object, and knows of no release", "a", 1, of(record.Rejected, "", "old"), 0, Failed},
		{"it rejected an older release", "a", 1, of(record.Rejected, "old", "older"), 0, Waiting},
		{"it is paused", "a", 1, of(record.Paused, "", "old"), 0, Waiting},
		{"an operator has switched it", "a", 1, of(record.Drifted, "new", ""), 0, Waiting},
		{"its wave is not admitted", "b", 1, of(record.Held, "new", "old"), 0, Held},
		{"its wave is not admitted, and it has not looked", "b", 1, of(record.Applied, "old", "old"), 0, Held},
		{"its wave is admitted, and it has not looked", "b", 2, of(record.Held, "new", "old"), 0, Waiting},
		{"it is off, or no more", "a", 1, of(record.Applied, "old", "old"), 3 * time.Hour, Silent},
		{"it was not heard since it took it", "a", 1, of(record.Applied, "new", "new"), 3 * time.Hour, Waiting},
		{"it failed long ago, with this release", "a", 1, of(record.Failed, "new", "old"), 3 * time.Hour, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &release.Progress{Admitted: c.admitted}
			entries := []fleet.Entry{{Host: c.host, Record: &c.record, Heard: at.Add(-c.ago)}, {Host: "damaged", Heard: at}}
			got := judge(m, p, store.Version{ETag: "e", Modified: at}, "s3://b/k", entries)
			stands := func(h Host) bool { return h.Name == c.host }
			if i := slices.IndexFunc(got.Hosts, stands); len(got.Hosts) != 2 || i < 0 || got.Hosts[i].Standing != c.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBudgets(t *testing.T) {
	share := func(text string) Share {
		s, err := ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		budget                  Budget
		passed, waiting, failed int
		want                    verdict
	}{
		{Budget{}, 3, 0, 0, passed},
		{Budget{}, 2, 1, 0, pending},
		{Budget{}, 2, 0, 1, failed},
		{Budget{Failed: 1}, 2, 0, 1, passed},
		{Budget{Missing: share("10%")}, 9, 1, 0, passed},
		{Budget{Missing: share("10%")}, 8, 1, 0, pending},
		{Budget{Missing: share("2")}, 0, 2, 0, passed},
		{Budget{}, 0, 0, 0, pending}, // nobody was heard
	} {
		tally := Tally{count: map[Standing]int{Passed: c.passed, Waiting: c.waiting, Failed: c.failed, Held: 5, Silent: 7}}
		if got := c.budget.verdict(tally, 1, false); got != c.want {
			t.Errorf("%+v of %d, %d, %d: %s", c.budget, c.passed, c.waiting, c.failed, got)
		}
	}
	for _, text := range []string{"", "x", "-1", "101%", "1.5%"} {
		if _, err := ParseShare(text); err == nil {
			t.Errorf("%q is a share", text)
		}
	}
}

func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

func TestRollout(t *testing.T) {
	inBubble(t, "the canary passes, and the fleet follows", func(t *testing.T) {
		w := newWorld(t, names(20)...)
		base := w.publish("one")
		w.look()
		before := w.archiveOf()
		name := w.publish("two", "web1", "50%", "100%")
		w.look()
		if got := w.running(name); cmp.Diff(got, []string{"web1"}) != "" {
			t.Errorf("%v run it at first", got)
		}
		if err := w.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(w.running(name)); n != 20 {
			t.Errorf("%d hosts run it: %q", n, w.said)
		}
		_, m, p := w.object()
		if p.State != release.Complete || m.Rollout.Base.Release != base || bytes.Equal(before, w.archiveOf()) {
			t.Errorf("%+v", p)
		}
	})

	for _, status := range []record.Status{record.Failed, record.RolledBack, record.Rejected} {
		inBubble(t, "a canary that has it "+string(status)+" halts it, and others never see it", func(t *testing.T) {
			w := newWorld(t, names(20)...)
			base := w.publish("one")
			w.look()
			name := w.publish("two", "web1", "100%")
			w.hosts["web1"].breaks = breaks(status, &name)
			err := w.run(t.Context())
			if !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), "web1") {
				t.Errorf("%v", err)
			}
			for range 10 {
				w.look()
			}
			if _, _, p := w.object(); p.State != release.Halted || w.ever(name) != 0 || len(w.running(base)) != 20 {
				t.Errorf("%+v, %d ran it", p, w.ever(name))
			}
		})
	}

	inBubble(t, "a second wave that fails reverts it, by the rollout key alone", func(t *testing.T) {
		w := newWorld(t, names(20)...)
		base := w.publish("one")
		w.look()
		name := w.publish("two", "web1", "web2,web3", "100%")
		w.hosts["web3"].breaks = breaks(record.RolledBack, &name)
		if err := w.run(t.Context(), func(o *Options) { o.Revert = true }); !errors.Is(err, ErrHosts) {
			t.Errorf("%v", err)
		}
		if _, _, p := w.object(); p.State != release.Reverted || len(w.running(base)) != 20 || w.ever(name) != 2 {
			t.Errorf("%+v: %v run the base, %d ever ran it", p, w.running(base), w.ever(name))
		}
	})

	inBubble(t, "canaries that pass and turn unhealthy in the soak are back on the base, by the rollout key alone", func(t *testing.T) {
		w := newWorld(t, names(20)...)
		base := w.publish("one")
		w.look()
		w.soak = 900
		name := w.publish("two", "web1", "100%")
		w.hosts["web1"].ill = true
		if err := w.run(t.Context(), func(o *Options) { o.Revert = true }); !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), "answers 500") {
			t.Errorf("%v", err)
		}
		w.look()
		if _, _, p := w.object(); p.State != release.Reverted || len(w.running(base)) != 20 || w.ever(name) != 1 {
			t.Errorf("%+v: %v run the base, %d ever ran it", p, w.running(base), w.ever(name))
		}
	})

	inBubble(t, "a canary that dies after it applied the release does not pass the soak", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two", "web1", "100%")
		w.soak, w.hosts["web1"].still = 0, true
		w.look()
		w.soak = 900
		r := w.open()
		r.Manifest().Rollout.Soak = 900
		if err := r.Run(t.Context()); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "web1 (it soaks)") || w.ever(name) != 1 {
			t.Errorf("%v; %d ran it", err, w.ever(name))
		}
	})

	inBubble(t, "a check that fails halts it", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two", "web1", "100%")
		err := w.run(t.Context(), func(o *Options) {
			o.Check = func(_ context.Context, wave int, got string) error {
				if wave != 1 || got != name {
					t.Errorf("wave %d of %s", wave, got)
				}
				return errors.New("the error rate is 3 %")
			}
		})
		if !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), "error rate") || w.ever(name) != 1 {
			t.Errorf("%v; %d ran it", err, w.ever(name))
		}
	})

	inBubble(t, "a host that is off holds it up until its time is over; one that was off before is not counted", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		w.hosts["web4"].off = true
		w.heardLongAgo("web4")
		w.hosts["web1"].off = true
		name := w.publish("two", "web1", "100%")
		if err := w.run(t.Context()); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "web1") {
			t.Errorf("%v", err)
		}
		w.hosts["web1"].off = false
		r := w.open()
		if err := r.Step(t.Context(), 1, release.Running); err != nil {
			t.Fatal(err)
		}
		if err := w.run(t.Context()); err != nil || len(w.running(name)) != 4 {
			t.Errorf("%v; %v run it", err, w.running(name))
		}
	})

	inBubble(t, "a publish in the middle overtakes it, and nothing of it is signed", func(t *testing.T) {
		for says, overtake := range map[string]func(w *world){
			"do not vouch for": func(w *world) {
				if err := os.WriteFile(w.remote.Key(), []byte("a packed flake that was copied here"), 0o600); err != nil {
					w.t.Fatal(err)
				}
			},
			"with serial": func(w *world) { w.publish("three") },
		} {
			w := newWorld(t, names(5)...)
			w.publish("one")
			w.look()
			name := w.publish("two", "web1", "100%")
			w.hosts["web1"].off = true
			r := w.open()
			done := make(chan error, 1)
			go func() { done <- r.Run(t.Context()) }()
			time.Sleep(3 * tick)
			overtake(w)
			if err := <-done; !errors.Is(err, ErrOvertaken) || !strings.Contains(err.Error(), says) || w.ever(name) != 0 {
				t.Errorf("%v, want %q", err, says)
			}
		}
	})

	inBubble(t, "of two commands one takes each step, and both end well", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two", "web1", "web2", "100%")
		other := make(chan error, 1)
		go func() { other <- w.open().Run(t.Context()) }()
		errs := []error{w.run(t.Context())}
		for len(errs) < 2 {
			select {
			case err := <-other:
				errs = append(errs, err)
			case <-time.After(tick):
				w.look()
			}
		}
		for _, err := range errs {
			if err != nil && !errors.Is(err, ErrOvertaken) {
				t.Error(err)
			}
		}
		for range 5 {
			if err := w.run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.running(name)) != 5 {
			t.Errorf("%v run it", w.running(name))
		}
	})

	inBubble(t, "a rollout that another command pauses ends this one", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		w.publish("two", "web1", "100%")
		w.hosts["web1"].off = true
		r := w.open()
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context()) }()
		time.Sleep(3 * tick)
		if err := w.open().Step(t.Context(), 1, release.Paused); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})

	inBubble(t, "a step that nobody vouches for is no beginning", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		w.publish("two", "web1", "100%")
		w.hosts["web1"].off = true
		ci := w.open()
		if err := errors.Join(ci.Step(t.Context(), 1, release.Paused), ci.Step(t.Context(), 1, release.Running)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- ci.Run(t.Context()) }()
		ciKey := w.rolloutKey
		w.rolloutKey, _ = newKey(t, w.dir, "oncall")
		o := Options{Remote: w.remote, Publisher: w.publisher(nil), Say: func(string) {}}
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--rollout-signers") {
			t.Errorf("%v", err)
		}
		if last, err := o.Publisher.Last(t.Context(), w.remote); err != nil {
			t.Fatal(err)
		} else if base, err := last.Base(false); err == nil {
			t.Errorf("base is %+v", base)
		}
		o.Unvouched = true
		oncall, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := oncall.Step(t.Context(), 0, release.Reverted); err != nil {
			t.Fatal(err)
		}
		if _, _, p := w.object(); p.Step <= 3 || p.State != release.Reverted {
			t.Errorf("%+v", p)
		}
		w.rolloutKey = ciKey
		if err := <-done; !errors.Is(err, ErrOvertaken) {
			t.Errorf("%v", err)
		}
	})

	inBubble(t, "an older step that was put back does not count", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		w.publish("two", "web1", "100%")
		first, err := os.ReadFile(w.remote.Key())
		if err != nil {
			t.Fatal(err)
		}
		r := w.open()
		if err := r.Step(t.Context(), 1, release.Paused); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.remote.Key(), first, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.reload(t.Context()); err != nil || r.Progress().Step != 2 {
			t.Errorf("%v: step %d", err, r.Progress().Step)
		}
		if err := r.Step(t.Context(), 1, release.Halted); err != nil {
			t.Fatal(err)
		}
		if _, _, p := w.object(); p.Step != 3 {
			t.Errorf("step %d", p.Step)
		}
	})

	inBubble(t, "a command takes on what it has published", func(t *testing.T) {
		w := newWorld(t, names(2)...)
		w.publish("one", "web1", "100%")
		of := w.open().Manifest()
		w.publish("two", "web1", "100%")
		o := Options{Remote: w.remote, Publisher: w.publisher(nil), Of: of}
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrOvertaken) {
			t.Errorf("%v", err)
		}
		o.Of = w.open().Manifest()
		if _, err := Open(t.Context(), o); err != nil {
			t.Error(err)
		}
	})

	inBubble(t, "without keys that vouch for it there is no rollout", func(t *testing.T) {
		w := newWorld(t, names(2)...)
		w.publish("one")
		w.look()
		w.publish("two", "web1", "100%")
		_, stranger := newKey(t, w.dir, "stranger")
		w.signers = release.Signers{stranger}
		if _, err := Open(t.Context(), Options{Remote: w.remote, Publisher: w.publisher(nil)}); !errors.Is(err, ErrNone) {
			t.Error(err)
		}
	})
}

func (w *world) open() *Rollout {
	w.t.Helper()
	r, err := Open(w.t.Context(), Options{Remote: w.remote, Publisher: w.publisher(nil), Interval: tick, WaveTimeout: time.Hour, Say: func(string) {}})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Over random fleets, plans, failures and kills, no more hosts run a release than its admitted waves have, and one
// that its canaries fail breaks no more hosts than the first wave has.
func TestRolloutsOfRandomFleets(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t, names(3+random.IntN(20))...)
			w.publish("one")
			w.look()
			waves := []string{"web1"}
			for range random.IntN(3) {
				waves = append(waves, fmt.Sprintf("%d%%", 1+random.IntN(90)))
			}
			name := w.publish("two", append(waves, "100%")...)
			bad := random.IntN(3) == 0
			for _, h := range w.hosts {
				if bad || random.IntN(15) == 0 {
					h.breaks = breaks(record.RolledBack, &name)
				}
			}
			outcome := error(context.DeadlineExceeded)
			for kills := 0; errors.Is(outcome, context.DeadlineExceeded) && kills < 50; kills++ {
				ctx, kill := context.WithTimeout(t.Context(), time.Duration(1+random.IntN(360))*time.Second)
				outcome = w.run(ctx, func(o *Options) { o.Revert = random.IntN(2) == 0 })
				kill()
				w.check(name, bad)
				if random.IntN(4) == 0 { // a host joins
					joined := fmt.Sprintf("new%d", kills)
					w.hosts[joined] = &host{name: joined, ran: map[string]bool{}}
				}
			}
			if outcome != nil && !errors.Is(outcome, ErrHosts) && !errors.Is(outcome, ErrStopped) {
				t.Errorf("seed %d: %v", seed, outcome)
			}
		})
	}
}

// check tells whether no more hosts have ever run the release than the admitted waves have.
func (w *world) check(name string, bad bool) {
	w.t.Helper()
	_, m, p := w.object()
	for _, h := range w.hosts {
		if h.ran[name] && !m.Rollout.Admits(p.Admitted, h.name, "c") {
			w.t.Errorf("%s ran it, and %d of %v are admitted", h.name, p.Admitted, m.Rollout.Waves)
		}
	}
	if bad && p.Admitted > 1 {
		w.t.Errorf("the canaries failed, and %d waves are admitted", p.Admitted)
	}
}
