package nixtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestFlakeIsTheSameForTheSameSaltOnly(t *testing.T) {
	text := func(salt, version string) string {
		dir := filepath.Join(t.TempDir(), "new folder")
		systems := map[string]nixtest.System{"a": {Version: version}, "b": {}, "c": {}}
		if err := nixtest.Flake(dir, salt, systems); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "flake.nix"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := text("x", "v1")
	for range 10 {
		if text("x", "v1") != first {
			t.Fatal("two flakes of the same systems differ")
		}
	}
	if text("y", "v1") == first || text("x", "v2") == first {
		t.Error("flakes of other salts or systems do not differ")
	}
	if one, other := nixtest.Salt(), nixtest.Salt(); one == other {
		t.Error("two salts are equal")
	}
}
