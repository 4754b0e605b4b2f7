package agent

import (
	"encoding/json"
	"github.com/npcnix/npcnix/agent/record"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
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

func TestAHostOfTheRustNpcnixIsTakenOverWithoutABuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
}

func TestAConfigDamagedWhileTheAgentRunsLeavesTheSettingsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
}

func TestADamagedStateIsSetAsideAndTheHostHeals(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON":                `{"schema": 1, "applied": {`,
		"empty":                   ``,
		"two schemas ahead":       `{"schema": 4}`,
		"without a schema":        `{}`,
		"an array, not an object": `[1]`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
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
		})
	}
}

func TestAStateOneSchemaAheadIsReadAndKeepsWhatIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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

func TestWithoutDurableIntentNothingIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		// A directory in the file's place cannot be replaced, by root neither.
		if err := os.MkdirAll(filepath.Join(r.dir.Path("state.json"), "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Hour)
		if got := r.of("fetch", "build", "activate"); len(got) != 0 {
			t.Errorf("worked: %q", got)
		}
		if n := r.logs.count("cannot do the work;"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if err := os.RemoveAll(r.dir.Path("state.json")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		r.end()
		if a := r.state().Applied; a == nil {
			t.Error("did not heal")
		}
	})
}

func TestOneReconcileAtATimePerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		unlock, err := r.dir.LockActivation(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Minute)
		if got := r.of("latest"); len(got) != 0 {
			t.Errorf("reconciled beside another: %q", got)
		}
		unlock()
		time.Sleep(time.Second)
		r.end()
		if a := r.state().Applied; a == nil {
			t.Error("did not go on")
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
