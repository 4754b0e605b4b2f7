package config

import "time"

// Defaults of the settings that config.json may omit.
const (
	defaultPollInterval      = 10 * time.Minute
	defaultLease             = 2 * time.Minute
	defaultSettleSecs        = 5
	defaultConfirmSecs       = 300 // as of package nix
	defaultHookTimeout       = 5 * time.Minute
	defaultRecordRefreshSecs = 3600
)

var defaultRetryDelays = []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func (c Config) confirmTimeoutSecs() int64 {
	if c.ConfirmTimeoutSecs != 0 {
		return c.ConfirmTimeoutSecs
	}
	return defaultConfirmSecs
}

func (c Config) settleSecs() int64 {
	if c.SettleSecs != nil {
		return *c.SettleSecs
	}
	return defaultSettleSecs
}

func (c Config) recordRefreshSecs() int64 {
	if c.RecordRefreshSecs != nil {
		return *c.RecordRefreshSecs
	}
	return defaultRecordRefreshSecs
}

// PollInterval is the time between polls while the queue works.
func (c Config) PollInterval() time.Duration {
	if c.PollIntervalSecs > 0 {
		return seconds(c.PollIntervalSecs)
	}
	return defaultPollInterval
}

// MinSleep and MaxSleep are the time between polls without a queue: just after a reconfiguration, and
// from MaxSleepAfter on.
func (c Config) MinSleep() time.Duration { return seconds(c.MinSleepSecs) }
func (c Config) MaxSleep() time.Duration { return seconds(c.MaxSleepSecs) }

// MaxSleepAfter is the time after a reconfiguration from which polls without a queue are rarest.
func (c Config) MaxSleepAfter() time.Duration {
	return time.Duration(c.MaxSleepAfterHours) * time.Hour
}

// Lease is how long a message stays hidden from others before it must be extended.
func (c Config) Lease() time.Duration {
	if c.LeaseSecs > 0 {
		return seconds(c.LeaseSecs)
	}
	return defaultLease
}

// Settle is how long units are watched after a switch.
func (c Config) Settle() time.Duration { return seconds(c.settleSecs()) }

// HookTimeout is how long a hook may take.
func (c Config) HookTimeout() time.Duration {
	if c.HookTimeoutSecs > 0 {
		return seconds(c.HookTimeoutSecs)
	}
	return defaultHookTimeout
}

// RecordRefresh is how often a record that would say nothing new is written all the same; 0: never.
func (c Config) RecordRefresh() time.Duration { return seconds(c.recordRefreshSecs()) }

// RetryDelay says how long to wait after the given number of failed attempts at one target; false
// means that it is to be rejected.
func (c Config) RetryDelay(attempts int) (time.Duration, bool) {
	delays := defaultRetryDelays
	if c.RetryDelaysSecs != nil {
		delays = nil
		for _, s := range c.RetryDelaysSecs {
			delays = append(delays, seconds(s))
		}
	}
	if attempts > len(delays) {
		return 0, false
	}
	return delays[attempts-1], true
}
