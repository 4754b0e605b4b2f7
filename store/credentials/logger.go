package credentials

import (
	"fmt"
	"sync"
	"time"

	"github.com/aws/smithy-go/logging"
)

const (
	// again is how long after a warning of the SDK the same one is passed on again. Most are of each request.
	again = time.Hour
	// maxKinds bounds how many warnings are remembered.
	maxKinds = 100
)

// Logger returns what passes warnings of the SDK on to warn, which may be nil, and seldom repeats one.
func Logger(warn func(message string)) logging.Logger {
	var mu sync.Mutex
	said := map[string]time.Time{} // by format, as the words of some differ each time

	return logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if at, is := said[format]; warn == nil || is && time.Since(at) < again {
			return
		}
		if len(said) >= maxKinds {
			clear(said)
		}
		said[format] = time.Now()
		warn("aws sdk: " + fmt.Sprintf(format, args...))
	})
}
