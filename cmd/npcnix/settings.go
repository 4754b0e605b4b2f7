package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

// setting is a member of config.json that `config set` can set.
type setting struct {
	help  string
	get   func(config.Config) string
	apply func(c *config.Config, value string) error
}

func text(help string, field func(*config.Config) *string, check func(string) error) setting {
	return setting{
		help: help,
		get:  func(c config.Config) string { return *field(&c) },
		apply: func(c *config.Config, v string) error {
			if check != nil && v != "" {
				if err := check(v); err != nil {
					return usageError{err}
				}
			}
			*field(c) = v
			return nil
		},
	}
}

func number(help string, field func(*config.Config) *int64) setting {
	return setting{
		help: help,
		get: func(c config.Config) string {
			if n := *field(&c); n != 0 {
				return strconv.FormatInt(n, 10)
			}
			return ""
		},
		apply: func(c *config.Config, v string) error {
			if v == "" {
				defaults := config.Default()
				*field(c) = *field(&defaults)
				return nil
			}
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return usageError{fmt.Errorf("%q is not a number from 0 on", v)}
			}
			*field(c) = n
			return nil
		},
	}
}

// optional is a number of which 0 is not the default; it is taken away by an empty value.
func optional(help string, field func(*config.Config) **int64) setting {
	return setting{
		help: help,
		get: func(c config.Config) string {
			if n := *field(&c); n != nil {
				return strconv.FormatInt(*n, 10)
			}
			return ""
		},
		apply: func(c *config.Config, v string) error {
			if v == "" {
				*field(c) = nil
				return nil
			}
			*field(c) = new(int64)
			return number("", func(c *config.Config) *int64 { return *field(c) }).apply(c, v)
		},
	}
}

// settingNames gives the order of the help.
var settingNames = []string{
	"remote", "remote-region", "configuration", "queue-url", "host",
	"poll-interval-secs", "min-sleep-secs", "max-sleep-secs", "max-sleep-after-hours", "lease-secs", "correct-drift",
	"activation-timeout-secs", "confirm-timeout-secs", "settle-secs", "hook-timeout-secs", "keep-generations",
	"reboot", "reboot-window", "record-refresh-secs",
}

var settings = map[string]setting{
	"remote":        text("URL of the packed flake", func(c *config.Config) *string { return &c.Remote }, store.CheckURL),
	"remote-region": text("region of the remote's bucket", func(c *config.Config) *string { return &c.RemoteRegion }, nil),
	"configuration": text("name of the NixOS configuration in the flake", func(c *config.Config) *string { return &c.Configuration }, func(name string) error {
		if strings.ContainsRune(name, '"') {
			return fmt.Errorf("configuration %q: nix cannot be asked for a name with a quote in it", name)
		}
		return nil
	}),
	"queue-url":               text("URL of the SQS queue that tells of publishes", func(c *config.Config) *string { return &c.QueueURL }, events.CheckQueueURL),
	"host":                    text("name of the host in acknowledgement records", func(c *config.Config) *string { return &c.Host }, store.CheckHost),
	"poll-interval-secs":      number("seconds between polls while the queue works (default 600)", func(c *config.Config) *int64 { return &c.PollIntervalSecs }),
	"min-sleep-secs":          number("seconds between polls without a queue, at first (default 5)", func(c *config.Config) *int64 { return &c.MinSleepSecs }),
	"max-sleep-secs":          number("seconds between polls without a queue, at last (default 120)", func(c *config.Config) *int64 { return &c.MaxSleepSecs }),
	"max-sleep-after-hours":   number("hours until polls without a queue are rarest (default 24)", func(c *config.Config) *int64 { return &c.MaxSleepAfterHours }),
	"lease-secs":              number("seconds that a message stays hidden before it is extended (default 120)", func(c *config.Config) *int64 { return &c.LeaseSecs }),
	"activation-timeout-secs": number("seconds until a switch that hangs is ended and rolled back (default 900)", func(c *config.Config) *int64 { return &c.ActivationTimeoutSecs }),
	"confirm-timeout-secs":    number("seconds that a new system has to prove itself (default 300)", func(c *config.Config) *int64 { return &c.ConfirmTimeoutSecs }),
	"settle-secs":             optional("seconds that units are watched after a switch (default 5)", func(c *config.Config) **int64 { return &c.SettleSecs }),
	"hook-timeout-secs":       number("seconds that a hook may take (default 300)", func(c *config.Config) *int64 { return &c.HookTimeoutSecs }),
	"keep-generations":        number("how many generations of the profile are kept (default 0: all)", func(c *config.Config) *int64 { return &c.KeepGenerations }),
	"reboot":                  text("when-needed: restart the machine when that is due (default never)", func(c *config.Config) *string { return (*string)(&c.Reboot) }, nil),
	"reboot-window":           text("when the machine may be restarted, such as 03:00-05:00, local time", func(c *config.Config) *string { return &c.RebootWindow }, nil),
	"record-refresh-secs":     optional("seconds after which a record is written anew that says nothing new; 0 never (default 3600)", func(c *config.Config) **int64 { return &c.RecordRefreshSecs }),
	"correct-drift": {
		help: "true: switch back a host that was switched by hand",
		get:  func(c config.Config) string { return map[bool]string{true: "true"}[c.CorrectDrift] },
		apply: func(c *config.Config, v string) (err error) {
			if v == "" {
				v = "false"
			}
			if c.CorrectDrift, err = strconv.ParseBool(v); err != nil {
				return usageError{fmt.Errorf("%q is neither true nor false", v)}
			}
			return nil
		},
	},
}
