package nix_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestNewRefusesBadOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		opts nix.Options
		text string
	}{
		{"no data directory", nix.Options{}, "no data directory"},
		{"two substituters in one", nix.Options{Dir: "r", Substituters: []string{"a b"}}, `"a b": must be one word`},
		{"empty key", nix.Options{Dir: "r", PublicKeys: []string{""}}, "must be one word"},
		{"option without a name", nix.Options{Dir: "r", Settings: [][2]string{{"", "1"}}}, "without a name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := nix.New(c.opts)
			nixtest.WantError(t, err, nil, c.text)
		})
	}
}

func TestLinksThatLeadNowhereAreNoSystem(t *testing.T) {
	h := newHost(t)
	if s, err := h.Current(t.Context()); err != nil || s != (nix.System{}) {
		t.Errorf("Current() = %v, %v without a link", s, err)
	}
	collected := "/nix/store/00000000000000000000000000000000-collected"
	nixtest.Link(t, h.opts.CurrentSystem, collected)
	if s, err := h.Current(t.Context()); err != nil || s.Path != collected {
		t.Errorf("Current() = %v, %v; what is gone from the store still has run", s, err)
	}
	nixtest.Link(t, h.opts.Profile, "system")
	if _, _, err := h.Profiled(); err == nil {
		t.Error("a profile that points to itself is read")
	}
	nixtest.Link(t, h.opts.Profile, "system-7-link")
	nixtest.Link(t, h.opts.Profile+"-7-link", collected)
	h.wantProfile(t, nix.System{Path: collected}, 7)
	if got := slices.Collect(strings.Lines(h.log.String())); len(got) != 0 {
		t.Errorf("logged %q", got)
	}
}
