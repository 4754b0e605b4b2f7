package nix_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestChangesOfPackagesAreReadFromTheStoreOrACache(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := t.TempDir()
		add := func(name string) nix.System {
			t.Helper()
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(nixtest.Salt()), 0o644); err != nil {
				t.Fatal(err)
			}
			return nix.System{Path: strings.TrimSpace(output(t, "nix-store", "--add", file))}
		}
		one, two, same := add("tool-1.0"), add("tool-1.1"), add("tool-1.0")
		want := func(where string, caches []string, from, to nix.System, lines ...string) {
			t.Helper()
			got, more, err := h.Changes(t.Context(), from, to, caches...)
			if err != nil || more != 0 || !slices.Equal(got, lines) {
				t.Errorf("%s: %q, %d more, %v", where, got, more, err)
			}
		}
		want("the store", nil, one, two, "tool: 1.0 → 1.1")
		want("the same version", nil, one, same)

		cache := "file://" + filepath.Join(dir, "cache")
		empty := "file://" + filepath.Join(dir, "empty")
		nixOutput(t, "copy", "--to", cache, one.Path, two.Path)
		nixtest.Delete(t, nil, one.Path, two.Path)
		_, _, err := h.Changes(t.Context(), one, two, empty)
		if !errors.Is(err, nix.ErrChangesUnknown) {
			t.Errorf("no store has them: %v", err)
		}
		want("a cache", []string{empty, cache}, one, two, "tool: 1.0 → 1.1")
		if err := h.Cached(t.Context(), cache, []nix.System{one, two}); err != nil {
			t.Errorf("the cache has both: %v", err)
		}
		if err := h.Cached(t.Context(), cache, []nix.System{one, same}); !errors.Is(err, nix.ErrNotCached) || !strings.Contains(err.Error(), same.Path) {
			t.Errorf("the cache has not the last: %v", err)
		}
		if _, err := os.Stat(one.Path); err == nil {
			t.Error("what was compared was fetched")
		}
	})
}
