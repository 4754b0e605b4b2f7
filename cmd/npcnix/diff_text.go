package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store/release"
)

// diffView is what changes, as it is printed.
type diffView struct {
	From sideView `json:"from"`
	To   sideView `json:"to"`
	// Flake says whether the packed flakes differ; nil: not known.
	Flake          *bool                 `json:"flake_changed,omitempty"`
	Inputs         []publish.InputChange `json:"inputs"`
	InputsUnknown  string                `json:"inputs_unknown,omitempty"` // why they were not compared
	Configurations []changeView          `json:"configurations"`
	Evaluated      bool                  `json:"evaluated"`         // hosts evaluate, so that more can change
	Skipped        int                   `json:"skipped,omitempty"` // systems whose packages were not compared
}

type sideView struct {
	Release string `json:"release,omitempty"`
	Serial  int64  `json:"serial,omitempty"`
	Rev     string `json:"rev,omitempty"`
	Message string `json:"message,omitempty"`
	Host    string `json:"host,omitempty"` // that runs it
}

type changeView struct {
	publish.Change
	Packages []string `json:"packages,omitempty"`
	More     int      `json:"more_packages,omitempty"`
	SameAs   string   `json:"same_as,omitempty"` // the configuration whose packages change in the same way
	Unknown  string   `json:"unknown,omitempty"` // why the packages were not compared
}

func (s side) described() sideView {
	v := sideView{}
	if m := s.manifest; m != nil {
		v = sideView{Release: m.Release, Serial: m.Serial, Rev: m.Source.Rev, Message: m.Source.Message}
	}
	if r := s.host; r != nil {
		runs := r.Runs()
		if s.manifest == nil {
			v = sideView{Release: runs.Release, Rev: runs.Rev, Message: runs.Message}
		}
		v.Host = r.Host
	}
	return v
}

// inputs compares the inputs of two flakes that differ.
func (v *diffView) inputs(ctx context.Context, from, to side) {
	old, err := from.inputs(ctx)
	var now publish.Inputs
	if err == nil {
		now, err = to.inputs(ctx)
	}
	if err != nil {
		v.InputsUnknown = err.Error()
		return
	}
	v.Inputs = append(v.Inputs, old.Changes(now)...)
}

// shownInputs and shownPackages bound what a person reads; --json has more.
const (
	shownInputs   = 30
	shownPackages = 30
)

func (v diffView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "from  %s\nto    %s\n", v.From.text(), v.To.text())
	switch {
	case v.Flake == nil:
		b.WriteString("packed flake: not known, since that of what runs was not kept\n")
	case *v.Flake:
		b.WriteString("packed flake: changed\n")
	default:
		b.WriteString("packed flake: the same\n")
	}
	if v.InputsUnknown != "" {
		fmt.Fprintf(&b, "inputs: not known: %s\n", fleet.Clean(v.InputsUnknown))
	}
	for i, input := range v.Inputs {
		if i == shownInputs {
			fmt.Fprintf(&b, "and %d more inputs\n", len(v.Inputs)-shownInputs)
			break
		}
		fmt.Fprintf(&b, "input %s: %s → %s\n", fleet.Clean(input.Name), or(fleet.Clean(input.From), "none"), or(fleet.Clean(input.To), "none"))
	}
	same := 0
	for _, c := range v.Configurations {
		if c.Same() {
			same++
			continue
		}
		c.write(&b)
	}
	if same > 0 {
		fmt.Fprintf(&b, "%d configurations keep their system\n", same)
	}
	if v.Skipped > 0 {
		fmt.Fprintf(&b, "The packages of %d more systems were not compared: name them with --configuration.\n", v.Skipped)
	}
	if v.Evaluated && (v.Flake == nil || *v.Flake) {
		b.WriteString("Hosts evaluate what was not prebuilt, so more can change.\n")
	}
	return b.String()
}

func (s sideView) text() string {
	said := or(fleet.Short(s.Release), "no release")
	if message := saidOf(release.Source{Rev: s.Rev, Message: s.Message}); message != "" {
		said += " (" + message + ")"
	}
	if s.Host != "" {
		said = "what " + fleet.Clean(s.Host) + " runs: " + said
	}
	return said
}

func (c changeView) write(b *strings.Builder) {
	name := fleet.Clean(c.Name)
	switch {
	case c.To == "":
		fmt.Fprintf(b, "%s: %s → not prebuilt\n", name, c.From)
		return
	case c.From == "":
		fmt.Fprintf(b, "%s: not prebuilt → %s\n", name, c.To)
		return
	}
	fmt.Fprintf(b, "%s: %s → %s\n", name, c.From, c.To)
	switch {
	case c.SameAs != "":
		fmt.Fprintf(b, "  the same packages as for %s\n", fleet.Clean(c.SameAs))
	case c.Unknown != "":
		fmt.Fprintf(b, "  packages: not known: %s\n", fleet.Clean(c.Unknown))
	case len(c.Packages) == 0:
		b.WriteString("  no package changes its version, and none much of its size\n")
	}
	for i, line := range c.Packages {
		if i == shownPackages {
			break
		}
		fmt.Fprintf(b, "  %s\n", fleet.Clean(line))
	}
	if more := max(0, len(c.Packages)-shownPackages) + c.More; more > 0 {
		fmt.Fprintf(b, "  and %d more packages\n", more)
	}
}
