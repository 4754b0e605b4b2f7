package store

import (
	"testing"
	"time"
)

// HurryRetries makes no pauses between downloads, nor between looks at what was
// published, until the test ends.
func HurryRetries(t *testing.T) {
	fetch, confirm := fetchPauses, confirmPauses
	fetchPauses, confirmPauses = make([]time.Duration, len(fetch)), make([]time.Duration, len(confirm))
	t.Cleanup(func() { fetchPauses, confirmPauses = fetch, confirm })
}
