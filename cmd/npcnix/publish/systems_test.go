package publish

import (
	"testing"
	"time"
)

func TestTimeLeft(t *testing.T) {
	for _, c := range []struct {
		passed   time.Duration
		done, of int
		want     time.Duration
	}{
		{time.Minute, 1, 1, 0},
		{time.Minute, 1, 4, 3 * time.Minute},
		{90 * time.Second, 3, 4, 30 * time.Second},
	} {
		if got := left(c.passed, c.done, c.of); got != c.want {
			t.Errorf("%s for %d of %d: %s, want %s", c.passed, c.done, c.of, got, c.want)
		}
	}
}
