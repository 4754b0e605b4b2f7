// Package events tells a host that something was published.
//
// A [Queue] is an SQS queue that S3's notifications reach in any of the ways AWS offers:
// straight from the bucket, through an SNS topic (raw or in its envelope), or through
// EventBridge. A [FileWatch] gives the same notices for a store that is a file. Both have
// the three methods Receive, Extend and Ack.
//
// What the package promises:
//
//   - A notice names an object that the message itself names; nothing is guessed. A message
//     that is not understood still becomes a [Delivery], with the reason in its Err, so that
//     the caller can delete it and no message blocks the ones behind it.
//   - A received message is held (invisible to others) for the lease, and comes back after
//     it unless it is extended or acknowledged. A crash loses nothing.
//   - No call hangs for ever: every attempt at a request has a time limit of its own, since
//     the far end of a connection may be gone without a sign.
//   - Nothing here retries without end or gives up for good: an error is returned, and the
//     next call starts afresh. Pauses between failing calls are the caller's.
//   - Receive waits in the kernel or at the server; there are no tickers.
package events

import (
	"fmt"
	"strings"
	"time"
)

// Notice says that an object was written. It is a hint to look at the store, never the
// truth about what to run.
type Notice struct {
	Bucket    string // empty for a file
	Key       string // decoded, never URL-encoded; the absolute path for a file
	ETag      string // without quotes; may be empty
	VersionID string // empty on unversioned buckets
	At        time.Time
}

// ProbeMark is in the keys of the objects that `npcnix doctor --e2e` puts, after the remote's own key.
const ProbeMark = ".probe-"

// IsProbe reports whether n is about such an object.
func (n Notice) IsProbe() bool { return strings.Contains(n.Key, ProbeMark) }

// Delivery is one message of a queue: the notices it carries, or why it carries none.
type Delivery struct {
	ID       string
	Notices  []Notice
	Err      error     // why the body could not be understood; nil otherwise
	Receives int       // how often the message was received so far, this time included
	Received time.Time // this time; at most a long poll (20 s) early, never late

	receipt string
}

// String keeps the receipt, which allows to delete the message, out of logs.
func (d Delivery) String() string {
	return fmt.Sprintf("message %s (%d notices, received %d times, error %v)", d.ID, len(d.Notices), d.Receives, d.Err)
}

// Held returns how long the message has been held at now, counted from Received; 0 if that
// is not set. SQS ends every lease 12 h after the receive, however it was extended.
func (d Delivery) Held(now time.Time) time.Duration {
	if d.Received.IsZero() {
		return 0
	}
	return now.Sub(d.Received)
}
