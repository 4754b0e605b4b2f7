package config

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	until := func(h int) *Pause {
		return &Pause{Type: Until, Until: now.Add(time.Duration(h) * time.Hour)}
	}
	for _, c := range []struct {
		name string
		have *Pause
		hour int // 0: for ever
		want Pause
	}{
		{"a first pause", nil, 1, *until(1)},
		{"a longer one replaces a shorter", until(1), 2, *until(2)},
		{"a shorter one leaves a longer", until(2), 1, *until(2)},
		{"one for ever stays", &Pause{Type: Indefinitely}, 1, Pause{Type: Indefinitely}},
		{"for ever replaces a timed one", until(2), 0, Pause{Type: Indefinitely}},
		{"one that ran out does not count", until(-2), 1, *until(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var end time.Time
			if c.hour != 0 {
				end = now.Add(time.Duration(c.hour) * time.Hour)
			}
			if got := c.have.Extend(end, now); *got != c.want {
				t.Errorf("got %v, want %v", *got, c.want)
			}
		})
	}
}
