package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const diffHelp = `Print what changes from one release to another: the inputs of the flake, the system of each configuration, and the
packages that differ between two systems.

FROM and TO are serials, or how a release's name or its revision begins; also "present", what the remote holds, and
"previous". Without TO it is the present release, without both it goes from the previous one to that. Releases
other than the present one come from the versions that the bucket keeps: see npcnix history.

With --host, it goes from what that host runs, by its record, to TO.

Systems are only known of prebuilt releases, and of what a host runs. The packages are compared by nix, on this
machine or by the cache's description of its paths; nothing is built or downloaded but flakes. Only releases count
that the keys in --signers vouch for.`

// The names of releases that need no history, or are found in it by their place.
const (
	presentName  = "present"
	previousName = "previous"
)

type diffOptions struct {
	kept           keptFlags
	host           string
	configurations []string
	versions       int
	asJSON         bool
}

func newDiffCommand(c *common) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff [FROM [TO]] [--remote URL] [--signers FILE]",
		Short: "Print what changes from one release to another",
		Long:  diffHelp,
		Example: "  npcnix diff --remote s3://BUCKET/npcnix/remotes/dev.npcnix --signers release-key.pub\n" +
			"  npcnix diff --remote s3://BUCKET/npcnix/remotes/dev.npcnix --signers release-key.pub --host web1 1c0ffee",
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runDiff(cmd.Context(), c, o, args) },
	}
	flags := cmd.Flags()
	o.kept.addFlags(flags, "remote whose releases to compare (default: this host's)")
	flags.StringVar(&o.host, "host", "", "compare with what this host runs")
	flags.StringArrayVar(&o.configurations, "configuration", nil, "compare only this configuration (repeatable; default: all)")
	addVersionsFlag(flags, &o.versions)
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return cmd
}

func runDiff(ctx context.Context, c *common, o diffOptions, args []string) error {
	if err := checkVersions(o.versions); err != nil {
		return err
	}
	if o.host != "" && len(args) == 2 {
		return usageError{errors.New("with --host, give at most one release: the one to compare with")}
	}
	remote, p, err := o.kept.open(ctx, c)
	if err != nil {
		return err
	}
	d := differ{c: c, remote: remote, publisher: p, versions: o.versions, only: o.configurations}
	if d.last, err = p.Held(ctx, remote); err != nil {
		return err
	}
	from, to, err := d.sides(ctx, o.host, args)
	if err != nil {
		return err
	}
	view, err := d.compare(ctx, from, to)
	if err != nil {
		return err
	}
	if o.asJSON {
		return c.printJSON(view)
	}
	return c.print("%s", view.text())
}

// differ compares releases of a remote.
type differ struct {
	c         *common
	remote    *store.Remote
	publisher *publish.Publisher
	last      publish.Last
	versions  int
	only      []string // configurations; empty: all
	kept      *publish.History
}

// side is one of the two that are compared.
type side struct {
	manifest *release.Manifest // nil: of what a host runs, if that release was not kept
	places   []place           // that have its packed flake
	packed   *os.File          // that is to be published instead
	host     *record.Record    // that runs it
}

// sides returns what the arguments ask to be compared.
func (d *differ) sides(ctx context.Context, host string, args []string) (from, to side, err error) {
	switch {
	case host != "" && len(args) == 0:
		args = []string{"", presentName}
	case host != "":
		args = []string{"", args[0]}
	case len(args) == 0:
		args = []string{previousName, presentName}
	case len(args) == 1:
		args = []string{args[0], presentName}
	}
	if to, err = d.find(ctx, args[1]); err != nil {
		return from, to, err
	}
	if host != "" {
		from, err = d.running(ctx, host)
	} else {
		from, err = d.find(ctx, args[0])
	}

	return from, to, err
}

// find returns the release that a name means.
func (d *differ) find(ctx context.Context, name string) (side, error) {
	if name == presentName {
		if d.last.Release == nil {
			return side{}, errors.New("the remote holds no release that your signers vouch for")
		}
		return side{manifest: d.last.Release.Manifest, places: []place{{d.remote, d.last.Version}}}, nil
	}
	h, err := d.history(ctx)
	if err != nil {
		return side{}, err
	}
	var past publish.Past
	if name == previousName {
		present := ""
		if d.last.Release != nil {
			present = d.last.Release.Release
		}
		past, err = h.Previous(present)
	} else {
		past, err = h.Find(name)
	}
	if err != nil {
		return side{}, err
	}

	return d.of(past), nil
}

// show prints what changes from what the remote holds.
func (d *differ) show(ctx context.Context, to side) error {
	from, err := d.find(ctx, presentName)
	if err != nil {
		return err
	}
	view, err := d.compare(ctx, from, to)
	if err != nil {
		return err
	}
	return d.c.print("%s", view.text())
}

func (d *differ) of(past publish.Past) side {
	s := side{manifest: past.Release.Manifest}
	for _, v := range past.Versions {
		s.places = append(s.places, place{d.remote.At(v), v})
	}
	return s
}

func (d *differ) history(ctx context.Context) (publish.History, error) {
	if d.kept == nil {
		h, err := d.publisher.History(ctx, d.remote, d.versions)
		if err != nil {
			return h, err
		}
		d.kept = &h
	}
	return *d.kept, nil
}

// running returns what a host runs, by its record. Its release is only known in full if the remote holds it or the
// store has kept it.
func (d *differ) running(ctx context.Context, host string) (side, error) {
	data, err := d.remote.GetRecord(ctx, host)
	if errors.Is(err, store.ErrNotFound) {
		return side{}, fmt.Errorf("no record of host %s: npcnix hosts prints those that there are", host)
	}
	if err != nil {
		return side{}, err
	}
	r, err := record.Parse(data)
	if err != nil {
		return side{}, fmt.Errorf("the record of %s: %w", host, err)
	}
	if r.System == "" {
		return side{}, fmt.Errorf("the record of %s does not say which system runs", host)
	}
	s := side{}
	name := r.Runs().Release
	switch {
	case name == "":
	case d.last.Release != nil && d.last.Release.Release == name:
		s, err = d.find(ctx, presentName)
	default:
		if h, noHistory := d.history(ctx); noHistory == nil {
			if past, unknown := h.Find(name); unknown == nil {
				s = d.of(past)
			}
		}
	}
	s.host = &r

	return s, err
}

// inputs are those of the side's flake.
func (s side) inputs(ctx context.Context) (in publish.Inputs, err error) {
	if s.packed != nil {
		return publish.PackedInputs(ctx, s.packed)
	}
	err = errors.New("its packed flake was not kept")
	for _, p := range s.places {
		if in, err = publish.FetchInputs(ctx, p.remote, p.version, s.manifest); !errors.Is(err, store.ErrUnsafe) {
			break
		}
	}
	return in, err
}

const (
	// comparedSystems bounds how many pairs of systems nix compares, unless configurations are named.
	comparedSystems = 5
	compareTimeout  = 2 * time.Minute
)

// compare finds out what changes.
func (d *differ) compare(ctx context.Context, from, to side) (diffView, error) {
	view := diffView{From: from.described(), To: to.described(), Configurations: []changeView{}, Inputs: []publish.InputChange{}}
	var diff publish.Difference
	if from.manifest != nil {
		diff = publish.Compare(from.manifest, to.manifest)
		view.Flake, view.Evaluated = &diff.Flake, diff.Evaluated
		if diff.Flake {
			view.inputs(ctx, from, to)
		}
	}
	if r := from.host; r != nil {
		diff.Configurations = []publish.Change{{Name: r.Configuration, From: r.System, To: to.manifest.Systems[r.Configuration].Toplevel}}
		view.Evaluated = diff.Configurations[0].To == ""
	}
	for _, change := range diff.Configurations {
		if len(d.only) == 0 || slices.Contains(d.only, change.Name) {
			view.Configurations = append(view.Configurations, changeView{Change: change})
		}
	}
	for _, name := range d.only {
		if !slices.ContainsFunc(view.Configurations, func(v changeView) bool { return v.Name == name }) && !view.Evaluated {
			return view, usageError{fmt.Errorf("neither release has a system for configuration %q", name)}
		}
	}

	return view, d.packages(ctx, &view, append(cachesOf(from.manifest), cachesOf(to.manifest)...))
}

func cachesOf(m *release.Manifest) (urls []string) {
	if m != nil {
		for _, cache := range m.Caches {
			urls = append(urls, cache.URL)
		}
	}
	return urls
}

// packages has nix compare the systems. Why it cannot is part of the result.
func (d *differ) packages(ctx context.Context, view *diffView, caches []string) error {
	work, err := os.MkdirTemp("", "npcnix-diff-*")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(work)
	host, err := nix.New(nix.Options{Dir: work, Log: d.c.log})
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	slices.Sort(caches)
	caches = slices.Compact(caches)
	known := map[publish.Change]int{}
	for i := range view.Configurations {
		c := &view.Configurations[i]
		pair := publish.Change{From: c.From, To: c.To}
		if c.Same() || c.From == "" || c.To == "" {
			continue
		}
		if before, done := known[pair]; done {
			c.SameAs = view.Configurations[before].Name
			continue
		}
		if len(known) == comparedSystems && len(d.only) == 0 {
			view.Skipped++
			continue
		}
		known[pair] = i
		c.Packages, c.More, err = host.Changes(within, nix.System{Path: c.From}, nix.System{Path: c.To}, caches...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.Unknown = err.Error()
		}
	}

	return nil
}
