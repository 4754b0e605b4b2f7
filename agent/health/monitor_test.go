package health

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"log/slog"

	"github.com/npcnix/npcnix/agent/config"
)

func TestWritesOnChangeOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := config.Dir(t.TempDir())
		p := New(dir, "test", slog.New(slog.DiscardHandler))
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { p.Run(ctx) })
		seen := map[string]bool{}
		for range 400 { // 10 s
			p.Update(func(now *Health) { now.Next = time.Now() })
			time.Sleep(25 * time.Millisecond)
			data, err := os.ReadFile(dir.Path(fileName))
			if err != nil {
				t.Fatal(err)
			}
			seen[string(data)] = true
		}
		if len(seen) < 9 || len(seen) > 11 {
			t.Errorf("%d writes in 10 s of changes", len(seen))
		}
		time.Sleep(5 * time.Second)
		if err := os.Remove(dir.Path(fileName)); err != nil {
			t.Fatal(err)
		}
		p.Working(Queue)
		time.Sleep(2 * time.Second)
		if err := os.Remove(dir.Path(fileName)); err != nil {
			t.Errorf("a change was not written: %v", err)
		}
		p.Working(Queue)
		p.Failing(Drift, errors.New("x")) // is not in the file
		p.Update(func(*Health) {})
		time.Sleep(2 * time.Second)
		if _, err := os.Stat(dir.Path(fileName)); err == nil {
			t.Error("written without a change")
		}
		p.Update(func(now *Health) { now.ETag = "last" })
		stop()
		running.Wait()
		if last, _, err := Read(dir); err != nil || last.ETag != "last" {
			t.Errorf("the last change: %+v, %v", last, err)
		}
	})
}

func TestWhetherAnAgentRunsIsToldByItsLockAlone(t *testing.T) {
	dir := config.Dir(t.TempDir())
	if p, running, err := Read(dir); running || err != nil || p.PID != 0 {
		t.Errorf("where none ever ran: %+v, %v, %v", p, running, err)
	}
	if entries, err := os.ReadDir(string(dir)); err != nil || len(entries) != 0 {
		t.Errorf("looking left %v, %v", entries, err)
	}
	unlock, err := dir.LockFollow()
	if err != nil {
		t.Fatal(err)
	}
	if _, running, err := Read(dir); !running || err != nil {
		t.Errorf("while one runs: %v, %v", running, err)
	}
	for _, damaged := range []string{"{", `{"schema": 7}`} {
		if err := os.WriteFile(dir.Path(fileName), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, running, err := Read(dir); !running || err == nil || p.PID != 0 {
			t.Errorf("%s: %+v, %v, %v", damaged, p, running, err)
		}
	}
	unlock()
	if _, running, _ := Read(dir); running {
		t.Error("one that has ended runs")
	}
}

func TestLookingForAnAgentStopsNone(t *testing.T) {
	dir := config.Dir(t.TempDir())
	var looking sync.WaitGroup
	stop := make(chan struct{})
	looking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, _, err := Read(dir); err != nil {
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
