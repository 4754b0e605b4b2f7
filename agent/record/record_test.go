package record

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Status
	}{
		{"schema 2", `{"schema": 2, "status": "rolled_back"}`, Status("rolled_back")},
		{"schema 1", `{"schema": 1, "state": "rolled_back"}`, Status("rolled_back")},
		{"schema 1, with the next boot", `{"schema": 1, "state": "activating", "reboot_due": true}`, RebootPending},
		{"schema 1, switching", `{"schema": 1, "state": "activating"}`, Activating},
		{"schema 1, applied with a reboot due", `{"schema": 1, "state": "applied", "reboot_due": true}`, Applied},
		{"schema 2, switching with a reboot due", `{"schema": 2, "status": "activating", "reboot_due": true}`, Activating},
		{"a later schema with what is unknown", `{"schema": 3, "status": "applied", "novel": [1]}`, Applied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse([]byte(c.text))
			if err != nil || r.Status != c.want {
				t.Errorf("status %q, %v; want %q", r.Status, err, c.want)
			}
		})
	}
	if _, err := Parse([]byte(`{"schema": `)); err == nil || !strings.Contains(err.Error(), "read record") {
		t.Errorf("damaged: %v", err)
	}
}

func TestARecordIsWrittenWithStatusAlone(t *testing.T) {
	body, err := json.Marshal(Record{Schema: Schema, Status: Applied})
	if err != nil || !strings.Contains(string(body), `"status":"applied"`) || strings.Contains(string(body), `"state"`) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestBounds(t *testing.T) {
	if got := Bounded("é"+strings.Repeat("x", 10), 1); got != "…" {
		t.Errorf("half a letter is kept: %q", got)
	}
	if got := Bounded("short", 5); got != "short" {
		t.Errorf("%q", got)
	}
	if got := BoundedTail([]string{"one", "two", "three"}, 8); strings.Join(got, " ") != "two three" {
		t.Errorf("%q", got)
	}
	if got := BoundedTail([]string{"one"}, 3); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// times is a store that knows when it was written to.
type times struct {
	mu sync.Mutex
	at []time.Time
}

func (s *times) PutRecord(context.Context, string, []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Now())
	return nil
}

// A fleet that a publish wakes in one moment does not tell of its work in one moment.
func TestWorkIsNotToldOfInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts = 500
		var written times
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for range hosts {
			w := NewWriter(&written, "web1", func(error) {})
			running.Go(func() { w.Run(ctx) })
			w.Put(Record{Status: Building})
			time.AfterFunc(time.Second, func() { w.Put(Record{Status: Activating}) })
		}
		begun := time.Now()
		time.Sleep(time.Minute)
		stop()
		running.Wait()
		inStep := map[time.Duration]int{}
		for _, at := range written.at {
			after := at.Sub(begun)
			if after < 3*time.Second || after > 6*time.Second {
				t.Errorf("work is told of after %v", after)
			}
			inStep[after/(100*time.Millisecond)]++
		}
		if len(written.at) != hosts {
			t.Errorf("%d records of %d hosts", len(written.at), hosts)
		}
		for after, n := range inStep {
			if n > hosts/10 {
				t.Errorf("%d of %d hosts write in the tenth of a second after %v", n, hosts, after*100*time.Millisecond)
			}
		}
	})
}
