package events

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestReceivesOfAQueueFullOfJunkArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		took := func(receives int) time.Duration {
			start := time.Now()
			for range receives {
				if err := p.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(start).Round(10 * time.Millisecond)
		}
		if d := took(100); d != 0 {
			t.Errorf("the first hundred took %s", d)
		}
		if d := took(100); d != 10*time.Second {
			t.Errorf("the next hundred took %s, want 10 s", d)
		}
		time.Sleep(time.Minute)
		if d := took(100); d != 0 {
			t.Errorf("a hundred after a minute of rest took %s", d)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}
