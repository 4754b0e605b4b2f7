package agent

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

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

// A store that shows an old release for ever is seen by nothing else than the release's age.
func TestAReleaseThatIsAboutToExpireIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := trusting(t)
		expiring := func(m *release.Manifest) { m.Expires = m.Created.Add(4 * time.Hour) }
		r.publish("v1", released(t, key, expiring))
		r.start()
		for _, told := range []bool{false, true} {
			time.Sleep(2*time.Hour + 30*time.Minute)
			rec := r.store.lastRecord()
			if rec.Status != record.Applied || strings.Contains(rec.Warning, "the release expires at 20") != told {
				t.Errorf("told should be %t: %+v", told, rec)
			}
			time.Sleep(time.Hour)
		}
		r.publish("v2", released(t, key, func(m *release.Manifest) { m.Serial++; m.Created = time.Now(); expiring(m) })) // renewed
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		r.end()
		if rec := r.store.lastRecord(); rec.Version.ETag != "v2" || rec.Warning != "" {
			t.Errorf("renewed: %+v", rec)
		}
	})
}

// Signers with a line that cannot be read, or with an option that nobody would heed, change nothing about whom the host
// trusts.
func TestSignersWithABadLineAreNotTaken(t *testing.T) {
	other, line := newSigner(t)
	for name, c := range map[string]struct{ line, says string }{
		"a line without a key":             {"release@example.org", "no key of a type that is accepted"},
		"a key that is cut off":            {line[:len(line)/2], "the key cannot be read"},
		"the option cert-authority":        {"cert-authority " + line, `"cert-authority" is an option`},
		"the option valid-before":          {`valid-before="20300101" ` + line, `is an option`},
		"an option behind a principal":     {`me@example.org namespaces="file" ` + line, `"namespaces=\"file\"" is an option`},
		"a second key in the same element": {line + "\n" + line, "want one key"},
	} {
		inBubble(t, name, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, asItIs))
			r.start()
			time.Sleep(time.Minute)
			r.overwriteSigners(line, c.line)
			publish := func(etag string, by ssh.Signer) record.Record {
				r.publish(etag, released(t, by, func(m *release.Manifest) { m.Archive.SHA256 = strings.Repeat(etag[1:], 64) }))
				r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-" + etag })
				r.queue.in <- []events.Delivery{message(etag)}
				time.Sleep(10 * time.Minute)
				return r.store.lastRecord()
			}
			rec := publish("v2", other)
			if rec.Status != record.Rejected || !strings.Contains(rec.Error, "none of this host's signers") || len(rec.Signers) != 1 {
				t.Errorf("by a key of the new signers: %+v", rec)
			}
			if told := rec.Trouble; told == nil || told.Kind != "config" || !strings.Contains(told.Error, "signers[1]: ") || !strings.Contains(told.Error, c.says) {
				t.Errorf("the record tells of %+v", told)
			}
			equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1"})
			if rec := publish("v3", key); rec.Status != record.Applied || rec.Version.ETag != "v3" || rec.Trouble == nil {
				t.Errorf("by the key that the host trusts: %+v", rec)
			}

			r.overwriteSigners(line)
			rec = publish("v4", other)
			r.end()
			if rec.Status != record.Applied || rec.Version.ETag != "v4" || rec.Trouble != nil {
				t.Errorf("once the signers can be read: %+v", rec)
			}
		})
	}
}

// overwriteSigners changes config.json as whoever edits it does, who checks nothing.
func (r *rig) overwriteSigners(lines ...string) {
	r.t.Helper()
	c, _, err := r.dir.InForce()
	noError(r.t, err)
	c.Signers = lines
	data, err := json.Marshal(c)
	noError(r.t, err)
	write(r.t, r.dir.ConfigPath(), string(data))
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
