package rollout

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// canaried is a fleet whose canary is off, and a release that it is to take first.
func canaried(t *testing.T) (w *world, name string) {
	t.Helper()
	w = newWorld(t, names(5)...)
	w.publish("one")
	w.look()
	name = w.publish("two", "web1", "100%")
	w.hosts["web1"].off = true
	return w, name
}

// stopped tells whether the rollout is halted with so many waves admitted.
func (w *world) stopped(admitted int) {
	w.t.Helper()
	if _, _, p := w.object(); p.Admitted != admitted || p.State != release.Halted {
		w.t.Errorf("%s with %d waves admitted, want %d: %q", p.State, p.Admitted, admitted, w.said)
	}
}

func TestSilenceIsNotHealth(t *testing.T) {
	stands := func(t *testing.T, w *world, name, says string) {
		t.Helper()
		if err := w.run(t.Context()); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), says) || w.ever(name) > 1 {
			t.Errorf("%v; %d ran it; %q", err, w.ever(name), w.said)
		}
	}

	inBubble(t, "a canary whose record a newer npcnix wrote has not passed", func(t *testing.T) {
		w, name := canaried(t)
		if err := w.remote.PutRecord(t.Context(), "web1", []byte(`{"schema": 99, "host": "web1", "status": "splendid"}`)); err != nil {
			t.Fatal(err)
		}
		stands(t, w, name, "web1 (record of schema 99")
	})

	inBubble(t, "a canary without a record has not passed", func(t *testing.T) {
		w, name := canaried(t)
		if err := os.Remove(w.recordOf("web1")); err != nil {
			t.Fatal(err)
		}
		stands(t, w, name, "no host of the admitted waves was heard")
	})

	inBubble(t, "canaries that were all silent before have not passed", func(t *testing.T) {
		w, name := canaried(t)
		w.heardLongAgo("web1")
		stands(t, w, name, "no host of the admitted waves was heard")
	})

	inBubble(t, "a canary that died with the release has not passed when the rollout is resumed hours later", func(t *testing.T) {
		w, name := canaried(t)
		w.soak = 0 // what it was healthy for
		w.hosts["web1"].off = false
		w.look()
		w.hosts["web1"].off = true
		w.heardLongAgo("web1")
		r := w.open()
		r.Manifest().Rollout.Soak = 900
		if err := r.Run(t.Context()); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "web1 (it soaks)") || w.ever(name) != 1 {
			t.Errorf("%v; %d ran it", err, w.ever(name))
		}
	})

	inBubble(t, "hosts that write records seldom are given the time of a poll", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two", "web1", "web2,web3", "100%")
		for _, late := range []string{"web0", "web2", "web3", "web4"} {
			w.hosts[late].asleep = time.Now().Add(10 * time.Minute)
			w.hosts[late].breaks = breaks(record.RolledBack, &name)
		}
		w.heardLongAgo("web0", "web2", "web3", "web4")
		if err := w.run(t.Context()); !errors.Is(err, ErrHosts) {
			t.Errorf("%v", err)
		}
		w.stopped(2)
	})

	inBubble(t, "a later wave of hosts that are no more, or of nobody, holds up nothing", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two", "web1", "web2", "nobody", "100%")
		w.hosts["web2"].off = true
		w.heardLongAgo("web2")
		if err := w.run(t.Context()); err != nil || len(w.running(name)) != 4 {
			t.Errorf("%v; %v run it", err, w.running(name))
		}
	})
}

func TestRolledOutAgain(t *testing.T) {
	inBubble(t, "what a host said of the first time does not fail the second", func(t *testing.T) {
		w := newWorld(t, names(5)...)
		w.publish("one")
		w.look()
		name := w.publish("two")
		w.hosts["web1"].breaks = breaks(record.RolledBack, &name)
		w.look()
		w.hosts["web1"].breaks = nil
		if again := w.publish("two", "web1", "100%"); again != name {
			t.Fatal(again)
		}
		if err := w.run(t.Context()); err != nil || len(w.running(name)) != 5 {
			t.Errorf("%v; %v run it", err, w.running(name))
		}
	})
}

func TestChecksOfWaves(t *testing.T) {
	inBubble(t, "a host that turns unhealthy while the check runs fails the wave", func(t *testing.T) {
		w, _ := canaried(t)
		w.hosts["web1"].off = false
		w.look()
		r := w.open()
		checks := 0
		r.Check = func(context.Context, int, string) error {
			checks++
			w.hosts["web1"].ill = true
			w.look()
			return nil
		}
		if err := r.Run(t.Context()); !errors.Is(err, ErrHosts) || checks != 1 {
			t.Errorf("%v; %d checks", err, checks)
		}
		w.stopped(1)
	})

	inBubble(t, "a check that does not end has the rest of the wave's time", func(t *testing.T) {
		w, _ := canaried(t)
		w.hosts["web1"].off = false
		w.look()
		r := w.open()
		r.Check = func(ctx context.Context, _ int, _ string) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(24 * time.Hour):
				return nil
			}
		}
		if err := r.Run(t.Context()); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "the check did not end") {
			t.Error(err)
		}
		w.stopped(1)
	})
}

// closed is a remote that refuses to be read from some time on.
type closed struct {
	Remote
	from time.Time
	err  error
}

func (c closed) Latest(ctx context.Context, have store.Version) (store.Version, error) {
	if time.Now().Before(c.from) {
		return c.Remote.Latest(ctx, have)
	}
	return store.Version{}, c.err
}

func TestStoresThatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"credentials that have expired end the command", store.ErrCredentials, store.ErrCredentials},
		{"so does a permission that is gone", store.ErrForbidden, store.ErrForbidden},
		{"so does another error, when the wave's time is over", errors.New("connection reset"), ErrTime},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w, _ := canaried(t)
			r := w.open()
			r.Remote = closed{r.Remote, time.Now().Add(5 * tick), c.err}
			ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
			defer cancel()
			if err := r.Run(ctx); !errors.Is(err, c.want) || !errors.Is(err, c.err) || errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// unwritable is a remote that refuses so many steps.
type unwritable struct {
	Remote
	refuses *int
	err     error
}

func (u unwritable) PublishOver(ctx context.Context, archive io.ReadSeeker, size int64, over store.Version) (store.Version, error) {
	if *u.refuses > 0 {
		*u.refuses--
		return store.Version{}, u.err
	}
	return u.Remote.PublishOver(ctx, archive, size, over)
}

func TestStepsThatCannotBeWritten(t *testing.T) {
	const always = 1_000_000
	run := func(t *testing.T, on bool, refuses int, err error, change func(*world, *Rollout)) (*world, error) {
		t.Helper()
		w, _ := canaried(t)
		w.hosts["web1"].off = !on
		w.look()
		r := w.open()
		r.Remote = unwritable{r.Remote, &refuses, err}
		if change != nil {
			change(w, r)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		return w, r.Run(ctx)
	}
	busy := errors.New("503 Slow Down")

	inBubble(t, "end the command when the wave's time is over", func(t *testing.T) {
		if _, err := run(t, true, always, busy, nil); !errors.Is(err, ErrTime) || !errors.Is(err, busy) {
			t.Error(err)
		}
	})

	inBubble(t, "or sooner, if the key does not sign", func(t *testing.T) {
		began := time.Now()
		if _, err := run(t, true, always, release.ErrSign, nil); !errors.Is(err, release.ErrSign) || time.Since(began) > 10*time.Minute {
			t.Error(err)
		}
	})

	inBubble(t, "leave why the wave has failed", func(t *testing.T) {
		_, err := run(t, true, always, busy, func(w *world, _ *Rollout) { w.hosts["web1"].ill = true; w.look() })
		if !errors.Is(err, ErrHosts) || !errors.Is(err, busy) || !strings.Contains(err.Error(), "web1") {
			t.Error(err)
		}
	})

	inBubble(t, "are tried again after the wave's time", func(t *testing.T) {
		w, err := run(t, false, 3, busy, nil)
		if !errors.Is(err, ErrTime) || errors.Is(err, busy) {
			t.Error(err)
		}
		w.stopped(1)
	})

	inBubble(t, "do not have a check that has failed run again", func(t *testing.T) {
		checks := 0
		w, err := run(t, true, 3, busy, func(_ *world, r *Rollout) {
			r.Check = func(context.Context, int, string) error {
				if checks++; checks == 1 {
					return errors.New("the error rate is 3 %")
				}
				return nil
			}
		})
		if !errors.Is(err, ErrHosts) || checks != 1 {
			t.Errorf("%v; %d checks", err, checks)
		}
		w.stopped(1)
	})
}
