package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/metrics"
	"github.com/npcnix/npcnix/agent/reboot"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// Store holds the packed flake. *store.Remote serves.
type Store interface {
	// Latest returns the present version; have, if nothing changed since.
	Latest(ctx context.Context, have store.Version) (store.Version, error)
	// LatestAnnounced is Latest after a notice of the version with this ETag: it looks again for some
	// seconds while a cache still shows have.
	LatestAnnounced(ctx context.Context, have store.Version, etag string, at time.Time) (store.Version, error)
	// Tail returns the last n bytes of the version v.
	Tail(ctx context.Context, v store.Version, n int64) (store.Tail, error)
	// FetchSigned unpacks exactly the version v into dir, or returns an error wrapping store.ErrChanged
	// if it is another by now, or store.ErrNotSigned if it does not begin with the archive.
	FetchSigned(ctx context.Context, v store.Version, archive store.Archive, dir string) error
	// PutRecordCopy stores a copy of a host's record in a folder beside the records.
	PutRecordCopy(ctx context.Context, folder, host string, body []byte) error
	record.Store
}

// Host builds and runs systems. *activation.Coordinator serves; package hosttest has what it promises as
// tests.
type Host interface {
	// Check repairs what an unclean end of the machine has damaged in the nix store.
	Check(ctx context.Context) error
	// NoteShutdown takes note that the machine is being shut down in an orderly way, if it is.
	NoteShutdown(ctx context.Context) error
	// Current returns the system that runs; zero if that cannot be told.
	Current(ctx context.Context) (nix.System, error)
	// Runs reports whether s runs and is the boot default.
	Runs(ctx context.Context, s nix.System) (bool, error)
	// Build builds a configuration of the flake in dir.
	Build(ctx context.Context, dir, configuration string) (nix.System, error)
	// Realise fetches a system that was built elsewhere, from the caches and no others, and builds
	// nothing.
	Realise(ctx context.Context, s nix.System, caches []nix.Cache) error
	// Activate switches to s, has it verified, and commits to it or rolls it back, as r says. When ctx
	// ends it returns, and the activation goes on for Resume to take up. An *activation.Error says that
	// it was rolled back.
	Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error)
	// Abandon drops a system that is only to become active with the next boot, if there is one.
	Abandon(ctx context.Context) error
	// Resume brings an activation to its end that an earlier process began, if there is one.
	Resume(ctx context.Context, r activation.Request) (j activation.Journal, found bool, err error)
}

// Machine is what the agent asks and does beyond systems. *activation.Coordinator serves.
type Machine interface {
	// NewlyFailing returns the units that are failing and were not before an activation, but for those
	// that match one of the patterns of exempt.
	NewlyFailing(ctx context.Context, j activation.Journal, exempt []string) (activation.Failing, error)
	// RebootDue says why the machine is to be rebooted for its system to run wholly; "" if not.
	RebootDue(ctx context.Context) (why string, err error)
	// BootFailures returns which parts of the activation failed when the machine booted.
	BootFailures(ctx context.Context) ([]string, error)
	// Reboot reboots the machine.
	Reboot(ctx context.Context) error
}

// Options of an agent. Dir, Store and Host are required.
type Options struct {
	Dir  config.Dir
	Name string // of the host, in records
	// RemoteName is what releases call the remote: its bucket and key, as "bucket/key".
	RemoteName string
	Store      Store
	Host       Host
	Queue      inbox.Queue // nil: polls only
	// Machine is watched while a system is verified, and rebooted if the settings say so. Nil: neither.
	Machine Machine
	// Reach connects to the store and, if asked to, to the queue of the settings, as a process that was
	// just started would. It tries both, and joins their errors. Nil: verification does not ask for it.
	Reach func(ctx context.Context, c config.Config, queue bool) error
	// Fresh verifies a new system by a process that begins now, which calls [Verify]: this one remembers
	// names, certificates and the time zone of the system before. Nil: this process verifies it.
	Fresh func(ctx context.Context, v Verification) (warning string, err error)
	// Stale reports whether this process remembers what is not so any more, so that another is to take
	// its place. Nil: it never does.
	Stale func() bool
	// Lost returns an error if the data directory is not the agent's own any more: it then ends. Nil: it always is.
	Lost func() error
	// BootID tells one boot of the machine from another. Nil: [nix.BootID].
	BootID func() string

	// Ours tells notices about this host's remote from others. Nil: all are.
	Ours func(events.Notice) bool
	// Config holds the settings that Store and Queue were made from, overrides included.
	Config config.Config
	// Override is applied to config.json's settings each time they are read: flags and environment come
	// before the file. Nil: the file alone counts.
	Override func(config.Config) (config.Config, error)
	// Poke wakes the agent to read config.json and reconcile. Nil: it finds out at the next poll.
	Poke <-chan struct{}
	// Switched says that another system may run than before, whoever switched to it. Nil: the agent finds out at the
	// next poll.
	Switched <-chan struct{}
	// Once ends Run: see the constants. Empty: it runs until ctx ends.
	Once Once
	// Force applies the remote's version once, even if it is unchanged, failed or rejected.
	Force bool
	// Status tells the service manager what the agent does, in one line. Nil: there is none.
	Status func(line string)
	// Idle is called when the agent begins to wait, for hours mostly. Nil: nothing is.
	Idle func()
	// ClosureSize returns the size in bytes of a system and all that it needs, for the metrics. Nil: they omit it.
	ClosureSize func(ctx context.Context, s nix.System) (int64, error)
	// Changes returns the packages that differ between two systems, a line for each; it ends with ctx. Nil: records
	// omit them.
	Changes func(ctx context.Context, from, to nix.System) []string
	Version string // of npcnix, in records
	Log     *slog.Logger
}

// Once says when a run that is not to last ends.
type Once string

const (
	OnceAny      Once = "any"      // on any success, that is applied or unchanged
	OnceActivate Once = "activate" // on the first activation
)

func (o *Options) validate() error {
	switch {
	case o.Dir == "" || o.Store == nil || o.Host == nil:
		return errors.New("agent: Dir, Store and Host are required")
	case o.Once != "" && o.Once != OnceAny && o.Once != OnceActivate:
		return fmt.Errorf("--once is %q: it must be %q or %q", o.Once, OnceAny, OnceActivate)
	}

	if o.Ours == nil {
		o.Ours = func(events.Notice) bool { return true }
	}
	if o.Override == nil {
		o.Override = func(c config.Config) (config.Config, error) { return c, nil }
	}
	if o.Stale == nil {
		o.Stale = func() bool { return false }
	}
	if o.Lost == nil {
		o.Lost = func() error { return nil }
	}
	if o.BootID == nil {
		o.BootID = nix.BootID
	}
	if o.Status == nil {
		o.Status = func(string) {}
	}
	if o.Idle == nil {
		o.Idle = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	return nil
}

// Agent is one host's agent. Make it with New, start it with Run, once.
type Agent struct {
	Options
	inbox   *inbox.Inbox
	record  *record.Writer
	monitor *health.Monitor
	metrics *metrics.Writer
	reboot  reboot.Plan
	frame   frame // of the release that was read last

	heldBack string // the ETag of the version that was last said to be held

	uncached uncached
	unsigned unsigned
	unshown  unshown
	vigil    vigil

	config     config.Config // as last read, overrides included
	settings   *config.Reader
	trouble    *record.Trouble             // that the record tells of; nil if there is none
	said       string                      // the status that the service manager was told last
	logged     map[string]work             // the lines about the present work
	receives   bool                        // the queue worked when the last round began
	idled      time.Time                   // when an event last brought nothing new
	untold     bool                        // that a failure or recovery cannot be told was logged
	marked     bool                        // the record of an earlier name was tried to be marked
	ran        string                      // the system that ran at the end of the last round
	sized      string                      // the system whose closure was measured last
	swept      bool                        // what a killed agent left is gone
	transients int                         // rounds in a row that ended with a transient error
	since      time.Time                   // of the last reconfiguration, which the polling schedule depends on
	retryAt    time.Time                   // when a rollback that failed is tried again; zero if none is
	pause      *backoff.ExponentialBackOff // between attempts that a transient error ends
}
