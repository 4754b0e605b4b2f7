package config

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
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

func TestConfig(t *testing.T) {
	t.Run("that of the Rust npcnix is read, and stays readable by it", configOfRust)
	t.Run("members of a newer one survive a rewrite", configNewer)
	t.Run("a damaged one is an error that says what to do, and is left as it is", configDamaged)
	t.Run("declared settings come before it", configDeclared)
}

func configOfRust(t *testing.T) {
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

func configNewer(t *testing.T) {
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

func configDamaged(t *testing.T) {
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

func configDeclared(t *testing.T) {
	have := Default()
	have.Remote, have.Configuration, have.RetryToken = "file:///a", "web1", "again"
	have.Checks = []Check{{Name: "old", HTTP: "http://localhost/"}, {TCP: "localhost:1"}}
	have.Paused = &Pause{Type: Indefinitely}
	got, err := have.With([]byte(`{"configuration": "web2", "checks": [{"tcp": "localhost:2"}], "settle_secs": 0, "paused": null, "retry_token": "", "from_the_future": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got.Remote != "file:///a" || got.Configuration != "web2" || got.SettleTime() != 0 || got.RetryToken != "again" || got.Paused == nil {
		t.Errorf("settings: %+v", got)
	}
	if len(got.Checks) != 1 || got.Checks[0].HTTP != "" || got.Checks[0].TCP != "localhost:2" || got.Checks[0].Name != "" {
		t.Errorf("checks: %+v", got.Checks)
	}
	if have.Checks[0].HTTP == "" || have.Configuration != "web1" {
		t.Errorf("config.json's were changed: %+v", have)
	}
	for _, bad := range []string{`{`, `[]`, `{"remote": 1}`, `{"reboot": "often"}`, `{"checks": [{}]}`, `{"reboot_window": "3-5"}`, `{"exempt_units": ["["]}`, `{"settle_secs": -1}`,
		`{"settle_secs": 300}`, `{"verify_timeout_secs": 5}`, `{"verify_timeout_secs": 60, "settle_secs": 61}`} {
		if _, err := have.With([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
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
