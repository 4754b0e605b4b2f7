// Package config has the settings of a host: DATA_DIR/config.json, what the NixOS module declares over
// it, and the data directory itself with its locks.
package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/nix/systemd"
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

// Default returns the settings of a host on which nothing was set.
func Default() Config {
	return Config{
		LastReconfiguration: time.Now().UTC().Truncate(time.Second),
		MinSleepSecs:        5,
		MaxSleepSecs:        120,
		MaxSleepAfterHours:  24,
	}
}

func (c *Config) UnmarshalJSON(data []byte) error {
	type plain Config
	p := plain(Default())
	rest, err := jsonfile.Decode(data, &p)
	if err != nil {
		return err
	}
	*c = Config(p)
	c.rest = rest
	return c.Validate()
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

// Validate returns an error that says which setting cannot be as it is, and why.
func (c *Config) Validate() error {
	if err := c.Paused.validate(); err != nil {
		return err
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
		if err := systemd.CheckPattern(pattern); err != nil {
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
	if _, err := ParseWindow(c.RebootWindow); err != nil {
		return err
	}
	return nil
}

// maxSeconds bounds every duration an operator can set: a year.
const maxSeconds = 366 * 24 * 3600

// maxLease is the longest visibility timeout (Amazon SQS API reference, ReceiveMessage).
const maxLease = 12 * time.Hour
