package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
)

// pulse is what agent.json says now.
func (r *rig) pulse() Pulse {
	r.t.Helper()
	p, _, err := ReadPulse(r.dir)
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
		p := r.pulse()
		if p.PID != os.Getpid() || p.Version != "test" || !p.Started.Equal(began) || p.ETag != "v1" || p.Trigger != TriggerStart || !p.LastLook.Equal(began) || !p.LastPoll.Equal(began) {
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
		p = r.pulse()
		if !p.LastEvent.Equal(heard) || p.Trigger != TriggerEvent || p.LastLook.Before(heard) || !p.LastPoll.Before(heard) || !p.Parts["queue"].Works {
			t.Errorf("after an event at %s: %+v", heard, p)
		}

		r.queue.setErr(errors.New("no such queue"))
		r.store.set(func(s *fakeStore) { s.latestErr = errors.New("store is down") })
		time.Sleep(30 * time.Minute)
		p = r.pulse()
		queue := p.Parts["queue"]
		if queue.Works || queue.Error != "no such queue" || time.Since(queue.Since) < 25*time.Minute || p.ETag != "" || !strings.Contains(p.Hindered, "store is down") {
			t.Errorf("without a queue and a store: %+v", p)
		}

		r.queue.setErr(nil)
		r.store.set(func(s *fakeStore) { s.latestErr, s.recordErr = nil, errors.New("forbidden") })
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		time.Sleep(time.Hour)
		p = r.pulse()
		if !p.Parts["queue"].Works || !p.Parts["store"].Works || p.Hindered != "" || p.ETag != "v2" || p.Parts["record"].Error != "forbidden" {
			t.Errorf("after all but the record has healed: %+v", p)
		}
		r.end()
	})
}

func TestARunBesideTheAgentLeavesItsPulseAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Once, r.opts.Queue = OnceAny, nil
		r.start()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(r.dir.Path(pulseFile)); err == nil {
			t.Error("follow --once wrote agent.json")
		}
	})
}

func TestThePulseIsWrittenOnceASecondAtMostAndOnlyOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := config.Dir(t.TempDir())
		p := newPulse(dir, "test")
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { p.run(ctx) })
		seen := map[string]bool{}
		for range 400 { // 10 s
			p.update(func(now *Pulse) { now.Next = time.Now() })
			time.Sleep(25 * time.Millisecond)
			data, err := os.ReadFile(dir.Path(pulseFile))
			if err != nil {
				t.Fatal(err)
			}
			seen[string(data)] = true
		}
		if len(seen) < 9 || len(seen) > 11 {
			t.Errorf("%d writes in 10 s of changes", len(seen))
		}
		time.Sleep(5 * time.Second)
		if err := os.Remove(dir.Path(pulseFile)); err != nil {
			t.Fatal(err)
		}
		p.part("queue", nil)
		time.Sleep(2 * time.Second)
		if err := os.Remove(dir.Path(pulseFile)); err != nil {
			t.Errorf("a change was not written: %v", err)
		}
		p.part("queue", nil)
		p.part("unheard of", errors.New("x"))
		p.update(func(*Pulse) {})
		time.Sleep(2 * time.Second)
		if _, err := os.Stat(dir.Path(pulseFile)); err == nil {
			t.Error("written without a change")
		}
		p.update(func(now *Pulse) { now.ETag = "last" })
		stop()
		running.Wait()
		if last, _, err := ReadPulse(dir); err != nil || last.ETag != "last" {
			t.Errorf("the last change: %+v, %v", last, err)
		}
	})
}

func TestWhetherAnAgentRunsIsToldByItsLockAlone(t *testing.T) {
	dir := config.Dir(t.TempDir())
	if p, running, err := ReadPulse(dir); running || err != nil || p.PID != 0 {
		t.Errorf("where none ever ran: %+v, %v, %v", p, running, err)
	}
	if entries, err := os.ReadDir(string(dir)); err != nil || len(entries) != 0 {
		t.Errorf("looking left %v, %v", entries, err)
	}
	unlock, err := dir.LockFollow()
	if err != nil {
		t.Fatal(err)
	}
	if _, running, err := ReadPulse(dir); !running || err != nil {
		t.Errorf("while one runs: %v, %v", running, err)
	}
	for _, damaged := range []string{"{", `{"schema": 7}`} {
		if err := os.WriteFile(dir.Path(pulseFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, running, err := ReadPulse(dir); !running || err == nil || p.PID != 0 {
			t.Errorf("%s: %+v, %v, %v", damaged, p, running, err)
		}
	}
	unlock()
	if _, running, _ := ReadPulse(dir); running {
		t.Error("one that has ended runs")
	}
}

func TestLookingWhetherAnAgentRunsKeepsNoneFromStarting(t *testing.T) {
	dir := config.Dir(t.TempDir())
	var looking sync.WaitGroup
	stop := make(chan struct{})
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, _, err := ReadPulse(dir); err != nil {
					t.Errorf("look: %v", err)
					return
				}
			}
		}
	})
	for range 500 {
		unlock, err := dir.LockFollow()
		if err != nil {
			t.Errorf("start: %v", err)
			break
		}
		unlock()
	}
	close(stop)
	looking.Wait()
}
