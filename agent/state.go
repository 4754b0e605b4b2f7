package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/store"
)

const (
	// stateSchema is the layout of state.json that this version writes. It reads the ones before and,
	// keeping what it does not know, the one after.
	stateSchema = 2
	stateFile   = "state.json"
)

// Target is what a host is meant to run: one version of one remote, one configuration in it.
type Target struct {
	Remote        string `json:"remote"`
	Configuration string `json:"configuration"`
	ETag          string `json:"etag"`
	VersionID     string `json:"version_id,omitempty"`
	// What the version's manifest says, if it has one.
	Release string `json:"release,omitempty"` // the same for every object that has hosts run the same
	Rev     string `json:"rev,omitempty"`
	Message string `json:"message,omitempty"`
	Serial  int64  `json:"serial,omitempty"`
	// Expires is when hosts stop taking the release, and Renew when a quarter of its time is left; zero if it is never.
	Expires time.Time `json:"expires,omitzero"`
	Renew   time.Time `json:"renew,omitzero"`
}

// Expiring reports whether less than a quarter of the release's time is left.
func (t Target) Expiring(now time.Time) bool { return !t.Renew.IsZero() && now.After(t.Renew) }

// ExpiryWarning is what people are told of a release that is Expiring.
func (t Target) ExpiryWarning() string {
	return "the release expires at " + t.Expires.UTC().Format(time.RFC3339) + ": publish another one, or run `npcnix release renew`"
}

// Same reports whether both name the same remote, configuration and content. Two versions of an object
// with one ETag are the same content.
func (t Target) Same(o Target) bool {
	return t.Remote == o.Remote && t.Configuration == o.Configuration && t.ETag == o.ETag && t.ETag != ""
}

// samePublish reports whether both name the same publish of the same release, in whatever state of its rollout.
func (t Target) samePublish(o Target) bool {
	return t.SameRelease(o) && t.Serial == o.Serial && t.Serial != 0
}

// SameRelease reports whether both name the same remote, configuration and release, whichever object they
// came in.
func (t Target) SameRelease(o Target) bool {
	return t.Remote == o.Remote && t.Configuration == o.Configuration && t.Release == o.Release && t.Release != ""
}

func (t Target) version() store.Version { return store.Version{ETag: t.ETag, ID: t.VersionID} }

// State is what the agent remembers: DATA_DIR/state.json. Only the functions of transition.go change it.
type State struct {
	Schema  int      `json:"schema"`
	Applied *Applied `json:"applied,omitempty"`
	Intent  *Intent  `json:"intent,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// Ran are the last releases that were reached, the latest first: a rollout may go back to one of them.
	Ran []Ran `json:"ran,omitempty"`
	// Hook is the hook that is to run, or was interrupted.
	Hook *hook.Run `json:"hook,omitempty"`
	// NeedsRepair: the rollback of an activation has failed since Applied, so that what runs may be
	// neither the applied system nor an operator's choice.
	NeedsRepair bool `json:"needs_repair,omitempty"`
	// RebootedFor is the system that a reboot was last requested for, and RebootedIn the boot during
	// which it was.
	RebootedFor string `json:"rebooted_for,omitempty"`
	RebootedIn  string `json:"rebooted_in_boot,omitempty"`

	// Told is the version whose failure was told to whoever wants to be notified: its release, or its ETag if it has
	// none. It is "" if none was, or the recovery was told too.
	Told string `json:"told,omitempty"`

	// Host is the name under which the record was last written.
	Host string `json:"host,omitempty"`

	rest jsonfile.Unknown
}

// Applied is the last target that was reached.
type Applied struct {
	Target
	System   string    `json:"system"`
	Previous string    `json:"previous_system,omitempty"` // that ran before
	At       time.Time `json:"at,omitzero"`
	// How it came about, for the record.
	Trigger record.Trigger `json:"trigger,omitempty"`
	Attempt int            `json:"attempt,omitempty"`
	Times   record.Times   `json:"times,omitzero"`
	// SoakSecs is for how long its rollout wants it to be healthy.
	SoakSecs int64  `json:"soak_secs,omitempty"`
	Warning  string `json:"warning,omitempty"` // what is worth telling of it, though it is verified
	// Changes are the first packages that differ from the system before, a line for each, as far as known.
	Changes []string `json:"changes,omitempty"`
}

// Ran is the system that a release was on this host.
type Ran struct {
	Release       string `json:"release"`
	Configuration string `json:"configuration"`
	System        string `json:"system"`
}

// Intent is the work in progress, written before it starts.
type Intent struct {
	Target
	// Status is building, activating (what has become of that is in activation.json) or reboot_pending.
	Status  record.Status `json:"status"`
	Attempt int           `json:"attempt"`          // from 1
	System  string        `json:"system,omitempty"` // once built
	Since   time.Time     `json:"since,omitzero"`
	// Activation is the id of this attempt, and of its activation once there is one.
	Activation string         `json:"activation,omitempty"`
	Trigger    record.Trigger `json:"trigger,omitempty"`
	Times      record.Times   `json:"times,omitzero"`
	SoakSecs   int64          `json:"soak_secs,omitempty"` // as in Applied
	Queue      bool           `json:"queue,omitempty"`     // was reached before
}

// Failure is what is known of a target that could not be reached.
type Failure struct {
	Target
	Attempts   int       `json:"attempts"`
	Rejected   bool      `json:"rejected,omitempty"`
	RolledBack bool      `json:"rolled_back,omitempty"`
	At         time.Time `json:"at,omitzero"`
	DelaySecs  float64   `json:"delay_secs,omitempty"` // from At to the next attempt
	Error      string    `json:"error"`
	Tail       []string  `json:"log_tail,omitempty"`
	RetryToken string    `json:"retry_token,omitempty"` // Config.RetryToken at the time
	Activation string    `json:"activation,omitempty"`  // that was rolled back, or could not be
	// Times are of the last attempt; its end is Times.Acknowledged. Zero if an older npcnix wrote this.
	Times record.Times `json:"times,omitzero"`
}

// Next is when the next attempt is due, unless the target is rejected.
func (f *Failure) Next() time.Time {
	return f.At.Add(time.Duration(f.DelaySecs * float64(time.Second)))
}

// Status is what has become of the target.
func (f *Failure) Status() record.Status {
	switch {
	case f.RolledBack:
		return record.RolledBack
	case f.Rejected:
		return record.Rejected
	}

	return record.Failed
}

// remembered is t with what its manifest says, if that was read before.
func (s State) remembered(t Target) Target {
	var known []Target
	if s.Applied != nil {
		known = append(known, s.Applied.Target)
	}
	if s.Intent != nil {
		known = append(known, s.Intent.Target)
	}
	if s.Failure != nil {
		known = append(known, s.Failure.Target)
	}
	for _, k := range known {
		if k.Same(t) {
			t.Release, t.Rev, t.Message, t.Serial, t.Expires, t.Renew = k.Release, k.Rev, k.Message, k.Serial, k.Expires, k.Renew
		}
	}

	return t
}

// rebootPending reports whether the system of the intent becomes active with the next boot.
func (s State) rebootPending() bool {
	return s.Intent != nil && s.Intent.Status == record.RebootPending
}

// drifted reports whether another system runs than the applied one, and an operator has switched to it.
func (s State) drifted(running nix.System) bool {
	a := s.Applied
	return a != nil && !s.NeedsRepair && !s.rebootPending() && running.Path != "" && a.System != "" && running.Path != a.System
}

// rebootedFor reports whether the machine was rebooted for the system, and has come up since.
func (s State) rebootedFor(system, boot string) bool {
	return s.RebootedFor == system && (boot == "" || s.RebootedIn != boot)
}

func (s *State) UnmarshalJSON(data []byte) error {
	type plain State
	var p plain
	rest, err := jsonfile.Decode(data, &p)
	if err != nil {
		return err
	}

	*s = State(p)
	s.rest = rest
	switch {
	case s.Schema < 1 || s.Schema > stateSchema+1:
		return fmt.Errorf("schema %d is not one that this npcnix reads (1 to %d)", s.Schema, stateSchema+1)
	case s.Schema == 1:
		return s.fromSchema1(data)
	}

	return nil
}

func (s State) MarshalJSON() ([]byte, error) {
	type plain State
	return jsonfile.Encode(plain(s), s.rest)
}

// ErrState marks a state.json that cannot be read.
var ErrState = errors.New("state.json cannot be read")

// ReadState reads state.json without changing anything. Without a file it returns an empty state. A
// damaged file is an error wrapping ErrState.
func ReadState(d config.Dir) (State, error) {
	data, err := os.ReadFile(d.Path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return State{Schema: stateSchema}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read state: %w", err)
	}

	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrState, err)
	}

	return s, nil
}

// loadState is ReadState for the agent. A damaged file is set aside and reported; the host heals by
// reconciling.
func loadState(d config.Dir, log *slog.Logger) (State, error) {
	s, err := ReadState(d)
	if !errors.Is(err, ErrState) {
		return s, err
	}

	aside := d.Path(stateFile + ".damaged")
	if err := os.Rename(d.Path(stateFile), aside); err != nil {
		return State{}, fmt.Errorf("set damaged state aside: %w", err)
	}
	log.Warn("cannot read state.json; it is set aside, and the agent starts without memory", "error", err, "aside", aside)

	return State{Schema: stateSchema}, nil
}

// saveState makes s durable before it returns.
func saveState(d config.Dir, s State) error {
	s.Schema = max(s.Schema, stateSchema)
	if err := d.Create(); err != nil {
		return err
	}

	return jsonfile.Write(d.Path(stateFile), s)
}

// fromRust is the memory of a host that the Rust npcnix kept up to date, as its config.json has it.
func fromRust(c config.Config, running nix.System) *Applied {
	return &Applied{
		Target: Target{Remote: c.Remote, Configuration: c.LastConfiguration, ETag: strings.Trim(c.LastETag, `"`)},
		System: running.Path,
		At:     c.LastReconfiguration,
	}
}
