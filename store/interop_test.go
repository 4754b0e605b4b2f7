package store_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/store"
)

func needTools(t *testing.T) {
	for _, tool := range []string{"bash", "tar", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, tool+" is missing")
		}
	}
}

func TestTarUnpacksWhatWePack(t *testing.T) {
	needTools(t)
	for name, src := range map[string]string{"small": sampleFlake(t), "big": bigFlake(t, 400)} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			if err := os.WriteFile(filepath.Join(out, "packed"), packDir(t, src), 0o644); err != nil {
				t.Fatal(err)
			}
			shell(t, out, "zstd -q -t packed && mkdir dir && tar --zstd -xf packed -C dir")
			if !maps.Equal(tree(t, filepath.Join(out, "dir")), tree(t, src)) {
				t.Error("unpacked to something else")
			}
		})
	}
}

func TestWeUnpackWhatTarPacks(t *testing.T) {
	needTools(t)
	src := sampleFlake(t)
	if err := os.Link(filepath.Join(src, "flake.nix"), filepath.Join(src, "hard")); err != nil {
		t.Fatal(err)
	}
	want := tree(t, src)
	for name, line := range map[string]string{
		"manually":             "tar --zstd -cf $packed .",
		"without the dot":      "tar --zstd -cf $packed *",
		"in GNU format":        "tar --format=gnu --zstd -cf $packed .",
		"in PAX format":        "tar --format=pax --zstd -cf $packed .",
		"with holes":           "tar -S --zstd -cf $packed .",
		"with the best zstd":   "tar c . | zstd -q -19 > $packed",
		"with a long distance": "tar c . | zstd -q --long=27 > $packed",
		"as the Rust npcnix":   "tar --format=gnu -c * | zstd -q --no-check > $packed",
		"in two zstd frames":   "{ tar c . | head -c 5000 | zstd -q; tar c . | tail -c +5001 | zstd -q; } > $packed",
	} {
		t.Run(name, func(t *testing.T) {
			packed := filepath.Join(t.TempDir(), "packed")
			shell(t, src, "packed="+packed+"; "+line)
			archive, err := os.ReadFile(packed)
			if err != nil {
				t.Fatal(err)
			}
			dir, err := unpackBeside(t, archive, store.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); !maps.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}
