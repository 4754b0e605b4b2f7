package publish

import (
	"maps"
	"slices"

	"github.com/npcnix/npcnix/store/release"
)

// Difference is what changes from one release to another.
type Difference struct {
	Flake          bool // the packed flakes differ
	Inputs         []InputChange
	Configurations []Change // of the systems that at least one of the two names, in order of their names
	// Evaluated says that at least one of the releases leaves configurations to the hosts' evaluation, so that more
	// can change than Configurations has.
	Evaluated bool
}

// Change is what becomes of a configuration. An empty toplevel is one that the release does not name.
type Change struct {
	Name string `json:"configuration"`
	From string `json:"from,omitempty"` // toplevel
	To   string `json:"to,omitempty"`
}

// Same reports whether the same system is named.
func (c Change) Same() bool { return c.From != "" && c.From == c.To }

// Compare compares what two manifests name.
func Compare(from, to *release.Manifest) Difference {
	d := Difference{Flake: from.Archive != to.Archive, Evaluated: len(from.Systems) == 0 || len(to.Systems) == 0}
	names := maps.Clone(from.Systems)
	if names == nil {
		names = map[string]release.System{}
	}
	maps.Copy(names, to.Systems)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d.Configurations = append(d.Configurations, Change{name, from.Systems[name].Toplevel, to.Systems[name].Toplevel})
	}

	return d
}
