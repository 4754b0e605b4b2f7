package agent

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
)

// health is what agent.json says now.
func (r *rig) health() health.Health {
	r.t.Helper()
	p, _, err := health.Read(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func TestARunningAgentTellsHowItIsDoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
}

func TestARunBesideTheAgentLeavesItsHealthAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
}
