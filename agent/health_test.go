package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
)

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

// health is what agent.json says now.
func (r *rig) health() health.Health {
	r.t.Helper()
	p, _, err := health.Read(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func TestHealth(t *testing.T) {
	inBubble(t, "a running agent tells how it is doing", func(t *testing.T) {
		r := newRig(t)
		began := time.Now()
		r.start()
		time.Sleep(5 * time.Second)
		p := r.health()
		if p.PID != os.Getpid() || p.Version != "test" || !p.Started.Equal(began) || p.ETag != "v1" || p.Trigger != record.Start || !p.LastLook.Equal(began) || !p.LastPoll.Equal(began) {
			t.Errorf("after the start: %+v", p)
		}
		if next := p.Next.Sub(began); next < 21*time.Second || next > 28*time.Second {
			t.Errorf("the next look is said to be after %s", next)
		}
		if _, tried := p.Parts["queue"]; tried || !p.Parts["store"].Works || !p.Parts["record"].Works || !p.LastEvent.IsZero() {
			t.Errorf("before the queue has answered: %+v", p)
		}

		time.Sleep(time.Minute)
		r.queue.in <- []events.Delivery{message("m1")}
		heard := time.Now()
		time.Sleep(3 * time.Second)
		p = r.health()
		if !p.LastEvent.Equal(heard) || p.Trigger != record.Event || p.LastLook.Before(heard) || !p.LastPoll.Before(heard) || !p.Parts["queue"].Works {
			t.Errorf("after an event at %s: %+v", heard, p)
		}

		r.queue.setErr(errors.New("no such queue"))
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("store is down") })
		time.Sleep(30 * time.Minute)
		p = r.health()
		queue := p.Parts["queue"]
		if queue.Works || queue.Error != "no such queue" || time.Since(queue.Since) < 25*time.Minute || p.ETag != "" || !strings.Contains(p.TransientError, "store is down") {
			t.Errorf("without a queue and a store: %+v", p)
		}

		r.queue.setErr(nil)
		r.store.set(func(s *fakeStore) { s.latestErr, s.recordErr = nil, errors.New("forbidden") })
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		time.Sleep(time.Hour)
		p = r.health()
		if !p.Parts["queue"].Works || !p.Parts["store"].Works || p.TransientError != "" || p.ETag != "v2" || p.Parts["record"].Error != "forbidden" {
			t.Errorf("after all but the record has healed: %+v", p)
		}
		r.end()
	})

	inBubble(t, "a run beside the agent leaves its agent.json alone", func(t *testing.T) {
		r := newRig(t)
		r.opts.Once, r.opts.Queue = OnceAny, nil
		r.start()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(r.dir.Path("agent.json")); err == nil {
			t.Error("follow --once wrote agent.json")
		}
	})

	inBubble(t, "the service manager is told in one line, and not twice", func(t *testing.T) {
		r := newRig(t)
		r.opts.Status = func(s string) { r.add("status %s", s) }
		r.start()
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("two\nlines") })
		time.Sleep(time.Hour)
		r.end()
		equal(t, "status", r.of("status"), []string{"status building v1", "status activating v1", "status up to date with v1", "status two lines"})
	})

	t.Run("a fault that was over is logged again hours later", func(t *testing.T) {
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
			inBubble(t, c.name, func(t *testing.T) {
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
		}
	})

	inBubble(t, "a queue that comes and goes does not flood the log", func(t *testing.T) {
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
