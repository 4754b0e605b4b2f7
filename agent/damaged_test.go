package agent

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
)

// damages are what can be wrong with a config.json.
var damages = map[string]string{"truncated": `{"remote": "s3`, "an empty object": `{}`, "null": `null`, "empty": ``}

// each runs a test with each of the damages.
func each(t *testing.T, name string, test func(t *testing.T, content string)) {
	t.Run(name, func(t *testing.T) {
		for what, content := range damages {
			inBubble(t, what, func(t *testing.T) { test(t, content) })
		}
	})
}

func TestDamagedSettings(t *testing.T) {
	good := func(r *rig) string {
		data, err := os.ReadFile(r.dir.ConfigPath())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	publish := func(r *rig) {
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.queue.in <- []events.Delivery{message("m1")}
	}
	ended := func(t *testing.T, r *rig) {
		t.Helper()
		if s := r.state(); s.Failure != nil || s.Applied == nil || s.Applied.ETag != "v2" {
			t.Errorf("applied %+v, failure %+v", s.Applied, s.Failure)
		}
		equal(t, "acks", r.of("ack"), []string{"ack m1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v2" {
			t.Errorf("record: %+v", rec)
		}
		if n := r.logs.count("config.json cannot be used"); n < 1 || n > 2 {
			t.Errorf("said %d times: %s", n, r.logs.b.String())
		}
	}

	each(t, "during a build cost no version", func(t *testing.T, content string) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		was := good(r)
		r.host.set(func(h *fakeHost) {
			h.build = func(context.Context) error { write(t, r.dir.ConfigPath(), content); return nil }
		})
		publish(r)
		synctest.Wait()
		if n := len(r.of("activate")); n != 1 {
			t.Errorf("activated %d times, but whether the host is paused cannot be told", n)
		}
		r.host.set(func(h *fakeHost) { h.build = nil })
		write(t, r.dir.ConfigPath(), was)
		time.Sleep(5 * time.Minute)
		r.end()
		ended(t, r)
	})

	each(t, "during the verification cost no version", func(t *testing.T, content string) {
		r := newRig(t, func(c *config.Config) { c.VerifyTimeoutSecs = 60 })
		r.opts.Reach = func(_ context.Context, c config.Config, _ bool) error {
			if c.Remote != testRemote {
				return errors.New("there is no remote")
			}
			return nil
		}
		r.start()
		synctest.Wait()
		r.host.set(func(h *fakeHost) {
			h.activate = func() error { write(t, r.dir.ConfigPath(), content); return nil }
		})
		publish(r)
		time.Sleep(15 * time.Minute) // the next round reads it
		r.end()
		ended(t, r)
	})

	each(t, "leave those before in force, also after a restart", func(t *testing.T, content string) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		write(t, r.dir.ConfigPath(), content)
		r.end()
		c, _, err := r.dir.InForce()
		if err != nil {
			t.Fatal(err)
		}
		r.opts.Config = c
		a, err := New(r.opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r.stop, r.done = cancel, make(chan error, 1)
		go func() { r.done <- a.Run(ctx) }()
		synctest.Wait()
		publish(r)
		time.Sleep(time.Hour)
		r.end()
		ended(t, r)
	})
}
