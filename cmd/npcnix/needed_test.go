package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// TestNeededSystems has a bucket with three releases, of which the second has a base, and one of a stranger over them.
func TestNeededSystems(t *testing.T) {
	b, key := newBucketOfVersions(t), sshKey(t)
	path := func(name string) string { return "/nix/store/00000000000000000000000000000000-" + name }
	systems := func(names ...string) map[string]release.System {
		all := map[string]release.System{}
		for _, name := range names {
			all[name] = release.System{Kind: release.KindNixOS, Toplevel: path(name), Platform: "x86_64-linux"}
		}
		return all
	}
	put := func(key, rev string, edit func(*release.Manifest)) {
		b.put(signed(t, key, "planted/dev.npcnix", rev, edit))
	}
	put(key, "one", func(m *release.Manifest) { m.Systems = systems("one") })
	put(key, "two", func(m *release.Manifest) {
		m.Systems = systems("two", "two-more")
		m.Rollout = &release.Plan{Waves: [][]string{{"web1"}, {"100%"}}, Base: &release.Base{Release: strings.Repeat("b", 64), Systems: systems("base")}}
	})
	put(key, "three", func(m *release.Manifest) { m.Systems = systems("three") })

	remote, err := store.Open(t.Context(), b.remote, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	signers, err := release.ParseSigners(publicKey(t, key))
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, by release.Signers, keep int, since time.Time, names ...string) {
		t.Helper()
		p := publish.Publisher{Options: publish.Options{Remote: remote.Name(), Signers: by, Log: slog.New(slog.DiscardHandler)}}
		got, err := p.Needed(t.Context(), remote, keep, since)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, name := range names {
			paths = append(paths, path(name))
		}
		slices.Sort(got)
		slices.Sort(paths)
		if !slices.Equal(got, paths) {
			t.Errorf("%s, keep %d: %q, want %q", what, keep, got, paths)
		}
	}
	never := time.Now().Add(time.Hour) // nothing was held since
	want("three releases", signers, 0, never, "three")
	want("three releases", signers, 1, never, "three")
	want("three releases", signers, 2, never, "three", "two", "two-more", "base")
	want("three releases", signers, 3, never, "three", "two", "two-more", "base", "one")
	want("held within the hour", signers, 1, time.Now().Add(-time.Hour), "three", "two", "two-more", "base", "one")

	put(sshKey(t), "stranger", func(m *release.Manifest) { m.Systems = systems("stranger") })
	want("a stranger's is present", signers, 1, never, "stranger", "three")
	want("a stranger's is present", signers, 2, never, "stranger", "three", "two", "two-more", "base")
	want("without signers it counts", nil, 1, never, "stranger")
}
