//go:build jumps

package faults

import (
	"sync/atomic"
	"time"
	_ "unsafe" // for a linkname
)

// secondsAhead is by how much the wall clock is ahead of where it began. jumps.sh puts it into package time: what
// settimeofday does to a process, which no other way does to one alone. Monotonic time goes on as ever.
//
//go:linkname secondsAhead time.secondsAhead
var secondsAhead atomic.Int64

func init() {
	groups = append(groups, group{"the host's clock", "", []fault{
		{name: "jumps a day ahead", begin: jumped(24 * time.Hour)},
		{name: "jumps a day back", begin: jumped(-24 * time.Hour)},
		{name: "jumps to the year 1970", begin: jumped(-30 * 365 * 24 * time.Hour)}, // a bubble begins in 2000
		{name: "is a year ahead, and the agent is restarted each minute", begin: func(w *world) func() {
			back := jumped(365 * 24 * time.Hour)(w)
			stop := every(w, time.Minute, func() { w.restart() })
			return func() { stop(); back() }
		}},
		{name: "jumps ten minutes ahead and back, each 30 s", begin: func(w *world) func() {
			ahead := false
			stop := every(w, 30*time.Second, func() {
				ahead = !ahead
				secondsAhead.Store(map[bool]int64{true: 600}[ahead])
			})
			return func() { stop(); secondsAhead.Store(0) }
		}},
	}})
}

// jumped has the host's clock jump, and the cloud's stay. In the end it jumps back.
func jumped(by time.Duration) func(*world) func() {
	return func(w *world) func() {
		w.Cleanup(func() { secondsAhead.Store(0) })
		secondsAhead.Store(int64(by / time.Second))
		refused := w.proxy.use(isAny, skewed(-by))
		return func() { refused(); secondsAhead.Store(0) }
	}
}
