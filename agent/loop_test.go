package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
)

func TestWithAHealthyQueuePollsAreTenMinutesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(8 * time.Hour)
		r.end()
		polls := r.when("latest")
		if first := polls[1]; first < 22*time.Second || first > 28*time.Second {
			t.Errorf("the first poll after the start came after %s", first)
		}
		for i := 2; i < len(polls); i++ {
			if pause := polls[i] - polls[i-1]; pause < 8*time.Minute || pause > 12*time.Minute {
				t.Fatalf("poll %d came after %s", i, pause)
			}
		}
		if len(polls) < 40 || len(polls) > 61 {
			t.Errorf("%d polls in 8 hours", len(polls))
		}
	})
}

func TestWithoutAQueuePollsGrowRarerSinceTheLastReconfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = nil
		r.start()
		time.Sleep(26 * time.Hour)
		r.end()
		polls := r.when("latest")
		early, late := 0, 0
		for i := 1; i < len(polls); i++ {
			switch pause := polls[i] - polls[i-1]; {
			case pause < 5*time.Second || pause > 180*time.Second:
				t.Fatalf("poll %d came after %s", i, pause)
			case polls[i] < time.Hour:
				early++
			case polls[i] > 25*time.Hour:
				late++
			}
		}
		if early < 250 || early > 650 { // 5 to 10 s apart, ± 50 %
			t.Errorf("%d polls in the first hour", early)
		}
		if late < 20 || late > 45 { // 120 s apart, ± 50 %
			t.Errorf("%d polls in the last hour", late)
		}
	})
}

func TestAQueueThatFailsIsReplacedByPollingAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.queue.setErr(errors.New("queue is gone"))
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		time.Sleep(30 * time.Second) // within an hour of the last reconfiguration polls are 10 s apart at most, ± 50 %
		synctest.Wait()
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s: not healed by polling", got)
		}
		if n := r.logs.count("queue is gone"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		receives := r.when("receive")
		if n := len(receives); n < 50 || n > 150 {
			t.Errorf("%d receives in an hour, want pauses that grow to a minute ± 50 %%", n)
		}
		r.queue.setErr(nil)
		time.Sleep(3 * time.Minute)
		if n := r.logs.count("receiving from the queue again"); n != 1 {
			t.Errorf("said %d times that it heals", n)
		}
		before := len(r.of("latest"))
		time.Sleep(7 * time.Minute)
		if n := len(r.of("latest")) - before; n > 1 {
			t.Errorf("%d polls in 7 minutes with a queue that works again", n)
		}
		r.end()
	})
}

func TestRecordsThatCannotBeWrittenHoldUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.store.recordErr = errors.New("forbidden")
		r.start()
		synctest.Wait()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		equal(t, "acks", r.of("ack"), []string{"ack m1"})
		time.Sleep(24 * time.Hour)
		if n := r.logs.count("forbidden"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		r.store.set(func(s *fakeStore) { s.recordErr = nil })
		time.Sleep(time.Hour)
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Applied {
			t.Errorf("record after the store allows it: %+v", rec)
		}
	})
}

func TestOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		once  Once
		setup func(*rig)
		err   string // empty: success
		trace []string
		most  time.Duration
	}{
		{"any ends when applied", OnceAny, func(*rig) {}, "", []string{"activate /nix/store/sys-1"}, 0},
		{"any ends when unchanged", OnceAny, func(r *rig) { r.applied("v1") }, "", nil, 0},
		{"any ends when rejected", OnceAny, func(r *rig) { r.host.build = func(context.Context) error { return errBuild } }, "build failed", nil, 12 * time.Minute},
		{"any ends when rolled back, which is not tried again", OnceAny, func(r *rig) { r.host.activate = func() error { return errBuild } }, "build failed", []string{"activate /nix/store/sys-1"}, 0},
		{"any ends when paused", OnceAny, func(r *rig) {
			r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		}, "unpause", nil, 0},
		{"any ends when the store stays out of reach", OnceAny, func(r *rig) { r.store.latestErr = errors.New("no route") }, "no route", nil, 2 * time.Minute},
		{"any with force applies what is rejected", OnceAny, func(r *rig) {
			r.opts.Force = true
			r.fails(Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true})
		}, "", []string{"activate /nix/store/sys-1"}, 0},
		{"activate ends after an activation", OnceActivate, func(*rig) {}, "", []string{"activate /nix/store/sys-1"}, 0},
		{"an initial configuration comes before the one that is set", OnceAny, func(r *rig) {
			r.opts.Override = func(c config.Config) (config.Config, error) { c.Configuration = "base"; return c, nil }
		}, "", []string{"activate /nix/store/sys-1"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.opts.Once, r.opts.Queue = c.once, nil
				c.setup(r)
				begun := time.Now()
				r.start()
				err := <-r.done
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if took := time.Since(begun); took > c.most {
					t.Errorf("took %s", took)
				}
				equal(t, "activations", r.of("activate"), c.trace)
				r.stop()
			})
		})
	}
}

func TestOnceActivateKeepsFollowingUntilSomethingWasActivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.applied("v1")
		r.opts.Once = OnceActivate
		r.start()
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		equal(t, "trace", r.of("activate", "ack"), []string{"activate /nix/store/sys-1", "ack m1"})
		r.stop()
	})
}

func TestAChangeOfTheRemoteEndsTheAgentSoThatAnotherIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Remote = "s3://bucket/other" })
		r.poke <- struct{}{}
		if err := <-r.done; !errors.Is(err, ErrReconnect) {
			t.Errorf("Run: %v", err)
		}
		r.stop()
	})
}

func TestAChangeOfTheConfigurationIsAppliedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Configuration = "web2" })
		r.poke <- struct{}{}
		synctest.Wait()
		r.end()
		equal(t, "builds", r.of("build"), []string{"build web1", "build web2"})
	})
}

func TestRetryGivesARejectedVersionAllItsAttemptsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.fails(Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true, Attempts: 4})
		r.start()
		time.Sleep(time.Hour)
		if got := r.of("build"); len(got) != 0 {
			t.Fatalf("built what was rejected: %q", got)
		}
		r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errBuild } })
		r.configure(func(c *config.Config) { c.RetryToken = "again" })
		r.poke <- struct{}{}
		synctest.Wait()
		if f := r.state().Failure; f.Attempts != 1 || f.Rejected {
			t.Errorf("failure: %+v", f)
		}
		r.end()
	})
}

func TestTheServiceManagerIsToldInOneLineAndNotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Status = func(s string) { r.add("status %s", s) }
		r.start()
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("two\nlines") })
		time.Sleep(time.Hour)
		r.end()
		equal(t, "status", r.of("status"), []string{"status building v1", "status activating v1", "status up to date with v1", "status two lines"})
	})
}

func (r *rig) applied(etag string) {
	r.t.Helper()
	t := Target{Remote: testRemote, Configuration: "web1", ETag: etag}
	if err := saveState(r.dir, State{Applied: &Applied{Target: t, At: time.Now()}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) fails(f Failure) {
	r.t.Helper()
	if err := saveState(r.dir, State{Failure: &f}); err != nil {
		r.t.Fatal(err)
	}
}

func TestARecordThatSaysNothingNewIsRefreshedSlowly(t *testing.T) {
	for _, c := range []struct {
		name      string
		secs      *int64
		low, high int // records in ten hours, the three of the activation included
	}{
		{"each hour", nil, 11, 15},
		{"as set", new(int64(7200)), 7, 9},
		{"never", new(int64(0)), 3, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(config *config.Config) { config.RecordRefreshSecs = c.secs })
				r.start()
				time.Sleep(10 * time.Hour)
				r.end()
				if n := len(r.of("record")); n < c.low || n > c.high {
					t.Errorf("%d records: %q", n, r.of("record"))
				}
			})
		})
	}
}
