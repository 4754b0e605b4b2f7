package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// fileStore fetches a flake that is there.
type fileStore struct{ *fakeStore }

func (s fileStore) FetchSigned(_ context.Context, _ store.Version, _ store.Archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "flake.nix"), nil, 0o644)
}

func TestFollowingOnceBesideADaemonLeavesItsFlakeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = nil
		r.opts.Store = fileStore{r.store}
		r.host.build = func(ctx context.Context) error {
			wait.For(ctx, time.Minute)
			left, _ := filepath.Glob(r.dir.Path("flake-*/flake/flake.nix"))
			if len(left) == 0 {
				return errors.New("no flake.nix in the folder: was the right folder packed?")
			}
			return ctx.Err()
		}
		r.start()
		time.Sleep(10 * time.Second) // building
		o := r.opts
		o.Once = OnceAny
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan struct{})
		go func() { _ = b.Run(ctx); close(ended) }()
		time.Sleep(51 * time.Second)
		f := r.state().Failure
		r.end()
		cancel()
		<-ended
		if f != nil {
			t.Errorf("the good publish failed on the running agent: %+v", f)
		}
	})
}

func TestForceIsForOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Force = true
		r.host.build = func(context.Context) error { return errBuild }
		r.start()
		time.Sleep(24 * time.Hour)
		r.end()
		if n := len(r.of("build")); n > 5 {
			t.Errorf("built the broken version %d times in a day; rejected means 4", n)
		}
	})
}

func TestForceDoesNotOutliveAFailureByEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Force = true
		r.host.build = func(context.Context) error { return errBuild }
		r.start()
		synctest.Wait()
		for range 10 {
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Second)
		}
		n := len(r.of("build"))
		r.end()
		if n > 2 {
			t.Errorf("%d builds in 10 s", n)
		}
	})
}

func TestStoppedDuringTheSwitchTheMessageIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { time.Sleep(20 * time.Second); return nil }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(5 * time.Second)
		r.end()
		if got := r.of("ack", "extend"); len(got) == 0 {
			t.Errorf("applied %s, yet the message was neither deleted nor given back: %q", r.state().Applied.ETag, r.of("refused"))
		}
	})
}

func TestToInterruptOnceIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue, r.opts.Once = nil, OnceAny
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		if err := r.end(); err == nil {
			t.Error("nothing was applied, and Run returned nil")
		}
	})
}

func TestOnceActivateGoesOnWhenTheSystemRanAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Once = OnceActivate
		r.host.running = "/nix/store/sys-1"
		r.start()
		time.Sleep(time.Minute)
		select {
		case <-r.done:
			t.Errorf("ended; activations: %q", r.of("activate"))
			r.stop()
		default:
			r.end()
		}
	})
}

func TestAPausedHostReceivesNothingWhileTheStoreIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		r.store.latestErr = errors.New("down")
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if n := len(r.of("receive")); n > 1 {
			t.Errorf("received %d times while paused", n)
		}
	})
}

// a queue that redelivers as SQS does
type realQueue struct {
	*trace
	visible chan events.Delivery
}

func (q *realQueue) Receive(ctx context.Context) ([]events.Delivery, error) {
	poll := time.NewTimer(20 * time.Second)
	defer poll.Stop()
	select {
	case d := <-q.visible:
		q.add("received %s", d.ID)
		return []events.Delivery{d}, nil
	case <-poll.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (q *realQueue) Extend(_ context.Context, ds []events.Delivery, by time.Duration) error {
	for _, d := range ds {
		time.AfterFunc(by, func() { q.visible <- d })
	}
	return nil
}
func (q *realQueue) Ack(context.Context, []events.Delivery) error { return nil }

func TestAPausedHostReceivesNothingOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		q := &realQueue{trace: r.trace, visible: make(chan events.Delivery, 100)}
		q.visible <- message("m1")
		r.opts.Queue = q
		for range 3 { // restarts
			r.start()
			time.Sleep(time.Hour)
			r.end()
			time.Sleep(time.Hour)
		}
		if n := len(r.of("received")); n > 0 {
			t.Errorf("received %d times over three starts while paused all the time", n)
		}
	})
}

func TestAnOvertakenIntentIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Second)
		r.store.set(func(s *fakeStore) { s.etag = "v1" }) // rolled back
		r.queue.in <- []events.Delivery{message("m2")}
		time.Sleep(time.Hour)
		in := r.state().Intent
		r.end()
		if in != nil {
			t.Errorf("an hour later state.json still says in progress: %+v", in)
		}
	})
}

func TestARestartLeavesTheRecordAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		before := r.store.lastRecord()
		time.Sleep(time.Hour)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		after := r.store.lastRecord()
		if !after.Times.Acknowledged.Equal(before.Times.Acknowledged) || after.Times.Built.IsZero() {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

func TestTheRecordOfAFailedActivationSaysWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { h.running = "/nix/store/sys-2"; return errors.New("unit failed") }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		rec := r.store.lastRecord()
		r.end()
		if rec.System != "/nix/store/sys-2" {
			t.Errorf("runs sys-2, the record says %s", rec.System)
		}
	})
}

func TestAConfigurationChangedDuringABuildIsWhatIsActivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.host.build = func(ctx context.Context) error { wait.For(ctx, time.Minute); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.configure(func(c *config.Config) { c.Remote = "s3://bucket/npcnix/remotes/prod.npcnix" })
		if err := <-r.done; !errors.Is(err, ErrReconnect) {
			t.Errorf("Run: %v", err)
		}
		r.stop()
		if got := r.of("activate"); len(got) != 0 {
			t.Errorf("activated the old remote's version a minute after the remote was changed: %q", got)
		}
	})
}

// flappy fails every other time.
type flappy struct {
	*fakeQueue
	n int
}

func (q *flappy) Receive(ctx context.Context) ([]events.Delivery, error) {
	q.n++
	if q.n%2 == 0 {
		return nil, errors.New("throttled")
	}
	wait.For(ctx, time.Second)
	return nil, nil
}

func TestAFlappingQueueDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = &flappy{fakeQueue: r.queue}
		r.start()
		time.Sleep(time.Hour)
		r.end()
		t.Logf("%d warnings, %d recoveries, %d HEADs in an hour", r.logs.count("level=WARN"), r.logs.count("receiving from the queue again"), len(r.of("latest")))
		if n := r.logs.count("level=WARN"); n > 20 {
			t.Errorf("%d warnings", n)
		}
	})
}

// hung fails once, then never answers.
type hung struct {
	*fakeQueue
	n int
}

func (q *hung) Receive(ctx context.Context) ([]events.Delivery, error) {
	q.n++
	if q.n == 1 {
		return nil, errors.New("gone")
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestStoppingIsNotTakenForRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = &hung{fakeQueue: r.queue}
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if n := r.logs.count("receiving from the queue again"); n != 0 {
			t.Errorf("said that the queue works again while stopping")
		}
	})
}

func TestALockThatCannotBeTakenIsNotBlamedOnTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if err := os.Mkdir(r.dir.Path("activate.lock"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if n := r.logs.count("cannot read the store"); n != 0 {
			t.Errorf("a lock that cannot be taken was reported as: the store cannot be read")
		}
	})
}

func TestAnUnchangedPollLeavesTheRecordAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		a := r.store.lastRecord()
		time.Sleep(13 * time.Minute)
		b := r.store.lastRecord()
		r.end()
		if b.Times.Built.IsZero() || b.Trigger != record.Event || !b.Times.Acknowledged.Equal(a.Times.Acknowledged) {
			t.Errorf("\nafter the event %s attempt %d %+v\nafter a poll    %s attempt %d %+v", a.Trigger, a.Attempt, a.Times, b.Trigger, b.Attempt, b.Times)
		}
	})
}

// nix.ErrMachine after the switch started; a status with newlines
// cost of an activation that fails for the machine's reasons: it needs repair for ever, attempts never end
func TestAStopBeforeTheSwitchDoesNotHideDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		// v2's activation fails for machine reasons once (ErrMachine: nothing was changed), then v1 is published again, and an operator runs something else
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { return fmt.Errorf("activate: %w", nix.ErrMachine) }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		s := r.state()
		r.end()
		if s.NeedsRepair {
			t.Errorf("nothing was changed on the host, yet it needs repair")
		}
	})
}

// hungStore never gets a record written.
type hungStore struct {
	*fakeStore
}

func (s hungStore) PutRecord(ctx context.Context, host string, body []byte) error {
	<-ctx.Done()
	return ctx.Err()
}

// hungExtend never answers.
type hungExtend struct{ *fakeQueue }

func (q hungExtend) Extend(ctx context.Context, ds []events.Delivery, by time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStoppingWithAHungNetworkHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Store = hungStore{fakeStore: r.store}
		r.opts.Queue = hungExtend{r.queue}
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); time.Sleep(2 * time.Second); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(3 * time.Second)
		begun := time.Now()
		r.end()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestAHungRecordDoesNotHoldUpTheNextPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Store = hungStore{fakeStore: r.store}
		r.start()
		synctest.Wait()
		time.Sleep(time.Second)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		begun := time.Now()
		for (r.state().Applied.ETag != "v2") && time.Since(begun) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		took := time.Since(begun)
		r.end()
		if took > 3*time.Second {
			t.Errorf("v2 was applied after %s, as writing a record hung", took)
		}
	})
}

func TestAMessageIsHeldWhileATransientErrorLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag, s.latestErr = "v2", errors.New("503") })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(20*time.Minute + time.Second)
		r.store.set(func(s *fakeStore) { s.latestErr = nil })
		time.Sleep(4 * time.Minute)
		r.end()
		held := r.of("extend", "ack")
		if len(held) < 30 || held[len(held)-1] != "ack m1" {
			t.Errorf("messages: %q", held)
		}
		for _, step := range held[:len(held)-1] {
			if step != "extend m1 by 2m0s" {
				t.Errorf("given back: %s", step)
			}
		}
	})
}

func TestAFaultThatWasOverIsSaidAgainHoursLater(t *testing.T) {
	// A fault lasts while on is set.
	for _, c := range []struct {
		name   string
		says   string
		broken func(r *rig, m *fakeMachine, on bool)
	}{
		{"whether a reboot is due", "cannot tell whether a reboot is due", func(r *rig, m *fakeMachine, on bool) {
			m.set(func() { m.dueErr = map[bool]error{true: errors.New("no systemd")}[on] })
		}},
		{"a reboot", "cannot reboot the machine", func(r *rig, m *fakeMachine, on bool) {
			m.set(func() {
				m.why, m.lost = "kernel", 1000
				m.err = map[bool]error{true: errors.New("no systemd")}[on]
			})
		}},
		{"deleting what is for others", "cannot acknowledge messages", func(r *rig, m *fakeMachine, on bool) {
			r.queue.setAckErr(on)
			other := message("other")
			other.Notices[0].Key = "other"
			r.queue.in <- []events.Delivery{other}
		}},
		{"acknowledging", "cannot acknowledge messages", func(r *rig, m *fakeMachine, on bool) {
			r.queue.setAckErr(on)
			r.queue.in <- []events.Delivery{message("m1")}
		}},
		{"state.json", "cannot write state.json", func(r *rig, m *fakeMachine, on bool) {
			state := r.dir.Path("state.json")
			if !on {
				if err := os.Remove(state); err != nil {
					r.t.Error(err)
				}
			}
			// While a system is activated a directory takes the file's place.
			r.host.set(func(h *fakeHost) {
				h.system += "1"
				h.activate = func() error {
					if !on {
						return nil
					}
					return errors.Join(os.Remove(state), os.Mkdir(state, 0o755))
				}
			})
			r.store.set(func(s *fakeStore) { s.etag += "1" })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(c *config.Config) { c.Reboot = config.RebootWhenNeeded })
				m := &fakeMachine{trace: r.trace}
				r.opts.Machine, r.opts.BootID = m, m.bootID
				r.start()
				time.Sleep(time.Hour)
				for range 2 {
					for _, on := range []bool{true, false} {
						c.broken(r, m, on)
						time.Sleep(3 * time.Hour)
					}
				}
				r.end()
				if n := r.logs.count(c.says); n != 2 {
					t.Errorf("said %d times of 2", n)
				}
			})
		})
	}
}
