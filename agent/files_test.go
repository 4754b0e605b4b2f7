package agent

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

// rustConfig is what the Rust npcnix writes.
const rustConfig = `{
  "remote": "s3://bucket/npcnix/remotes/dev.npcnix",
  "remote_region": "eu-west-1",
  "configuration": "web1",
  "last_reconfiguration": "2024-03-01T10:00:00.123456789Z",
  "last_etag": "v1",
  "last_configuration": "web1",
  "min_sleep_secs": 7,
  "max_sleep_secs": 70,
  "max_sleep_after_hours": 12,
  "paused": {"type": "until", "until": "1999-03-02T10:00:00Z"}
}`

func TestFiles(t *testing.T) {
	inBubble(t, "a host of the Rust npcnix is taken over without a build", func(t *testing.T) {
		r := newRig(t)
		write(t, r.dir.ConfigPath(), rustConfig)
		r.host.running = "/nix/store/old"
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if got := r.of("fetch", "build"); len(got) != 0 {
			t.Errorf("worked: %q", got)
		}
		if a := r.state().Applied; a == nil || a.ETag != "v1" {
			t.Errorf("not remembered: %+v", a)
		}
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.System != "/nix/store/old" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a config.json that is damaged while the agent runs leaves the settings in force", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		write(t, r.dir.ConfigPath(), `{"remote": `)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		time.Sleep(time.Hour)
		r.end()
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
		if n := r.logs.count("settings read before"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})

	t.Run("a damaged state.json is set aside, and the host heals", func(t *testing.T) {
		for name, content := range map[string]string{
			"not JSON":                `{"schema": 1, "applied": {`,
			"empty":                   ``,
			"two schemas ahead":       `{"schema": 4}`,
			"without a schema":        `{}`,
			"an array, not an object": `[1]`,
		} {
			inBubble(t, name, func(t *testing.T) {
				r := newRig(t)
				write(t, r.dir.Path("state.json"), content)
				r.start()
				synctest.Wait()
				r.end()
				if aside, err := os.ReadFile(r.dir.Path("state.json.damaged")); err != nil || string(aside) != content {
					t.Errorf("set aside: %q, %v", aside, err)
				}
				if a := r.state().Applied; a == nil || a.ETag != "v1" {
					t.Errorf("applied: %+v", a)
				}
				if n := r.logs.count("set aside"); n != 1 {
					t.Errorf("said %d times", n)
				}
			})
		}
	})

	inBubble(t, "a state.json that is one schema ahead is read, and keeps what is unknown", func(t *testing.T) {
		r := newRig(t)
		write(t, r.dir.Path("state.json"), `{"schema": 3, "applied": {"remote":"`+testRemote+`","configuration":"web1","etag":"v0","system":"/s","at":"2026-01-01T00:00:00Z"}, "novel": true}`)
		r.start()
		synctest.Wait()
		r.end()
		var out map[string]any
		read(t, r.dir.Path("state.json"), &out)
		if out["schema"] != 3.0 || out["novel"] != true {
			t.Errorf("state: %v", out)
		}
		if got := r.state().Applied; got.ETag != "v1" || got.Previous != "/s" {
			t.Errorf("applied: %+v", got)
		}
	})
}
