package agent

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store/release"
)

// What locks a host out for a while is over with the next good publish, or with what the error says to do.

// A host that was off while the keys were changed knows the old key alone.
func TestAHostThatWasOffDuringARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, old := trusting(t)
		now, line := newSigner(t)
		r.host.activate = func() error { // the new system's settings
			return r.dir.UpdateConfig(context.Background(), func(c *config.Config) error { c.Signers = []string{line}; return nil })
		}
		publish := func(etag string, object []byte) record.Record {
			r.publish(etag, object)
			r.queue.in <- []events.Delivery{message(etag)}
			time.Sleep(10 * time.Minute)
			return r.store.lastRecord()
		}
		r.publish("v3", released(t, now, asItIs))
		r.start()
		time.Sleep(time.Hour)
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "none of this host's signers") || len(rec.Signers) != 1 {
			t.Errorf("the new key alone: %+v", rec)
		}
		if rec := publish("v4", releasedBy(t, asItIs, old, now)); rec.Status != record.Applied {
			t.Errorf("both keys: %+v", rec)
		}
		rec := publish("v5", released(t, now, func(m *release.Manifest) { m.Archive.Size++ }))
		r.end()
		if rec.Status != record.Applied || rec.Version.ETag != "v5" {
			t.Errorf("the new key alone, once the host knows it: %+v", rec)
		}
	})
}

// A machine without a clock battery starts in 1970, and a broken one can be in another year: the store's clock counts.
func TestTheHostsClockDoesNotLockItOut(t *testing.T) {
	for name, ahead := range map[string]time.Duration{
		"decades behind": 56 * 365 * 24 * time.Hour,
		"a year ahead":   -365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, key := trusting(t)
				stored := func(change func(*release.Manifest)) []byte {
					return released(t, key, func(m *release.Manifest) {
						m.Created = m.Created.Add(ahead)
						m.Serial, m.Expires = m.Created.UnixMilli(), m.Created.Add(2*time.Hour)
						change(m)
					})
				}
				r.store.ahead = ahead
				r.publish("v1", stored(asItIs))
				r.start()
				time.Sleep(10 * time.Minute)
				if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v1" {
					t.Errorf("a release of today: %+v", rec)
				}
				r.publish("v2", stored(func(m *release.Manifest) { m.Expires = m.Created.Add(-time.Minute); m.Archive.Size++ }))
				r.queue.in <- []events.Delivery{message("m1")}
				time.Sleep(10 * time.Minute)
				r.end()
				if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "expired") {
					t.Errorf("an expired one: %+v", rec)
				}
			})
		})
	}
}

// What the host has accepted cannot be told from a damaged file, so it refuses all until an operator says so.
func TestADamagedMemoryRefusesEveryRelease(t *testing.T) {
	for name, text := range map[string]string{
		"truncated": `{"schema": 1, "remotes": {"bucket/npc`, "empty": "", "zeros": strings.Repeat("\x00", 512), "of another schema": `{"schema": 9, "remotes": {}}`,
	} {
		t.Run(name, func(t *testing.T) { refusesWithMemory(t, text) })
	}
}

func refusesWithMemory(t *testing.T, text string) {
	synctest.Test(t, func(t *testing.T) {
		r, key := trusting(t)
		r.publish("v1", released(t, key, asItIs))
		if err := os.WriteFile(r.dir.Path("trust.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Hour)
		equal(t, "activations", r.of("activate"), nil)
		if rec := r.store.lastRecord(); !strings.Contains(rec.Error, "npcnix trust reset") {
			t.Errorf("record: %+v", rec)
		}
		if err := trust.Reset(r.dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1"})
	})
}

// Without the file the host is as a new one: it accepts what is signed and not expired, and remembers it.
func TestALostMemoryIsThatOfANewHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := trusting(t)
		older := released(t, key, func(m *release.Manifest) { m.Serial-- })
		r.publish("v1", released(t, key, asItIs))
		r.start()
		time.Sleep(10 * time.Minute)
		if err := os.Remove(r.dir.Path("trust.json")); err != nil {
			t.Fatal(err)
		}
		r.publish("v2", released(t, key, func(m *release.Manifest) { m.Archive.Size++ }))
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(10 * time.Minute)
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v2" {
			t.Errorf("record: %+v", rec)
		}
		r.publish("v3", older)
		r.queue.in <- []events.Delivery{message("m2")}
		time.Sleep(10 * time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "an older release was put back") {
			t.Errorf("an older one, after that: %+v", rec)
		}
	})
}
