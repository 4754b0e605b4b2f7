package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const historyHelp = `Print the releases that the remote held, the newest first: by which keys each was signed, and what became of it
on the hosts. They come from the versions that the bucket keeps, so its versioning must be on. A file and a web
server keep none.

Only releases count that the keys in --signers vouch for. Whoever can write the object can plant versions, so others
are only counted.

It needs s3:ListBucketVersions and s3:GetObjectVersion, as the Terraform module gate gives. It costs one LIST, one
GET per version, and what npcnix hosts costs.`

// defaultVersions is how many versions are read: each step of a rollout is one.
const defaultVersions = 100

type historyOptions struct {
	kept     keptFlags
	versions int
	asJSON   bool
}

// keptFlags name a remote, and whose releases of it count.
type keptFlags struct {
	trust          releaseOptions // its remote and signers
	rolloutSigners string
}

func (f *keptFlags) addFlags(flags *pflag.FlagSet, remote string) {
	f.trust.remote.addFlags(flags, remote)
	flags.StringVar(&f.trust.signers, "signers", "", "file of the trusted public keys (default: this host's signers)")
	flags.StringVar(&f.rolloutSigners, "rollout-signers", "", rolloutSignersHelp)
}

// open returns the remote, and a publisher that signs nothing.
func (f *keptFlags) open(ctx context.Context, c *common) (*store.Remote, *publish.Publisher, error) {
	from, err := f.trust.remote.fromSettings(c)
	if err != nil {
		return nil, nil, err
	}
	remote, err := from.open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	policy, err := f.trust.policy(c, remote)
	if err != nil {
		return nil, nil, err
	}
	more, err := readSigners("rollout-signers", f.rolloutSigners)
	if err != nil {
		return nil, nil, err
	}
	p, err := publish.Open(ctx, publish.Options{Remote: remote.Name(), Signers: policy.Signers, Required: policy.Required, RolloutSigners: append(policy.RolloutSigners, more...), Log: c.log})

	return remote, p, err
}

func newHistoryCommand(c *common) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:     "history [--remote URL] [--signers FILE]",
		Short:   "Print the releases that the remote held",
		Long:    historyHelp,
		Example: "  npcnix history --remote s3://BUCKET/npcnix/remotes/dev.npcnix --signers release-key.pub",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runHistory(cmd.Context(), c, o) },
	}
	o.kept.addFlags(cmd.Flags(), "remote whose releases to print (default: this host's)")
	addVersionsFlag(cmd.Flags(), &o.versions)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object")
	return cmd
}

func addVersionsFlag(flags *pflag.FlagSet, versions *int) {
	flags.IntVar(versions, "versions", defaultVersions, "how many of the newest versions to read")
}

func checkVersions(n int) error {
	if n < 1 || n > 10_000 {
		return usageError{fmt.Errorf("--versions is %d: it must be 1 to 10000", n)}
	}
	return nil
}

func runHistory(ctx context.Context, c *common, o historyOptions) error {
	if err := checkVersions(o.versions); err != nil {
		return err
	}
	remote, p, err := o.kept.open(ctx, c)
	if err != nil {
		return err
	}
	h, err := p.History(ctx, remote, o.versions)
	if err != nil {
		return err
	}
	records, err := fleet.Heard(ctx, remote, time.Time{})
	if err != nil {
		c.log.Warn("what the hosts run is not known: their records cannot be read", "error", err)
	}
	shown := newHistoryView(remote, h, records)
	if o.asJSON {
		return c.printJSON(shown)
	}
	return c.print("%s", shown.text())
}

// historyView is a history as it is printed.
type historyView struct {
	Remote   string        `json:"remote"`
	Releases []pastView    `json:"releases"`
	Omitted  []omittedView `json:"omitted"`
	// More says that the bucket has older versions than were read.
	More bool `json:"more"`
	// Deleted says that the object was deleted, and Unversioned that the next publish replaces the newest version.
	Deleted     bool `json:"deleted"`
	Unversioned bool `json:"unversioned"`
}

type pastView struct {
	Release   string                `json:"release"`
	Serial    int64                 `json:"serial"`
	Created   time.Time             `json:"created"`
	Published time.Time             `json:"published"` // its first version, by the store's clock
	VersionID string                `json:"version_id"`
	ETag      string                `json:"etag"`
	Rev       string                `json:"rev,omitempty"`
	Message   string                `json:"message,omitempty"`
	Keys      []string              `json:"keys"`    // fingerprints of the trusted keys that signed it
	Present   bool                  `json:"present"` // the remote holds it now
	State     release.Rollout       `json:"state,omitempty"`
	Admitted  int                   `json:"admitted,omitempty"`
	Waves     int                   `json:"waves,omitempty"`
	Running   int                   `json:"running"` // hosts that run it
	Hosts     map[record.Status]int `json:"hosts"`   // those that want it, by what became of it
}

type omittedView struct {
	VersionID string    `json:"version_id"`
	ETag      string    `json:"etag"`
	Published time.Time `json:"published"`
	Why       string    `json:"why"`
}

func newHistoryView(remote *store.Remote, h publish.History, records []record.Record) historyView {
	view := historyView{Remote: remote.URL(), Releases: []pastView{}, Omitted: []omittedView{}, More: h.More, Deleted: h.Newest.Deleted, Unversioned: h.Newest.Replaced()}
	for _, p := range h.Releases {
		m, v := p.Release.Manifest, p.Versions[0]
		one := pastView{
			Release: m.Release, Serial: m.Serial, Created: m.Created, Published: p.Versions[len(p.Versions)-1].Modified, VersionID: v.ID, ETag: v.ETag,
			Rev: m.Source.Rev, Message: m.Source.Message, Keys: p.Release.Keys, Present: v.ID == h.Newest.ID, Hosts: map[record.Status]int{},
		}
		if m.Rollout != nil {
			one.Waves = len(m.Rollout.Waves)
		}
		if p.Progress != nil {
			one.State, one.Admitted = p.Progress.State, p.Progress.Admitted
		}
		for _, r := range records {
			if r.RenamedTo != "" {
				continue
			}
			if r.Runs().Release == m.Release {
				one.Running++
			}
			if r.Version.Release == m.Release {
				one.Hosts[r.Status]++
			}
		}
		view.Releases = append(view.Releases, one)
	}
	for _, o := range h.Omitted {
		view.Omitted = append(view.Omitted, omittedView{o.Version.ID, o.Version.ETag, o.Version.Modified, o.Why})
	}
	return view
}

// shownOmitted bounds how many versions are named that count for nothing.
const shownOmitted = 3

// text is the history for a person.
func (v historyView) text() string {
	var b strings.Builder
	for _, p := range v.Releases {
		b.WriteString(p.text())
	}
	if len(v.Releases) == 0 {
		b.WriteString("The store has kept no release that your signers vouch for.\n")
	}
	for i, o := range v.Omitted {
		if i == shownOmitted {
			fmt.Fprintf(&b, "and %d more\n", len(v.Omitted)-shownOmitted)
			break
		}
		fmt.Fprintf(&b, "omitted: version %s of %s: %s\n", o.VersionID, stamp(o.Published), o.Why)
	}
	if v.Deleted {
		b.WriteString("The object was deleted: hosts find nothing. npcnix rollback publishes a release again.\n")
	}
	if v.Unversioned {
		b.WriteString("The bucket's versioning was off or suspended when the newest version was published: the next publish replaces it.\n")
	}
	if v.More {
		b.WriteString("The store has older versions: --versions reads more.\n")
	}
	return b.String()
}

func (p pastView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  serial %d  %s%s\n", p.Release[:12], p.Serial, stamp(p.Published), map[bool]string{true: "  present"}[p.Present])
	if said := saidOf(release.Source{Rev: p.Rev, Message: p.Message}); said != "" {
		fmt.Fprintf(&b, "  %s\n", said)
	}
	fmt.Fprintf(&b, "  signed by %s\n", strings.Join(p.Keys, ", "))
	if p.Waves > 0 {
		fmt.Fprintf(&b, "  rollout: %s, %d of %d waves admitted\n", or(string(p.State), "nobody vouches for its progress"), p.Admitted, p.Waves)
	}
	fate := []string{"run by " + fleet.Hosts(p.Running)}
	for _, status := range slices.Sorted(maps.Keys(p.Hosts)) {
		if status != record.Applied {
			fate = append(fate, fmt.Sprintf("%d %s", p.Hosts[status], inWords(status)))
		}
	}
	fmt.Fprintf(&b, "  %s\n", strings.Join(fate, ", "))
	return b.String()
}

// saidOf is what a publisher said of a release, on one line.
func saidOf(s release.Source) string {
	message, _, _ := strings.Cut(s.Message, "\n")
	said := strings.Join(slices.DeleteFunc([]string{fleet.Clean(s.Rev), fleet.Clean(message)}, func(s string) bool { return s == "" }), ": ")
	if runes := []rune(said); len(runes) > 200 {
		said = string(runes[:200]) + "…"
	}
	return said
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
