package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store/release"
)

func TestCondition(t *testing.T) {
	begin := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	const soak = 10 * time.Minute
	for _, c := range []struct {
		name      string
		looks     string // one a minute: + healthy, - not
		unhealthy bool
		soaked    bool
	}{
		{"nothing is known yet", "", false, false},
		{"healthy for less than the soak", "+++++++++", false, false},
		{"healthy for the soak", "++++++++++", false, true},
		{"one bad look is not unhealthy, and not soaked", "+++++++++++-", false, false},
		{"nor does it begin the soak again", "+++++-++++", false, true},
		{"two in a row are", "+++++++--", true, false},
		{"one good look does not heal", "+++++++--+", true, false},
		{"nor do good and bad ones in turn", "--+-+-+-+-", true, false},
		{"two in a row do, and begin the soak again", "++++--++++++", false, false},
		{"which can end", "--++++++++++++", false, true},
	} {
		is, now := condition{since: begin}, begin
		for _, look := range c.looks {
			now = now.Add(time.Minute)
			var err error
			if look == '-' {
				err = errors.New("bad")
			}
			is = is.add(err, now)
		}
		if (is.unhealthy != "") != c.unhealthy || is.soaked(soak, now) != c.soaked || is.soaked(0, now) {
			t.Errorf("%s: %+v", c.name, is)
		}
	}
}

// ailing is a machine whose units do as the test says.
type ailing struct {
	*fakeMachine
	trace  *trace
	failed func() []string
}

func (m ailing) NewlyFailing(context.Context, activation.Journal, []string) (activation.Failing, error) {
	m.trace.add("look")
	return activation.Failing{Failed: m.failed()}, nil
}

func TestHostsGoOnLookingAfterTheyCommitted(t *testing.T) {
	// begin starts a host that has applied a release with a soak of 10 minutes, whose unit is failing while ill.
	begin := func(t *testing.T, ill *atomic.Bool, change ...func(*config.Config)) *rig {
		r, key := trusting(t, change...)
		r.opts.Machine = ailing{fakeMachine: &fakeMachine{trace: r.trace}, trace: r.trace, failed: func() []string {
			if ill.Load() {
				return []string{"web.service (exit-code)"}
			}
			return nil
		}}
		o := newRollout(t, key, func(m *release.Manifest) { waves(m); m.Rollout.Soak = 600 })
		r.publish("v1", o.next(key, 2, release.Running))
		r.start()
		time.Sleep(30 * time.Second)
		write(t, r.dir.Path("activation.json"), `{"schema": 2, "id": "a", "phase": "committed", "system": "/nix/store/sys-1", "units_ran": ["web.service"], "units": {"web.service": {"active": "active"}}}`)
		r.mark()
		return r
	}

	inBubble(t, "the record says once that the soak is over", func(t *testing.T) {
		ill := new(atomic.Bool)
		r := begin(t, ill)
		time.Sleep(9 * time.Minute)
		equal(t, "records before", r.of("record"), nil)
		time.Sleep(40 * time.Minute)
		r.end()
		equal(t, "records after", r.of("record"), []string{"record applied v1"})
		if rec := r.store.lastRecord(); rec.HealthySecs != 600 || rec.Unhealthy != "" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a round that cannot begin does not begin the soak again", func(t *testing.T) {
		r := begin(t, new(atomic.Bool))
		time.Sleep(20 * time.Minute)
		r.host.set(func(h *fakeHost) { h.damaged = errors.New("a store path cannot be repaired") })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		r.host.set(func(h *fakeHost) { h.damaged = nil })
		r.queue.in <- []events.Delivery{message("m2")}
		time.Sleep(2 * time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.HealthySecs != 600 {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "two bad looks are unhealthy, which is recorded and logged once; two good ones end it", func(t *testing.T) {
		ill := new(atomic.Bool)
		r := begin(t, ill)
		time.Sleep(5 * time.Minute)
		ill.Store(true)
		time.Sleep(time.Minute)
		equal(t, "records after one bad look", r.of("record"), nil)
		time.Sleep(20 * time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Unhealthy == "" || rec.HealthySecs != 0 {
			t.Errorf("record: %+v", rec)
		}
		ill.Store(false)
		time.Sleep(20 * time.Minute)
		r.end()
		equal(t, "records", r.of("record"), []string{"record applied v1", "record applied v1", "record applied v1"}) // ill, well, soaked
		if rec := r.store.lastRecord(); rec.HealthySecs != 600 {
			t.Errorf("record: %+v", rec)
		}
		if n := r.logs.count("the applied system is unhealthy"); n != 1 {
			t.Errorf("logged %d times", n)
		}
	})

	inBubble(t, "a check that fails is unhealthy too, and named, until it passes again", func(t *testing.T) {
		up := filepath.Join(t.TempDir(), "up")
		write(t, up, "")
		r := begin(t, new(atomic.Bool), func(c *config.Config) {
			c.Checks = []config.Check{{Name: "own", Command: []string{"test", "-e", up}}}
		})
		time.Sleep(5 * time.Minute)
		equal(t, "records while it passes", r.of("record"), nil)
		if err := os.Remove(up); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.Applied || !strings.Contains(rec.Unhealthy, "check own: ") || rec.HealthySecs != 0 {
			t.Errorf("record: %+v", rec)
		}
		write(t, up, "")
		time.Sleep(5 * time.Minute)
		if rec := r.store.lastRecord(); rec.Unhealthy != "" || rec.HealthySecs != 0 {
			t.Errorf("record: %+v", rec)
		}
		time.Sleep(20 * time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.Unhealthy != "" || rec.HealthySecs != 600 {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "another version is judged by itself", func(t *testing.T) {
		ill := new(atomic.Bool)
		ill.Store(true)
		r := begin(t, ill)
		time.Sleep(10 * time.Minute)
		if rec := r.store.lastRecord(); rec.Unhealthy == "" {
			t.Errorf("record: %+v", rec)
		}
		ill.Store(false)
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		key, line := newSigner(t)
		r.configure(func(c *config.Config) { c.Signers = []string{line} })
		r.publish("v2", released(t, key, other))
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Second)
		if rec := r.store.lastRecord(); rec.Version.ETag != "v2" || rec.Unhealthy != "" || rec.HealthySecs != 0 {
			t.Errorf("record: %+v", rec)
		}
		time.Sleep(time.Hour - time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.HealthySecs != 0 { // it has no rollout
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "looks are health_interval_secs apart, and 0 has none", func(t *testing.T) {
		for secs, want := range map[int64]int{60: 60, 600: 6, 0: 0} {
			ill := new(atomic.Bool)
			r := begin(t, ill, func(c *config.Config) { c.HealthIntervalSecs = &secs })
			r.mark()
			time.Sleep(time.Hour)
			r.end()
			if n := len(r.of("look")); n < want-1 || n > want {
				t.Errorf("every %d seconds: %s looks in an hour", secs, fmt.Sprint(n))
			}
		}
	})
}
