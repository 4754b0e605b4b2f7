package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	t.Run("each member of config.json is a setting or what commands write", func(t *testing.T) {
		want := append(settingNames(), notSettings...)
		got := memberNames[Config]()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("config.json has %q, the table %q", got, want)
		}
	})
	t.Run("each default is in force where nothing is set, and can be set", func(t *testing.T) {
		for _, s := range Settings {
			d := s.DefaultJSON()
			if d == "" {
				continue
			}
			c := Default()
			if err := c.Set(s.Name, plainText(d)); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			for _, c := range []Config{Default(), c} {
				r, err := Resolve(c)
				if err != nil {
					t.Fatal(err)
				}
				values, err := r.Values()
				if err != nil {
					t.Fatal(err)
				}
				if got := string(values[s.Name].JSON); got != d {
					t.Errorf("%s is %s, not %s", s.Name, got, d)
				}
			}
		}
	})
	t.Run("each sentence is one, and short", func(t *testing.T) {
		for _, s := range Settings {
			if !strings.HasSuffix(s.Text, ".") || len(strings.Fields(s.Text)) > 25 {
				t.Errorf("%s: %q", s.Name, s.Text)
			}
		}
	})
	t.Run("a number out of its bounds is refused, wherever it stands", func(t *testing.T) {
		for _, s := range Settings {
			if s.Kind != Integer {
				continue
			}
			for _, n := range []int64{-1, s.Max + 1} {
				text, _ := json.Marshal(n)
				c := Default()
				if err := c.Set(s.Name, string(text)); err == nil || !strings.Contains(err.Error(), s.Name) {
					t.Errorf("set %s to %d: %v", s.Name, n, err)
				}
				object, _ := json.Marshal(map[string]int64{s.Name: n})
				if err := json.Unmarshal(object, new(Config)); err == nil || !strings.Contains(err.Error(), s.Name) {
					t.Errorf("read %s: %v", object, err)
				}
			}
		}
	})
	t.Run("a zero out of bounds is no setting", func(t *testing.T) {
		var c Config
		if err := json.Unmarshal([]byte(`{"lease_secs": 0, "settle_secs": 0}`), &c); err != nil {
			t.Fatal(err)
		}
		if c.Lease() != 2*time.Minute || c.SettleTime() != 0 {
			t.Errorf("lease %s, settle_secs %s", c.Lease(), c.SettleTime())
		}
	})
}

// plainText is the form in which a setting is set.
func plainText(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) == nil {
		return text
	}
	return value
}

func TestFormerNames(t *testing.T) {
	for _, c := range []struct {
		name, object string
		verify       int64
	}{
		{"are read", `{"confirm_timeout_secs": 31}`, 31},                                                        // old form
		{"do not count beside the present ones", `{"confirm_timeout_secs": 31, "verify_timeout_secs": 32}`, 32}, // old form
	} {
		t.Run(c.name, func(t *testing.T) {
			var file Config
			if err := json.Unmarshal([]byte(c.object), &file); err != nil {
				t.Fatal(err)
			}
			over, err := Default().With([]byte(c.object))
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []Config{file, over} {
				out, err := got.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				if got.VerifyTimeoutSecs != c.verify || strings.Contains(string(out), "confirm") {
					t.Errorf("%d, written as %s", got.VerifyTimeoutSecs, out)
				}
			}
		})
	}
}

func TestUnknownMembers(t *testing.T) {
	for object, want := range map[string][]Unknown{
		`{"remote": "x", "paused": {"type": "until"}, "confirm_timeout_secs": 1, "last_etag": ""}`: nil, // old form
		`{"poll_intervall_secs": 1}`:                      {{"poll_intervall_secs", "poll_interval_secs"}},
		`{"pollIntervalSecs": 1, "poll-interval-sec": 1}`: {{"poll-interval-sec", "poll_interval_secs"}, {"pollIntervalSecs", "poll_interval_secs"}},
		`{"hots": "a"}`:                                   {{"hots", "host"}},
		`{"colour": "red"}`:                               {{"colour", ""}},
		`{"checks": [{"tcp": "x:1"}, {"htp": "x"}]}`:      {{"checks[1].htp", "checks[1].http"}},
		`{"hooks": {"post_activation": []}}`:              {{"hooks.post_activation", "hooks.post_activate"}},
		`{"paused": {"type": "until", "till": 1}}`:        {{"paused.till", ""}},
		`{"checks": 7, "hooks": [1]}`:                     nil,
		`[]`:                                              nil,
	} {
		t.Run(object, func(t *testing.T) {
			if got := UnknownMembers([]byte(object)); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	var file Config
	if err := json.Unmarshal([]byte(`{"remote": "https://u:p@h/x?token=t", "host": "a", "lease_secs": 60, "poll_interval_secs": 0, "exempt_units": ["a.service"]}`), &file); err != nil {
		t.Fatal(err)
	}
	r, err := Resolve(file,
		Layer{FromModule, "/settings.json", []byte(`{"host": "b", "exempt_units": [], "correct_drift": false, "paused": {"type": "indefinitely"}}`)},
		Layer{FromEnvironment, "", []byte(`{"host": "c"}`)},
		Layer{FromFlag, "", []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Paused != nil || r.Remote != "https://u:p@h/x?token=t" {
		t.Errorf("settings: %+v", r.Config)
	}
	values, err := r.Values()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Value{
		"remote":             {json.RawMessage(`"https://h/x?token=***"`), FromFile},
		"host":               {json.RawMessage(`"c"`), FromEnvironment},
		"lease_secs":         {json.RawMessage(`60`), FromFile},
		"poll_interval_secs": {json.RawMessage(`600`), FromDefault},
		"exempt_units":       {json.RawMessage(`[]`), FromModule},
		"correct_drift":      {json.RawMessage(`false`), FromModule},
		"reboot":             {json.RawMessage(`"never"`), FromDefault},
		"hooks":              {json.RawMessage(`null`), NotSet},
	} {
		if got := values[name]; got.From != want.From || string(got.JSON) != string(want.JSON) {
			t.Errorf("%s is %s from %s, want %s from %s", name, got.JSON, got.From, want.JSON, want.From)
		}
	}
	if _, err := Resolve(file, Layer{FromModule, "/settings.json", []byte(`{"reboot": "often"}`)}); err == nil || !strings.Contains(err.Error(), "/settings.json: reboot") {
		t.Errorf("a bad layer: %v", err)
	}
}
