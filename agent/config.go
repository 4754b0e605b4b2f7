package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/jsonfile"
)

// Config is what the operator set: DATA_DIR/config.json. The Rust npcnix's file is read as it
// is, and what is written here can be read by it; members unknown to this version survive.
// Only commands write it, never the agent.
type Config struct {
	Remote        string `json:"remote,omitempty"`
	RemoteRegion  string `json:"remote_region,omitempty"`
	Configuration string `json:"configuration,omitempty"`

	// What the Rust npcnix remembered of its last reconfiguration. Read once, to take a
	// host over without building it again; kept because its file format demands them.
	LastReconfiguration time.Time `json:"last_reconfiguration"`
	LastETag            string    `json:"last_etag"`
	LastConfiguration   string    `json:"last_configuration"`

	MinSleepSecs       int64  `json:"min_sleep_secs"`
	MaxSleepSecs       int64  `json:"max_sleep_secs"`
	MaxSleepAfterHours int64  `json:"max_sleep_after_hours"`
	Paused             *Pause `json:"paused,omitempty"`

	// New beside the Rust npcnix's.
	QueueURL         string  `json:"queue_url,omitempty"`
	Host             string  `json:"host,omitempty"`
	PollIntervalSecs int64   `json:"poll_interval_secs,omitempty"`
	LeaseSecs        int64   `json:"lease_secs,omitempty"`
	RetryDelaysSecs  []int64 `json:"retry_delays_secs,omitzero"`
	CorrectDrift     bool    `json:"correct_drift,omitempty"`

	// How a new system proves itself; see docs/safety.md.
	ActivationTimeoutSecs int64    `json:"activation_timeout_secs,omitempty"` // default 900
	ConfirmTimeoutSecs    int64    `json:"confirm_timeout_secs,omitempty"`    // default 300
	SettleSecs            *int64   `json:"settle_secs,omitempty"`             // default 5
	ExemptUnits           []string `json:"exempt_units,omitempty"`
	Checks                []Check  `json:"checks,omitempty"`
	Hooks                 Hooks    `json:"hooks,omitzero"`
	HookTimeoutSecs       int64    `json:"hook_timeout_secs,omitempty"` // default 300
	KeepGenerations       int64    `json:"keep_generations,omitempty"`  // 0: all
	// RecordRefreshSecs is how often a record that would say nothing new is written all the same,
	// so that a host that has fallen silent shows. Default 3600; 0: never.
	RecordRefreshSecs *int64 `json:"record_refresh_secs,omitempty"`
	Reboot            Reboot `json:"reboot,omitempty"`        // default never
	RebootWindow      string `json:"reboot_window,omitempty"` // as "03:00-05:00", local time; "": any
	// RetryToken changes with each `npcnix retry`: a failure or rejection noted under another
	// token no longer counts. A token and not a time, so that no clock can undo it.
	RetryToken string `json:"retry_token,omitempty"`

	rest jsonfile.Unknown
}

// DefaultConfig returns the settings of a host on which nothing was set.
func DefaultConfig() Config {
	return Config{
		LastReconfiguration: time.Now().UTC().Truncate(time.Second),
		MinSleepSecs:        5,
		MaxSleepSecs:        120,
		MaxSleepAfterHours:  24,
	}
}

// Pause is the operator's wish that nothing be changed: for ever, or until a time.
type Pause struct {
	Type  string    `json:"type"` // "indefinitely" or "until"
	Until time.Time `json:"until,omitzero"`
}

const (
	pauseIndefinitely = "indefinitely"
	pauseUntil        = "until"
)

// Active reports whether the pause holds at now. A nil pause does not.
func (p *Pause) Active(now time.Time) bool {
	return p != nil && (p.Type == pauseIndefinitely || now.Before(p.Until))
}

func (p *Pause) String() string {
	switch {
	case p == nil:
		return "not paused"
	case p.Type == pauseIndefinitely:
		return "paused (indefinitely)"
	default:
		return "paused (until " + p.Until.UTC().Format(time.RFC3339) + ")"
	}
}

// Extend returns the longer of p and a pause until the given time; a zero time stands for ever.
func (p *Pause) Extend(until, now time.Time) *Pause {
	switch {
	case until.IsZero(), p.Active(now) && p.Type == pauseIndefinitely:
		return &Pause{Type: pauseIndefinitely}
	case p.Active(now) && p.Until.After(until):
		return p
	default:
		return &Pause{Type: pauseUntil, Until: until.UTC().Truncate(time.Second)}
	}
}

func (c *Config) UnmarshalJSON(data []byte) error {
	type plain Config
	p := plain(DefaultConfig())
	rest, err := jsonfile.Decode(data, &p)
	if err != nil {
		return err
	}
	*c = Config(p)
	c.rest = rest
	return c.validate()
}

func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config
	return jsonfile.Encode(plain(c), c.rest)
}

// With returns the settings with those members replaced that the JSON object has, such as one that
// the NixOS module wrote. What only commands may set is left alone.
func (c Config) With(settings []byte) (Config, error) {
	var declared map[string]json.RawMessage
	if err := json.Unmarshal(settings, &declared); err != nil {
		return Config{}, err
	}
	for _, name := range []string{"paused", "retry_token", "last_reconfiguration", "last_etag", "last_configuration"} {
		delete(declared, name)
	}
	// By way of JSON, as decoding into c would mix lists of both.
	all := map[string]json.RawMessage{}
	own, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(own, &all)
	}
	if err != nil {
		return Config{}, err
	}
	maps.Copy(all, declared)
	merged, err := json.Marshal(all)
	if err != nil {
		return Config{}, err
	}
	var result Config
	err = json.Unmarshal(merged, &result)
	return result, err
}

func (c *Config) validate() error {
	if c.Paused != nil && c.Paused.Type != pauseIndefinitely && c.Paused.Type != pauseUntil {
		return fmt.Errorf("paused.type is %q: it must be %q or %q", c.Paused.Type, pauseIndefinitely, pauseUntil)
	}
	for name, secs := range map[string]int64{
		"min_sleep_secs": c.MinSleepSecs, "max_sleep_secs": c.MaxSleepSecs,
		"max_sleep_after_hours": c.MaxSleepAfterHours, "poll_interval_secs": c.PollIntervalSecs,
		"lease_secs": c.LeaseSecs, "activation_timeout_secs": c.ActivationTimeoutSecs,
		"confirm_timeout_secs": c.ConfirmTimeoutSecs, "settle_secs": c.settleSecs(), "record_refresh_secs": c.recordRefreshSecs(), "hook_timeout_secs": c.HookTimeoutSecs,
		"keep_generations": c.KeepGenerations,
	} {
		if secs < 0 || secs > maxSeconds {
			return fmt.Errorf("%s is %d: it must be from 0 to %d", name, secs, maxSeconds)
		}
	}
	// As a proof does not end before: every version would be rolled back.
	if settle, confirm := c.settleSecs(), c.confirmTimeoutSecs(); settle >= confirm {
		return fmt.Errorf("settle_secs is %d, but a new system has %d seconds to prove itself: make settle_secs smaller, or confirm_timeout_secs larger", settle, confirm)
	}
	if limit := int64(maxLease / time.Second); c.LeaseSecs > limit {
		return fmt.Errorf("lease_secs is %d: SQS allows at most %d", c.LeaseSecs, limit)
	}
	for _, secs := range c.RetryDelaysSecs {
		if secs < 0 || secs > maxSeconds {
			return fmt.Errorf("retry_delays_secs holds %d: each must be from 0 to %d", secs, maxSeconds)
		}
	}
	for _, pattern := range c.ExemptUnits {
		if err := activation.CheckUnitPattern(pattern); err != nil {
			return fmt.Errorf("exempt_units: %w", err)
		}
	}
	for i, check := range c.Checks {
		if err := check.validate(); err != nil {
			return fmt.Errorf("checks[%d]: %w", i, err)
		}
	}
	if c.Reboot != "" && c.Reboot != RebootNever && c.Reboot != RebootWhenNeeded {
		return fmt.Errorf("reboot is %q: it must be %q or %q", c.Reboot, RebootNever, RebootWhenNeeded)
	}
	if _, err := parseWindow(c.RebootWindow); err != nil {
		return err
	}
	return nil
}

// Order is what the settings say of an activation that is verified by v.
func (c Config) Order(v Verifier) activation.Request {
	return activation.Request{
		SwitchTimeout: seconds(c.ActivationTimeoutSecs), VerifyTimeout: seconds(c.ConfirmTimeoutSecs),
		Verify: v.Verify, Keep: int(c.KeepGenerations),
	}
}

// maxSeconds bounds every duration an operator can set: a year.
const maxSeconds = 366 * 24 * 3600

// maxLease is the longest visibility timeout (Amazon SQS API reference, ReceiveMessage).
const maxLease = 12 * time.Hour

// ErrConfig marks a config.json that cannot be used.
var ErrConfig = errors.New("config.json cannot be used")

// Dir is the data directory of a host.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// ConfigPath returns where LoadConfig reads from.
func (d Dir) ConfigPath() string { return d.path("config.json") }

// LoadConfig reads config.json; where there is none it returns DefaultConfig. A damaged file
// is an error wrapping ErrConfig, and is left as it is.
func (d Dir) LoadConfig() (Config, error) {
	data, err := os.ReadFile(d.ConfigPath())
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfig(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w; mend or move it away, then set it anew with `npcnix config set`", ErrConfig, d.ConfigPath(), err)
	}
	return c, nil
}

// UpdateConfig changes config.json under a lock, atomically. It creates the data directory
// where there is none.
func (d Dir) UpdateConfig(ctx context.Context, change func(*Config) error) error {
	if err := d.create(); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, "config.lock", nil)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.LoadConfig()
	if err != nil {
		return err
	}
	if !c.Paused.Active(time.Now()) {
		c.Paused = nil
	}
	if err := change(&c); err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	return jsonfile.Write(d.ConfigPath(), c)
}

func (d Dir) create() error {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return fmt.Errorf("create data directory: %w; run as root, or choose another with --data-dir", err)
	}
	return nil
}

// Check creates the data directory where there is none and makes sure that it can be written.
func (d Dir) Check() error {
	if err := d.create(); err != nil {
		return err
	}
	probe, err := os.CreateTemp(string(d), ".writable-*")
	if err != nil {
		return fmt.Errorf("data directory cannot be written: %w; run as root, or choose another with --data-dir", err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}
