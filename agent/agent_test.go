package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestAPublishIsAppliedInOrderAndOnlyThenAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.mark()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		got := r.of("latest", "fetch", "build", "activate", "record applied", "ack")
		equal(t, "trace", got, []string{"latest v2", "fetch v2", "build web1", "activate /nix/store/sys-2", "record applied v2", "ack m1"})
		s := r.state()
		if s.Applied == nil || s.Applied.ETag != "v2" || s.Applied.System != "/nix/store/sys-2" || s.Applied.Previous != "/nix/store/sys-1" || s.Intent != nil || s.NeedsRepair {
			t.Errorf("state: %+v", s)
		}
		rec := r.store.lastRecord()
		if rec.Status != record.Applied || rec.Host != "web1" || rec.Schema != record.Schema || rec.Trigger != record.Event || rec.Times.Built.IsZero() || rec.Agent != "test" {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestAnUnchangedRepublishActivatesNothingAndIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		equal(t, "trace", r.of("fetch", "build", "activate", "ack"), []string{"fetch v1", "build web1", "activate /nix/store/sys-1", "ack m1"})
	})
}

func TestAnotherVersionOfTheSameSystemIsNotActivatedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		equal(t, "trace", r.of("build", "activate", "ack"), []string{"build web1", "activate /nix/store/sys-1", "build web1", "ack m1"})
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
	})
}

func TestAFailingVersionIsTriedPerScheduleThenRejectedAndTheNextAppliesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "bad" })
		r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errBuild } })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		if f := r.state().Failure; f == nil || f.Attempts != 1 || f.Rejected {
			t.Fatalf("after the first attempt: %+v", f)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		builds := r.when("build web1")
		if len(builds) != 5 { // the good one at start, then four attempts
			t.Fatalf("builds at %v", builds)
		}
		for i, want := range []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute} {
			if pause := builds[i+2] - builds[i+1]; pause < want*9/10 || pause > want*11/10 {
				t.Errorf("pause %d is %s, want %s ± 10 %%", i+1, pause, want)
			}
		}
		if f := r.state().Failure; !f.Rejected || f.Attempts != 4 {
			t.Errorf("failure: %+v", f)
		}
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "build failed") || rec.System != "/nix/store/sys-1" {
			t.Errorf("record: %+v", rec)
		}
		if acks := r.of("ack"); len(acks) != 0 {
			t.Errorf("acknowledged: %q", acks)
		}
		// Redelivered after its rejection, the message is left to the redrive policy.
		r.mark()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		time.Sleep(10 * time.Minute)
		if steps := r.of("extend", "ack", "build"); len(steps) != 0 {
			t.Errorf("a rejected version's message was touched: %q", steps)
		}
		r.host.set(func(h *fakeHost) { h.build, h.system = nil, "/nix/store/sys-3" })
		r.store.set(func(s *fakeStore) { s.etag = "fixed" })
		r.queue.in <- []events.Delivery{message("m2")}
		synctest.Wait()
		r.end()
		if got := r.state().Applied.ETag; got != "fixed" {
			t.Errorf("applied is %s", got)
		}
		equal(t, "acks", r.of("ack"), []string{"ack m2"})
	})
}

func TestTheMessageOfAFailedAttemptIsHiddenUntilTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{1000} })
		r.host.build = func(context.Context) error { return errBuild }
		r.store.latestErr = errors.New("not yet") // so that the start leaves no failure behind
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.latestErr = nil })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		f := r.state().Failure
		want := fmt.Sprintf("extend m1 by %s", time.Duration(f.DelaySecs*float64(time.Second)).Round(time.Second))
		r.end()
		equal(t, "extensions", r.of("extend"), []string{want})
	})
}

func TestAnUnsafeArchiveIsRejectedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.store.fetchErr = fmt.Errorf("entry ../x: %w", store.ErrUnsafe)
		r.start()
		time.Sleep(time.Hour)
		r.end()
		equal(t, "trace", r.of("fetch", "build"), []string{"fetch v1"})
		if f := r.state().Failure; f == nil || !f.Rejected || f.Attempts != 1 {
			t.Errorf("failure: %+v", f)
		}
	})
}

func TestErrorsThatAreNotThePublishsAreRetriedForEverAndSaidOnce(t *testing.T) {
	for name, fail := range map[string]func(*rig, error){
		"the store cannot be read":    func(r *rig, err error) { r.store.set(func(s *fakeStore) { s.latestErr = err }) },
		"the flake cannot be fetched": func(r *rig, err error) { r.store.set(func(s *fakeStore) { s.fetchErr = err }) },
		"nix is missing": func(r *rig, err error) {
			r.host.set(func(h *fakeHost) {
				h.build = func(context.Context) error {
					if err != nil {
						return fmt.Errorf("%w: %w", nix.ErrNoNix, err)
					}
					return nil
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				fail(r, errors.New("boom"))
				r.start()
				time.Sleep(6 * time.Hour)
				if tries := len(r.of("latest")); tries < 6*20 || tries > 6*60+10 {
					t.Errorf("%d tries in 6 hours, want pauses that grow to 2 minutes ± 50 %%", tries)
				}
				if f := r.state().Failure; f != nil {
					t.Errorf("blamed on the publish: %+v", f)
				}
				if n := r.logs.count("boom"); n != 1 {
					t.Errorf("logged %d times", n)
				}
				fail(r, nil)
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				r.end()
				if a := r.state().Applied; a == nil {
					t.Error("did not heal")
				}
			})
		})
	}
}

func TestLeasesAreExtendedAtAThirdWhileWorkGoesOnAndNotAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 3*time.Minute+time.Second); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Hour)
		r.end()
		got := r.of("extend", "ack")
		want := []string{"extend m1 by 2m0s", "extend m1 by 2m0s", "extend m1 by 2m0s", "extend m1 by 2m0s", "ack m1"}
		equal(t, "extensions", got, want)
	})
}

func TestAMessageHeldForElevenHoursIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 13*time.Hour); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(14 * time.Hour)
		r.end()
		times := r.when("extend")
		if last := times[len(times)-1]; last >= 11*time.Hour || last < 11*time.Hour-2*time.Minute {
			t.Errorf("extended last after %s", last)
		}
		if acks := r.of("ack"); len(acks) != 0 {
			t.Errorf("released what was given up: %q", acks)
		}
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
	})
}

func TestANewerVersionCancelsABuildTwiceAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		cancelled := 0
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.build = func(ctx context.Context) error {
				wait.For(ctx, time.Minute)
				if ctx.Err() != nil {
					cancelled++
				}
				return ctx.Err()
			}
		})
		for i := range 5 {
			r.store.set(func(s *fakeStore) { s.etag = fmt.Sprintf("v%d", i+2) })
			r.queue.in <- []events.Delivery{message(fmt.Sprintf("m%d", i))}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		r.end()
		if cancelled != 2 {
			t.Errorf("cancelled %d times", cancelled)
		}
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1", "activate /nix/store/sys-2"})
		if got := r.state().Applied.ETag; got != "v6" {
			t.Errorf("applied is %s", got)
		}
		if got := strings.Join(r.of("ack"), " "); got != "ack m0,m1,m2 ack m3,m4" {
			t.Errorf("acks: %q", got)
		}
	})
}

func TestABurstOfAThousandMessagesCostsAtMostTwoReconciles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		before := len(r.of("latest"))
		var ds []events.Delivery
		for i := range 1000 {
			ds = append(ds, message(fmt.Sprint(i)))
		}
		r.queue.in <- ds
		synctest.Wait()
		r.end()
		if n := len(r.of("latest")) - before; n < 1 || n > 2 {
			t.Errorf("%d reconciles", n)
		}
		equal(t, "acks", r.of("ack"), []string{"ack (1000)"})
	})
}

func TestABurstThatTricklesInCostsOneLookASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.mark()
		for i := range 1000 {
			r.queue.in <- []events.Delivery{message(fmt.Sprint(i))}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.end()
		if n := len(r.of("latest")); n < 1 || n > 4 { // in it the poll that follows a start
			t.Errorf("%d looks at the store", n)
		}
		equal(t, "acks", r.of("ack"), []string{"ack 0", "ack (999)"})
		// A new version does not wait after a publish that was applied.
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		begun := time.Now()
		r.queue.in <- []events.Delivery{message("new")}
		synctest.Wait()
		r.end()
		if got := r.state().Applied; got.ETag != "v2" || got.Times.Noticed.Sub(begun) != 0 {
			t.Errorf("applied: %+v", got)
		}
	})
}

func TestMessagesThatAreNotForThisHostAreDeletedAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		before := len(r.of("latest"))
		for i := range 3 {
			foreign := message(fmt.Sprintf("foreign%d", i))
			foreign.Notices[0].Key = "other.npcnix"
			r.queue.in <- []events.Delivery{
				foreign,
				{ID: fmt.Sprintf("test%d", i)}, // s3:TestEvent: no notices, no word
				{ID: fmt.Sprintf("bad%d", i), Err: events.ErrMalformed},
			}
			synctest.Wait()
		}
		r.queue.in <- []events.Delivery{{ID: "odd", Err: events.ErrUnknown}}
		synctest.Wait()
		r.end()
		equal(t, "acks", r.of("ack"), []string{"ack foreign0,test0,bad0", "ack foreign1,test1,bad1", "ack foreign2,test2,bad2", "ack odd"})
		if n := len(r.of("latest")) - before; n != 0 {
			t.Errorf("%d reconciles", n)
		}
		if n := r.logs.count("further ones are only counted"); n != 3 {
			t.Errorf("logged %d times, want once per kind", n)
		}
	})
}

func TestAPausedHostReceivesNothingAndGoesOnAtOnceWhenUnpaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		r.start()
		time.Sleep(24 * time.Hour)
		receives := len(r.of("receive"))
		if receives > 0 {
			t.Errorf("received %d times while paused", receives)
		}
		if got := r.of("fetch", "activate"); len(got) != 0 {
			t.Errorf("worked while paused: %q", got)
		}
		if rec := r.store.lastRecord(); rec.Status != record.Paused || rec.Remote != testRemote || rec.Configuration != "web1" {
			t.Errorf("record: %+v", rec)
		}
		r.configure(func(c *config.Config) { c.Paused = nil })
		r.poke <- struct{}{}
		synctest.Wait()
		if a := r.state().Applied; a == nil || a.ETag != "v1" {
			t.Errorf("applied: %+v", a)
		}
		if len(r.of("receive")) == receives {
			t.Error("does not receive again")
		}
		r.end()
	})
}

func TestAMessageReceivedWhilePausedIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Until, Until: time.Now().Add(time.Hour)} })
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")} // by the poll in the air
		synctest.Wait()
		equal(t, "messages", r.of("extend", "ack"), []string{"extend m1 by 25s"})
		time.Sleep(59 * time.Minute)
		if got := r.state().Applied.ETag; got != "v1" {
			t.Errorf("applied %s while paused", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.end()
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s after the pause", got)
		}
	})
}

func TestAPauseDuringABuildKeepsItFromBeingActivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.host.build = func(ctx context.Context) error { wait.For(ctx, time.Minute); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		time.Sleep(time.Hour)
		r.end()
		if got := r.of("activate"); len(got) != 0 {
			t.Errorf("activated: %q", got)
		}
		if s := r.state(); s.Intent != nil || s.Failure != nil {
			t.Errorf("state: %+v", s)
		}
	})
}

func TestAChangeDuringThePreActivateHookKeepsTheSystemFromBeingActivated(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		ends   string // Run's error
	}{
		{"a pause", func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} }, "paused"},
		{"another remote", func(c *config.Config) { c.Remote = "s3://bucket/npcnix/remotes/prod.npcnix" }, ErrReconnect.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Not in a bubble: a hook is a process.
			r := newRig(t)
			r.opts.Once, r.opts.Queue = OnceAny, nil
			// The hook puts the settings in place that are to be.
			r.configure(c.change)
			changed := r.dir.Path("changed.json")
			if err := os.Rename(r.dir.ConfigPath(), changed); err != nil {
				t.Fatal(err)
			}
			r.configure(func(config *config.Config) {
				config.Remote, config.Configuration = testRemote, "web1"
				config.Hooks.PreActivate = []string{"/bin/mv", changed, r.dir.ConfigPath()}
			})
			r.start()
			if err := <-r.done; err == nil || !strings.Contains(err.Error(), c.ends) {
				t.Errorf("Run: %v, want %q", err, c.ends)
			}
			r.stop()
			equal(t, "activations", r.of("activate"), nil)
			if s := r.state(); s.Applied != nil || s.Failure != nil {
				t.Errorf("state: %+v", s)
			}
		})
	}
}

func TestStoppingDuringABuildGivesTheMessageBackAndForgetsTheIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		if in := r.state().Intent; in == nil || in.ETag != "v2" || in.Status != record.Building {
			t.Errorf("intent: %+v", in)
		}
		begun := time.Now()
		if err := r.end(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		if got := r.of("extend m1 by 2s", "ack"); len(got) != 1 {
			t.Errorf("messages: %q", got)
		}
		if s := r.state(); s.Intent != nil || s.Failure != nil {
			t.Errorf("state: %+v", s)
		}
	})
}

func TestAnAgentThatIsToldToStopLeavesTheActivationToItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.host.activate = func() error { time.Sleep(time.Minute); return nil }
		r.start()
		time.Sleep(time.Second)
		r.end()
		s := r.state()
		if s.Applied != nil || s.Intent == nil || s.Intent.Status != record.Activating || s.Failure != nil {
			t.Fatalf("left to the next agent: %+v", s)
		}
		r.start()
		synctest.Wait()
		r.end()
		if a := r.state().Applied; a == nil || a.System != "/nix/store/sys-1" || a.Trigger != record.Start || a.Times.Built.IsZero() {
			t.Errorf("applied: %+v", a)
		}
		equal(t, "work", r.of("build", "activate"), []string{"build web1", "activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.System != "/nix/store/sys-1" {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestWhatBecameOfAnActivationIsFoundOutAfterACrash(t *testing.T) {
	v2 := Target{Remote: testRemote, Configuration: "web1", ETag: "v2"}
	activating := Intent{Target: v2, Status: record.Activating, Attempt: 1, System: "/nix/store/sys-2", Activation: "id"}
	last := activating
	last.Attempt = 4
	on := func(phase activation.Phase, interrupted bool) *activation.Journal {
		cause := activation.CauseVersion
		if interrupted {
			cause = activation.CauseInterrupted
		}
		return &activation.Journal{ID: "id", System: "/nix/store/sys-2", Previous: "/nix/store/old", Phase: phase, Cause: cause, Reason: "why"}
	}
	for _, c := range []struct {
		name    string
		intent  Intent
		left    *activation.Journal
		running string
		trace   []string
		state   record.Status // of the last record
	}{
		{"killed while building, it builds again, and that is no failure", Intent{Target: v2, Status: record.Building, Attempt: 1}, nil, "/nix/store/old",
			[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
		{"killed before the activation was requested, it is begun again", activating, nil, "/nix/store/old",
			[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
		{"what is on disk is an older activation", activating, &activation.Journal{ID: "other", Phase: activation.RolledBack}, "/nix/store/old",
			[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
		{"killed before the confirmation was taken note of, nothing is activated again", activating, on(activation.Committed, false), "/nix/store/sys-2",
			nil, record.Applied},
		{"killed before the verification, it is verified by the next agent", activating, on(activation.Verifying, false), "/nix/store/sys-2",
			nil, record.Applied},
		{"the rollback timer has rolled it back, it is rejected", activating, on(activation.RolledBack, false), "/nix/store/old",
			nil, record.RolledBack},
		{"it was interrupted, it is attempted again", activating, on(activation.RolledBack, true), "/nix/store/old",
			[]string{"fetch v2", "build web1", "activate /nix/store/sys-2"}, record.Applied},
		{"interrupted at the last attempt, it is to be attempted again all the same", last, on(activation.RolledBack, true), "/nix/store/old",
			nil, record.Failed},
		{"it becomes active with the next boot, it waits for that", activating, on(activation.RebootPending, false), "/nix/store/old",
			nil, record.RebootPending},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.store.etag, r.host.system, r.host.running, r.host.left = "v2", "/nix/store/sys-2", c.running, c.left
				if err := saveState(r.dir, State{Intent: &c.intent}); err != nil {
					t.Fatal(err)
				}
				r.start()
				time.Sleep(time.Minute)
				r.end()
				equal(t, "trace", r.of("fetch", "build", "activate"), c.trace)
				equal(t, "drift", r.of("record drifted"), nil)
				rec := r.store.lastRecord()
				if rec.Status != c.state || rec.Version.ETag != "v2" || rec.RebootDue != (c.state == record.RebootPending) {
					t.Errorf("record: %+v", rec)
				}
				s := r.state()
				if applied := s.Applied != nil && s.Applied.ETag == "v2"; applied != (c.state == record.Applied) {
					t.Errorf("applied: %+v", s.Applied)
				}
				if rejected := s.Failure != nil && s.Failure.Rejected; rejected != (c.state == record.RolledBack || c.state == record.Rejected) {
					t.Errorf("failure: %+v", s.Failure)
				}
			})
		})
	}
}

func TestAFailedActivationLeavesTheNextVersionAndTheOldOneApplicable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			// As a real switch does: the new system runs, then a unit fails.
			h.activate = func() error {
				h.running = "/nix/store/sys-2"
				return &activation.Error{Journal: activation.Journal{Phase: activation.RollbackFailed, Reason: "unit failed", Tail: []string{"unit failed"}}}
			}
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !slices.Equal(rec.LogTail, []string{"unit failed"}) {
			t.Errorf("record: %+v", rec)
		}
		r.store.set(func(s *fakeStore) { s.etag = "v1" })
		r.host.set(func(h *fakeHost) { h.system, h.activate = "/nix/store/sys-1", nil })
		r.queue.in <- []events.Delivery{message("m2")}
		synctest.Wait()
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1", "activate /nix/store/sys-2", "activate /nix/store/sys-1"})
	})
}

func TestASwitchThatSucceedsWithoutRunningTheSystemIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Host = pretender{r.host}
		r.start()
		synctest.Wait()
		r.end()
		if f := r.state().Failure; f == nil || !strings.Contains(f.Error, "verify") {
			t.Errorf("failure: %+v", f)
		}
	})
}

// pretender activates nothing.
type pretender struct{ *fakeHost }

func (p pretender) Activate(ctx context.Context, s nix.System, o activation.Request) (activation.Journal, error) {
	a := activation.Journal{System: s.Path}
	if err := o.Verify(ctx, a); err != nil {
		a.Reason, a.Phase = "verify: "+err.Error(), activation.RolledBack
		return a, &activation.Error{Journal: a}
	}
	return a, nil
}
