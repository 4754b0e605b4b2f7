package store

import (
	"testing"
	"time"
)

// HurryRetries makes no pauses between downloads, nor between looks at what was
// published, until the test ends.
func HurryRetries(t *testing.T) {
	fetch, confirm, replaced := fetchPauses, confirmPauses, replacedPauses
	fetchPauses, confirmPauses, replacedPauses = make([]time.Duration, len(fetch)), make([]time.Duration, len(confirm)), make([]time.Duration, len(replaced))
	t.Cleanup(func() { fetchPauses, confirmPauses, replacedPauses = fetch, confirm, replaced })
}
