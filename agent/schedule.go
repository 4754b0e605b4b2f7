package agent

import (
	"math/rand/v2"
	"time"
)

// Defaults of the settings that config.json may leave out.
const (
	DefaultPollInterval = 10 * time.Minute
	DefaultLease        = 2 * time.Minute
)

var defaultRetryDelays = []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// Lease is how long a message stays hidden from others before it must be extended.
func (c Config) Lease() time.Duration {
	if c.LeaseSecs > 0 {
		return seconds(c.LeaseSecs)
	}
	return DefaultLease
}

// retryDelay says how long to wait after the given number of failed attempts at one target;
// false means that it is to be rejected.
func (c Config) retryDelay(attempts int) (time.Duration, bool) {
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

// pollInterval says how long to wait until the next poll. With a healthy queue polls only
// heal missed events; without one they are the trigger, frequent while the host was
// reconfigured lately (since) and growing rarer after that, as the Rust npcnix has it.
func (c Config) pollInterval(healthyQueue bool, since time.Duration) time.Duration {
	if healthyQueue {
		interval := seconds(c.PollIntervalSecs)
		if interval == 0 {
			interval = DefaultPollInterval
		}
		return jitter(interval, 0.2)
	}
	ratio := 1.0
	if c.MaxSleepAfterHours > 0 {
		ratio = max(0, min(1, since.Hours()/float64(c.MaxSleepAfterHours)))
	}
	low, high := seconds(c.MinSleepSecs), seconds(c.MaxSleepSecs)
	average := low + time.Duration(ratio*float64(max(0, high-low)))
	return max(low, jitter(average, 0.5), time.Second)
}

// jitter spreads d evenly over ±part of it, so that a fleet does not move in step.
func jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}
