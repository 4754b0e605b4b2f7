package agent

import (
	"strings"
	"time"
)

// tell tells the service manager how the round has ended.
func (a *Agent) tell(r *round, res result) {
	etag := r.target.ETag
	switch res.ending {
	case reached:
		a.status("up to date with " + etag)
	case drifted:
		a.status("drifted from " + etag)
	case rebootPending:
		a.status("waiting for a reboot to run " + etag)
	case rejected, rolledBack, refused:
		a.status("rejected " + etag + "; waiting for another version")
	case failed:
		if !res.left {
			a.status("attempt at " + etag + " failed; the next is at " + res.next.Format(time.RFC3339))
		}
	case paused, transient:
		a.status(res.err.Error())
	}
}

// status tells the service manager, in one line, what it has not been told already.
func (a *Agent) status(s string) {
	s = strings.Join(strings.Fields(s), " ")
	if s != a.said {
		a.said = s
		a.Status(s)
	}
}
