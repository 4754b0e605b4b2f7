// Package config has the settings of a host: the table of all there are, config.json, what the NixOS
// module and flags put over it, and the data directory itself with its locks.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/nix/systemd"
)

// Config is what the operator set: DATA_DIR/config.json. The Rust npcnix's file is read as it is, and
// the Rust npcnix can read what is written here. Unknown members survive. Only commands write it, never
// the agent.
//
// A zero field is not set. [Settings] has the defaults, and methods such as [Config.Lease] the values
// in force.
type Config struct {
	Remote       string `json:"remote,omitempty"`
	RemoteRegion string `json:"remote_region,omitempty"`
	// RemoteCredentialsFile is the path of a file, and no secret itself.
	RemoteCredentialsFile string `json:"remote_credentials_file,omitempty"`

	Configuration string `json:"configuration,omitempty"`

	// What the Rust npcnix remembered of its last reconfiguration. Read once, to take a host over
	// without building it again; kept because its file format demands them.
	LastReconfiguration time.Time `json:"last_reconfiguration"`
	LastETag            string    `json:"last_etag"`
	LastConfiguration   string    `json:"last_configuration"`

	MinSleepSecs       int64  `json:"min_sleep_secs"`
	MaxSleepSecs       int64  `json:"max_sleep_secs"`
	MaxSleepAfterHours int64  `json:"max_sleep_after_hours"`
	Paused             *Pause `json:"paused,omitempty"`

	// New beside the Rust npcnix's.
	QueueURL           string   `json:"queue_url,omitempty"`
	TopicARN           string   `json:"topic_arn,omitempty"`
	Host               string   `json:"host,omitempty"`
	PollIntervalSecs   int64    `json:"poll_interval_secs,omitempty"`
	LeaseSecs          int64    `json:"lease_secs,omitempty"`
	RetryDelaysSecs    []int64  `json:"retry_delays_secs,omitzero"`
	CorrectDrift       bool     `json:"correct_drift,omitempty"`
	BuildTimeoutSecs   *int64   `json:"build_timeout_secs,omitempty"`
	SwitchTimeoutSecs  int64    `json:"switch_timeout_secs,omitempty"`
	VerifyTimeoutSecs  int64    `json:"verify_timeout_secs,omitempty"`
	SettleSecs         *int64   `json:"settle_secs,omitempty"`
	ExemptUnits        []string `json:"exempt_units,omitempty"`
	Checks             []Check  `json:"checks,omitempty"`
	Hooks              Hooks    `json:"hooks,omitzero"`
	HealthIntervalSecs *int64   `json:"health_interval_secs,omitempty"`
	HookTimeoutSecs    int64    `json:"hook_timeout_secs,omitempty"`
	KeepGenerations    int64    `json:"keep_generations,omitempty"`
	RecordRefreshSecs  *int64   `json:"record_refresh_secs,omitempty"`
	MetricsTextfile    string   `json:"metrics_textfile,omitempty"`
	Reboot             Reboot   `json:"reboot,omitempty"`
	RebootWindow       string   `json:"reboot_window,omitempty"`
	Signers            []string `json:"signers,omitempty"`
	SignersRequired    int64    `json:"signers_required,omitempty"`
	RolloutSigners     []string `json:"rollout_signers,omitempty"`
	Evaluation         string   `json:"evaluation,omitempty"`

	// RetryToken changes with each `npcnix retry`: a failure or rejection noted under another token no
	// longer counts. A token and not a time, so that no clock can revert it.
	RetryToken string `json:"retry_token,omitempty"`

	rest  jsonfile.Unknown
	given map[string]bool // the settings that were in the JSON that this was read from, or set since
}

// notSettings are the members of config.json that commands and the agent write for themselves.
var notSettings = []string{"paused", "retry_token", "last_reconfiguration", "last_etag", "last_configuration"}

// Default returns the settings of a host on which nothing was set.
func Default() Config {
	c := Config{LastReconfiguration: time.Now().UTC().Truncate(time.Second)}
	c.MinSleepSecs = must("min_sleep_secs").Default.(int64)
	c.MaxSleepSecs = must("max_sleep_secs").Default.(int64)
	c.MaxSleepAfterHours = must("max_sleep_after_hours").Default.(int64)
	return c
}

func (c *Config) UnmarshalJSON(data []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return err
	}
	return c.read(members)
}

// read reads a JSON object's members. Settings under an old name get the present one.
func (c *Config) read(members map[string]json.RawMessage) error {
	rename(members)
	data, err := json.Marshal(members)
	if err != nil {
		return err
	}
	type plain Config
	p := plain(Default())
	rest, err := jsonfile.Decode(data, &p)
	if wrong, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		return fmt.Errorf("%s is of the wrong type: it holds a JSON %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return err
	}
	*c = Config(p)
	c.rest, c.given = rest, map[string]bool{}
	for name := range members {
		c.given[name] = true
	}
	return c.Validate()
}

// rename gives settings their present names. Where an object has both, the present one counts.
func rename(members map[string]json.RawMessage) {
	for _, s := range Settings {
		for _, old := range s.Old {
			value, there := members[old]
			if !there {
				continue
			}
			delete(members, old)
			if _, there := members[s.Name]; !there {
				members[s.Name] = value
			}
		}
	}
}

func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config
	return jsonfile.Encode(plain(c), c.rest)
}

// members returns what MarshalJSON writes, by name.
func (c Config) members() (map[string]json.RawMessage, error) {
	data, err := c.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	err = json.Unmarshal(data, &members)
	return members, err
}

// With returns the settings with those members replaced that the JSON object has, such as one that
// the NixOS module wrote. What only commands write is left alone.
func (c Config) With(object []byte) (Config, error) {
	var over map[string]json.RawMessage
	if err := json.Unmarshal(object, &over); err != nil {
		return Config{}, err
	}
	rename(over)
	maps.DeleteFunc(over, func(name string, _ json.RawMessage) bool { return slices.Contains(notSettings, name) })
	// By way of JSON, as decoding into c would mix lists of both.
	all, err := c.members()
	if err != nil {
		return Config{}, err
	}
	maps.Copy(all, over)
	var result Config
	if err := result.read(all); err != nil {
		return Config{}, err
	}
	result.given = maps.Clone(c.given)
	if result.given == nil {
		result.given = map[string]bool{}
	}
	for name := range over {
		result.given[name] = true
	}
	return result, nil
}

// Has reports whether a setting is set, if only to its default.
func (c Config) Has(name string) bool { return c.given[name] }

// Set sets a setting from its text form. An empty value takes the setting away, so that its default
// counts again.
func (c *Config) Set(name, value string) error {
	s, ok := Lookup(name)
	if !ok {
		return unknownSetting(name)
	}
	all, err := c.members()
	if err != nil {
		return err
	}
	given := maps.Clone(c.given)
	if given == nil {
		given = map[string]bool{}
	}
	if value == "" {
		delete(all, s.Name)
		delete(given, s.Name)
	} else {
		raw, err := s.Parse(value)
		if err != nil {
			return err
		}
		all[s.Name], given[s.Name] = raw, true
	}
	var result Config
	if err := result.read(all); err != nil {
		return err
	}
	result.given = given
	*c = result
	return nil
}

func unknownSetting(name string) error {
	if near := Nearest(name, settingNames()); near != "" {
		return fmt.Errorf("there is no setting %q: did you mean %s? `npcnix config set --help` lists them", name, near)
	}
	return fmt.Errorf("there is no setting %q; `npcnix config set --help` lists them", name)
}

// Validate returns an error that says which setting cannot be as it is, and why.
func (c *Config) Validate() error {
	if err := c.Paused.validate(); err != nil {
		return err
	}
	for _, s := range Settings {
		if s.Kind == Integer {
			if err := s.within(c.integer(s.Name)); err != nil {
				return err
			}
		}
	}
	// Verification lasts at least as long as units are watched, so every version would be rolled back.
	if watched, verify := c.SettleTime(), c.VerifyTimeout(); watched >= verify {
		return fmt.Errorf("settle_secs is %d, but verification can take only %d seconds: make settle_secs smaller, or verify_timeout_secs larger",
			int64(watched.Seconds()), int64(verify.Seconds()))
	}
	if c.QueueURL == events.AutoQueue && c.TopicARN == "" {
		return errors.New("queue_url is auto, which needs the topic that announces publishes: `npcnix config set topic_arn ARN`")
	}
	delays := must("retry_delays_secs")
	for _, secs := range c.RetryDelaysSecs {
		if secs < delays.Min || secs > delays.Max {
			return fmt.Errorf("retry_delays_secs holds %d: each must be from %d to %d", secs, delays.Min, delays.Max)
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
	if modes := must("reboot").OneOf; c.Reboot != "" && !slices.Contains(modes, string(c.Reboot)) {
		return fmt.Errorf("reboot is %q: it must be %q or %q", c.Reboot, modes[0], modes[1])
	}
	if modes := must("evaluation").OneOf; c.Evaluation != "" && !slices.Contains(modes, c.Evaluation) {
		return fmt.Errorf("evaluation is %q: it must be %s", c.Evaluation, must("evaluation").Limits())
	}
	if err := c.checkSigners(); err != nil {
		return err
	}
	if err := checkTextfile(c.MetricsTextfile); err != nil {
		return err
	}
	return checkWindow(c.RebootWindow)
}
