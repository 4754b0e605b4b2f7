package config

import (
	"reflect"
	"strings"
	"sync"
	"time"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// integer returns the number in force: the one that is set, or the default. A zero is no setting if it
// is out of bounds.
func (c Config) integer(name string) int64 {
	s := must(name)
	n, set := c.number(name)
	if !set || n == 0 && s.Min > 0 {
		return s.Default.(int64)
	}
	return n
}

// number returns the number that is set.
func (c Config) number(name string) (n int64, set bool) {
	index, known := members()[name]
	if !known {
		panic("no number " + name)
	}
	switch n := reflect.ValueOf(c).FieldByIndex(index).Interface().(type) {
	case int64:
		return n, true
	case *int64:
		if n == nil {
			return 0, false
		}
		return *n, true
	}
	panic("no number " + name)
}

// members are the places of config.json's members in a Config, which are looked for once.
var members = sync.OnceValue(func() map[string][]int {
	all := map[string][]int{}
	for f := range reflect.TypeFor[Config]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all[name] = f.Index
	}
	return all
})

// PollInterval is the time between polls while the queue works.
func (c Config) PollInterval() time.Duration { return seconds(c.integer("poll_interval_secs")) }

// MinSleep is the time between polls without a queue just after a reconfiguration.
func (c Config) MinSleep() time.Duration { return seconds(c.integer("min_sleep_secs")) }

// MaxSleep is the time between polls without a queue when max_sleep_after_hours are over.
func (c Config) MaxSleep() time.Duration { return seconds(c.integer("max_sleep_secs")) }

// Lease is how long a message stays hidden from others before it must be extended.
func (c Config) Lease() time.Duration { return seconds(c.integer("lease_secs")) }

// BuildTimeout is how long a build can take; 0: for ever.
func (c Config) BuildTimeout() time.Duration { return seconds(c.integer("build_timeout_secs")) }

// SwitchTimeout is how long a switch can take.
func (c Config) SwitchTimeout() time.Duration { return seconds(c.integer("switch_timeout_secs")) }

// VerifyTimeout is how long verification of a new system can take.
func (c Config) VerifyTimeout() time.Duration { return seconds(c.integer("verify_timeout_secs")) }

// SettleTime is how long units are watched after a switch.
func (c Config) SettleTime() time.Duration { return seconds(c.integer("settle_secs")) }

// HealthInterval is the time between two looks at the applied system; 0: never.
func (c Config) HealthInterval() time.Duration { return seconds(c.integer("health_interval_secs")) }

// HookTimeout is how long a hook can take.
func (c Config) HookTimeout() time.Duration { return seconds(c.integer("hook_timeout_secs")) }

// RecordRefresh is how often a record that would say nothing new is written all the same; 0: never.
func (c Config) RecordRefresh() time.Duration { return seconds(c.integer("record_refresh_secs")) }

// RetryDelay says how long to wait after the given number of failed attempts at one target; false
// means that it is to be rejected.
func (c Config) RetryDelay(attempts int) (time.Duration, bool) {
	delays := c.retryDelays()
	if attempts > len(delays) {
		return 0, false
	}
	return seconds(delays[attempts-1]), true
}

// RetryTime is for how long one target is retried: all delays together.
func (c Config) RetryTime() time.Duration {
	var total int64
	for _, secs := range c.retryDelays() {
		total += secs
	}
	return seconds(total)
}

// LastRetryDelay is the pause between attempts at a version that is not to blame, once the retry delays are
// used up: the last of them, or the last of the default if the operator has set none.
func (c Config) LastRetryDelay() time.Duration {
	delays := c.retryDelays()
	if len(delays) == 0 {
		delays = must("retry_delays_secs").Default.([]int64)
	}
	return seconds(delays[len(delays)-1])
}

func (c Config) retryDelays() []int64 {
	if c.RetryDelaysSecs != nil {
		return c.RetryDelaysSecs
	}
	return must("retry_delays_secs").Default.([]int64)
}
