package agent

import (
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/wait"
)

const (
	// While paused the clock is looked at this often, as it may be set.
	pausedLook = 10 * time.Minute
	// When the first poll comes after a start: a server that has not noticed yet that the last agent's
	// long poll was cancelled may hand a message to it, where it is lost for a lease
	// (aws-sdk-go-v2#2068). By then every such poll has ended.
	startedLook = 25 * time.Second
)

// pollInterval says how long to wait until the next poll. With a healthy queue polls only heal missed
// events. Without one they are the trigger: frequent while the host was reconfigured lately (since), and
// rarer after that, as the Rust npcnix has it.
func pollInterval(c config.Config, healthyQueue bool, since time.Duration) time.Duration {
	if healthyQueue {
		return wait.Jitter(c.PollInterval(), 0.2)
	}

	ratio := 1.0
	if c.MaxSleepAfterHours > 0 {
		ratio = max(0, min(1, since.Hours()/float64(c.MaxSleepAfterHours)))
	}
	low, high := c.MinSleep(), c.MaxSleep()
	average := low + time.Duration(ratio*float64(max(0, high-low)))

	return max(low, wait.Jitter(average, 0.5), time.Second)
}

// unshown is a version that an event announced and the store does not show yet, as behind a cache that answers
// with what it has. The store is looked at more often for an hour.
type unshown struct {
	announced string // its ETag
	shown     string // that of what the store shows instead
	since     time.Time
	looks     int
}

// note takes note of a look, which has shown the version with an ETag. If it has missed one, that was announced.
func (u *unshown) note(announced, shown string) {
	switch {
	case announced != "" && announced != u.announced:
		*u = unshown{announced: announced, shown: shown, since: time.Now()}
	case shown != u.shown:
		*u = unshown{}
	default:
		u.looks++
	}
}

// pause says how long to wait until the next look: one minute, two, and then three.
func (u *unshown) pause() (time.Duration, bool) {
	return wait.Jitter(time.Duration(min(u.looks+1, 3))*time.Minute, 0.2), u.announced != "" && time.Since(u.since) <= time.Hour
}

// delay says how long to wait after a round for the next poll or attempt.
func (a *Agent) delay(res result, healthyQueue bool) time.Duration {
	poll := pollInterval(a.config, healthyQueue, time.Since(a.since))
	if !a.retryAt.IsZero() {
		poll = min(poll, max(time.Second, time.Until(a.retryAt)))
	}

	if pause, is := a.unshown.pause(); is {
		poll = min(poll, pause)
	}

	switch endings[res.ending].wake {
	case atNext:
		return time.Until(res.next)
	case nextOrPoll:
		return min(poll, time.Until(res.next))
	case unpause:
		if p := a.config.Paused; p != nil && p.Type == config.Until {
			return min(pausedLook, time.Until(p.Until))
		}
		return pausedLook
	}

	return poll
}
