package agent

import (
	"math/rand/v2"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// pollInterval says how long to wait until the next poll. With a healthy queue polls only
// heal missed events; without one they are the trigger, frequent while the host was
// reconfigured lately (since) and growing rarer after that, as the Rust npcnix has it.
func pollInterval(c config.Config, healthyQueue bool, since time.Duration) time.Duration {
	if healthyQueue {
		return jitter(c.PollInterval(), 0.2)
	}
	ratio := 1.0
	if c.MaxSleepAfterHours > 0 {
		ratio = max(0, min(1, since.Hours()/float64(c.MaxSleepAfterHours)))
	}
	low, high := c.MinSleep(), c.MaxSleep()
	average := low + time.Duration(ratio*float64(max(0, high-low)))
	return max(low, jitter(average, 0.5), time.Second)
}

// jitter spreads d evenly over ±part of it, so that a fleet does not move in step.
func jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}
