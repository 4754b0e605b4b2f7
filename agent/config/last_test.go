package config

import (
	"errors"
	"os"
	"testing"
)

func TestLastSettings(t *testing.T) {
	for name, content := range map[string]string{
		"truncated": `{"remote": "s3://b`, "empty": ``, "an empty object": `{}`, "null": "null\n", "of another type": `[1]`,
		"invalid": `{"lease_secs": -1}`, "gone": "-",
	} {
		t.Run(name, func(t *testing.T) {
			dir := Dir(t.TempDir())
			reader := Reader{Dir: dir}
			good := `{"remote": "s3://bucket/dev.npcnix", "configuration": "web1", "novel": 1, "paused": {"type": "indefinitely"}}`
			write(t, dir.ConfigPath(), good)
			if c, damaged, err := reader.InForce(); err != nil || damaged != nil || c.Configuration != "web1" {
				t.Fatalf("of a good file: %+v, %v, %v", c, damaged, err)
			}
			if c, damaged, err := reader.InForce(); err != nil || damaged != nil || c.Configuration != "web1" {
				t.Errorf("of the same file: %+v, %v, %v", c, damaged, err)
			}

			if content == "-" {
				if err := os.Remove(dir.ConfigPath()); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, dir.ConfigPath(), content)
			}
			c, damaged, err := reader.InForce()
			if err != nil || !errors.Is(damaged, ErrConfig) || c.Configuration != "web1" || c.Paused == nil {
				t.Errorf("in force: %+v, damaged: %v, error %v", c, damaged, err)
			}
			if _, err := dir.LoadConfig(); !errors.Is(err, ErrConfig) {
				t.Errorf("config.json is read as if it were good: %v", err)
			}

			// What an operator sets comes to the settings before, unless that would overwrite a damaged file.
			err = dir.UpdateConfig(t.Context(), func(c *Config) error { return c.Set("host", "one") })
			if name == "gone" || name == "an empty object" || name == "null" {
				if c, damaged, _ := reader.InForce(); err != nil || damaged != nil || c.Configuration != "web1" || c.Host != "one" {
					t.Errorf("after a change: %+v, damaged: %v, error %v", c, damaged, err)
				}
			} else if !errors.Is(err, ErrConfig) {
				t.Errorf("a damaged file was changed: %v", err)
			}
		})
	}

	t.Run("there are none at first", func(t *testing.T) {
		dir := Dir(t.TempDir())
		if c, damaged, err := dir.InForce(); err != nil || damaged != nil || c.Has("remote") {
			t.Errorf("without a file: %+v, %v, %v", c, damaged, err)
		}
		write(t, dir.ConfigPath(), `{"remote": `)
		if _, _, err := dir.InForce(); !errors.Is(err, ErrConfig) {
			t.Errorf("of a damaged file: %v", err)
		}
	})
}
