package trust

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/store/release"
)

func TestMemory(t *testing.T) {
	dir := config.Dir(t.TempDir())
	m, err := Load(dir)
	if err != nil || len(m.Remotes) != 0 {
		t.Fatalf("without a file: %+v, %v", m, err)
	}
	want := release.Accepted{Serial: 7, Digest: "d", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	m.Remotes["bucket/key"] = want
	if err := Save(dir, m); err != nil {
		t.Fatal(err)
	}
	if m, err := Load(dir); err != nil || m.Remotes["bucket/key"] != want {
		t.Errorf("%+v, %v", m, err)
	}

	for what, text := range map[string]string{
		"empty": "", "truncated": `{"schema": 1, "remotes": {`, "null": "null", "an empty object": "{}", "of another schema": `{"schema": 2, "remotes": {}}`,
	} {
		t.Run("a file that is "+what+" is no empty memory", func(t *testing.T) {
			if err := os.WriteFile(dir.Path("trust.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "npcnix trust reset") {
				t.Errorf("%v", err)
			}
		})
	}

	if err := Reset(dir); err != nil {
		t.Fatal(err)
	}
	if m, err := Load(dir); err != nil || len(m.Remotes) != 0 {
		t.Errorf("after a reset: %+v, %v", m, err)
	}
}

func TestRequireOnlyRaises(t *testing.T) {
	dir := config.Dir(t.TempDir())
	for _, step := range []struct{ required, last int64 }{{7, 6}, {5, 6}, {9, 8}} {
		if err := Require(dir, "bucket/key", step.required); err != nil {
			t.Fatal(err)
		}
		if m, err := Load(dir); err != nil || m.Remotes["bucket/key"].Serial != step.last {
			t.Errorf("after %d: %+v, %v", step.required, m, err)
		}
	}
	if err := os.WriteFile(dir.Path("trust.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Require(dir, "bucket/key", 10); !errors.Is(err, ErrDamaged) {
		t.Errorf("of a damaged file: %v", err)
	}
}
