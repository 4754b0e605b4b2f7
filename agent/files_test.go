package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
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

func TestTheRustNpcnixsConfigIsReadAndStaysReadableByIt(t *testing.T) {
	dir := Dir(t.TempDir())
	write(t, dir.ConfigPath(), rustConfig)
	c, err := dir.LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	if c.RemoteRegion != "eu-west-1" || c.MinSleepSecs != 7 || c.LastETag != "v1" || c.Paused.Until.Year() != 1999 {
		t.Errorf("config: %+v", c)
	}
	err = dir.UpdateConfig(t.Context(), func(c *Config) error { c.QueueURL = "https://sqs.eu-west-1.amazonaws.com/1/q"; return nil })
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	read(t, dir.ConfigPath(), &out)
	// What the Rust npcnix's file format demands (its config.rs): all but the options.
	for _, name := range []string{"last_reconfiguration", "last_etag", "last_configuration", "min_sleep_secs", "max_sleep_secs", "max_sleep_after_hours"} {
		if _, there := out[name]; !there {
			t.Errorf("%s is missing", name)
		}
	}
	if _, there := out["paused"]; there {
		t.Error("a pause that ran out was kept")
	}
}

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
		if rec := r.store.lastRecord(); rec.State != StateApplied || rec.System != "/nix/store/old" {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestMembersOfANewerConfigSurviveARewrite(t *testing.T) {
	dir := Dir(t.TempDir())
	write(t, dir.ConfigPath(), `{"remote":"s3://b/k","from_the_future":{"a":[1,2]}}`)
	if err := dir.UpdateConfig(t.Context(), func(c *Config) error { c.Host = "h"; return nil }); err != nil {
		t.Fatal(err)
	}
	var out map[string]json.RawMessage
	read(t, dir.ConfigPath(), &out)
	if strings.Join(strings.Fields(string(out["from_the_future"])), "") != `{"a":[1,2]}` || string(out["host"]) != `"h"` {
		t.Errorf("config: %s", out)
	}
}

func TestADamagedConfigIsAnErrorThatSaysWhatToDoAndIsLeftAsItIs(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON":            `{"remote": `,
		"of the wrong type":   `{"remote": 7}`,
		"an unknown pause":    `{"paused": {"type": "sometimes"}}`,
		"a negative interval": `{"poll_interval_secs": -1}`,
		"an endless interval": `{"max_sleep_secs": 1e18}`,
		"a negative delay":    `{"retry_delays_secs": [30, -1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := Dir(t.TempDir())
			write(t, dir.ConfigPath(), content)
			err := dir.UpdateConfig(t.Context(), func(*Config) error { return nil })
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), dir.ConfigPath()) {
				t.Errorf("error: %v", err)
			}
			if after, _ := os.ReadFile(dir.ConfigPath()); string(after) != content {
				t.Errorf("it was changed to %s", after)
			}
		})
	}
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
		"two schemas ahead":       `{"schema": 3}`,
		"without a schema":        `{}`,
		"an array, not an object": `[1]`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				write(t, r.dir.path("state.json"), content)
				r.start()
				synctest.Wait()
				r.end()
				if aside, err := os.ReadFile(r.dir.path("state.json.damaged")); err != nil || string(aside) != content {
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
		write(t, r.dir.path("state.json"), `{"schema": 2, "applied": {"remote":"`+testRemote+`","configuration":"web1","etag":"v0","system":"/s","at":"2026-01-01T00:00:00Z"}, "novel": true}`)
		r.start()
		synctest.Wait()
		r.end()
		var out map[string]any
		read(t, r.dir.path("state.json"), &out)
		if out["schema"] != 2.0 || out["novel"] != true {
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
		if err := os.MkdirAll(filepath.Join(r.dir.path("state.json"), "x"), 0o755); err != nil {
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
		if err := os.RemoveAll(r.dir.path("state.json")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		r.end()
		if a := r.state().Applied; a == nil {
			t.Error("did not heal")
		}
	})
}

func TestADataDirThatCannotBeWrittenIsAnErrorThatSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	dir := Dir(filepath.Join(file, "sub"))
	for name, err := range map[string]error{
		"check":  dir.Check(),
		"config": dir.UpdateConfig(t.Context(), func(*Config) error { return nil }),
	} {
		if err == nil || !strings.Contains(err.Error(), "--data-dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwoAgentsOnOneDataDir(t *testing.T) {
	dir := Dir(t.TempDir())
	unlock, err := dir.LockFollow()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.LockFollow(); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "pid ") {
		t.Errorf("the second: %v", err)
	}
	unlock()
	again, err := dir.LockFollow()
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	again()
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

func TestPauses(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	until := func(h int) *Pause { return &Pause{Type: pauseUntil, Until: now.Add(time.Duration(h) * time.Hour)} }
	for _, c := range []struct {
		name string
		have *Pause
		hour int // 0: for ever
		want Pause
	}{
		{"a first pause", nil, 1, *until(1)},
		{"a longer one replaces a shorter", until(1), 2, *until(2)},
		{"a shorter one leaves a longer", until(2), 1, *until(2)},
		{"one for ever stays", &Pause{Type: pauseIndefinitely}, 1, Pause{Type: pauseIndefinitely}},
		{"for ever replaces a timed one", until(2), 0, Pause{Type: pauseIndefinitely}},
		{"one that ran out does not count", until(-2), 1, *until(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var end time.Time
			if c.hour != 0 {
				end = now.Add(time.Duration(c.hour) * time.Hour)
			}
			if got := c.have.Extend(end, now); *got != c.want {
				t.Errorf("got %v, want %v", *got, c.want)
			}
		})
	}
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

func TestDeclaredSettingsComeBeforeConfigJSON(t *testing.T) {
	have := DefaultConfig()
	have.Remote, have.Configuration, have.RetryToken = "file:///a", "web1", "again"
	have.Checks = []Check{{Name: "old", HTTP: "http://localhost/"}, {TCP: "localhost:1"}}
	have.Paused = &Pause{Type: pauseIndefinitely}
	got, err := have.With([]byte(`{"configuration": "web2", "checks": [{"tcp": "localhost:2"}], "settle_secs": 0, "paused": null, "retry_token": "", "from_the_future": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Remote != "file:///a" || got.Configuration != "web2" || got.settleSecs() != 0 || got.RetryToken != "again" || got.Paused == nil {
		t.Errorf("settings: %+v", got)
	}
	if len(got.Checks) != 1 || got.Checks[0].HTTP != "" || got.Checks[0].TCP != "localhost:2" || got.Checks[0].Name != "" {
		t.Errorf("checks: %+v", got.Checks)
	}
	if have.Checks[0].HTTP == "" || have.Configuration != "web1" {
		t.Errorf("config.json's were changed: %+v", have)
	}
	for _, bad := range []string{`{`, `[]`, `{"remote": 1}`, `{"reboot": "often"}`, `{"checks": [{}]}`, `{"reboot_window": "3-5"}`, `{"exempt_units": ["["]}`, `{"settle_secs": -1}`,
		`{"settle_secs": 300}`, `{"confirm_timeout_secs": 5}`, `{"confirm_timeout_secs": 60, "settle_secs": 61}`} {
		if _, err := have.With([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
