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
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/store"
)

// stateSchema is the layout of state.json that this version writes. It reads the one before
// and, keeping what it does not know, the one after.
const stateSchema = 1

// Target is what a host is meant to run: one version of one remote, one configuration in it.
type Target struct {
	Remote        string `json:"remote"`
	Configuration string `json:"configuration"`
	ETag          string `json:"etag"`
	VersionID     string `json:"version_id,omitempty"`
}

// Same reports whether both name the same remote, configuration and content. Two versions of
// an object with one ETag are the same content.
func (t Target) Same(o Target) bool {
	return t.Remote == o.Remote && t.Configuration == o.Configuration && t.ETag == o.ETag && t.ETag != ""
}

func (t Target) version() store.Version { return store.Version{ETag: t.ETag, ID: t.VersionID} }

// State is what the agent remembers: DATA_DIR/state.json.
type State struct {
	Schema  int      `json:"schema"`
	Applied *Applied `json:"applied,omitempty"`
	Intent  *Intent  `json:"intent,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// Hook is the hook that is to be run, or was cut short.
	Hook *Hook `json:"hook,omitempty"`
	// Unsettled: an activation failed since Applied and could not be taken back, so that what
	// runs may be neither the applied system nor somebody's choice.
	Unsettled bool `json:"unsettled,omitempty"`
	// Restarted is the system that a restart of the machine was last asked for, and RestartedIn the
	// boot during which it was. An older npcnix wrote no boot.
	Restarted   string `json:"restarted_for,omitempty"`
	RestartedIn string `json:"restarted_in_boot,omitempty"`

	rest jsonfile.Unknown
}

// Applied is the last target that was reached.
type Applied struct {
	Target
	System   string    `json:"system"`
	Previous string    `json:"previous_system,omitempty"` // what ran before
	At       time.Time `json:"at"`
	// How it came about, for the record.
	Trigger Trigger `json:"trigger,omitempty"`
	Attempt int     `json:"attempt,omitempty"`
	Times   Times   `json:"times,omitzero"`
}

// Intent is the work in progress, written before it starts.
type Intent struct {
	Target
	Stage   Stage     `json:"stage"`
	Attempt int       `json:"attempt"`          // from 1
	System  string    `json:"system,omitempty"` // once built
	Since   time.Time `json:"since"`
	// Activation is the id of this attempt, and of its activation once there is one.
	Activation string  `json:"activation,omitempty"`
	Trigger    Trigger `json:"trigger,omitempty"`
	Times      Times   `json:"times,omitzero"`
	Queue      bool    `json:"queue,omitempty"` // could be reached before
}

// Stage is how far the work on an intent has got.
type Stage string

const (
	StageBuilding   Stage = "building"   // fetching included
	StageActivating Stage = "activating" // what has become of it is in activation.json
	StageBooting    Stage = "booting"    // it boots next
)

// Failure is what is known of a target that could not be reached.
type Failure struct {
	Target
	Attempts   int       `json:"attempts"`
	Rejected   bool      `json:"rejected,omitempty"`
	RolledBack bool      `json:"rolled_back,omitempty"`
	At         time.Time `json:"at"`
	DelaySecs  float64   `json:"delay_secs,omitempty"` // from At to the next attempt
	Error      string    `json:"error"`
	Tail       []string  `json:"log_tail,omitempty"`
	RetryToken string    `json:"retry_token,omitempty"` // Config.RetryToken at the time
}

// Next is when the next attempt is due, unless the target is rejected.
func (f *Failure) Next() time.Time {
	return f.At.Add(time.Duration(f.DelaySecs * float64(time.Second)))
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
	if s.Schema < 1 || s.Schema > stateSchema+1 {
		return fmt.Errorf("schema %d is not one that this npcnix reads (1 to %d)", s.Schema, stateSchema+1)
	}
	return nil
}

func (s State) MarshalJSON() ([]byte, error) {
	type plain State
	return jsonfile.Encode(plain(s), s.rest)
}

// ErrState marks a state.json that cannot be read.
var ErrState = errors.New("state.json cannot be read")

// ReadState reads state.json without changing anything; where there is none it returns an
// empty state. A damaged one is an error wrapping ErrState.
func ReadState(d config.Dir) (State, error) {
	data, err := os.ReadFile(d.Path("state.json"))
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

// loadState is ReadState for the agent: a damaged file is set aside and reported, and the host
// heals by reconciling. Where there is none yet, what the Rust npcnix left in config.json
// serves, so that taking a host over builds nothing anew.
func loadState(d config.Dir, c config.Config, running nix.System, log *slog.Logger) (State, error) {
	s, err := ReadState(d)
	if errors.Is(err, ErrState) {
		aside := d.Path("state.json.damaged")
		if err := os.Rename(d.Path("state.json"), aside); err != nil {
			return State{}, fmt.Errorf("set damaged state aside: %w", err)
		}
		log.Warn("state.json could not be read; set aside, starting afresh", "error", err, "aside", aside)
		return State{Schema: stateSchema}, nil
	}
	if err != nil {
		return State{}, err
	}
	if s.Applied == nil && s.Intent == nil && s.Failure == nil && c.LastETag != "" {
		s.Applied = &Applied{
			Target: Target{Remote: c.Remote, Configuration: c.LastConfiguration, ETag: strings.Trim(c.LastETag, `"`)},
			System: running.Path,
			At:     c.LastReconfiguration,
		}
		return s, saveState(d, s)
	}
	return s, nil
}

// saveState makes s durable before it returns.
func saveState(d config.Dir, s State) error {
	s.Schema = max(s.Schema, stateSchema)
	if err := d.Create(); err != nil {
		return err
	}
	return jsonfile.Write(d.Path("state.json"), s)
}
