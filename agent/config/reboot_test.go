package config

import (
	"strings"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	for _, bad := range []string{"3-5", "03:00", "03:00-03:00", "24:00-01:00", "03:60-04:00", "03:00-04:00 UTC", "-1:00-02:00"} {
		if _, err := ParseWindow(bad); err == nil || !strings.Contains(err.Error(), "such as 03:00-05:00") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	w, err := ParseWindow("23:00-01:30")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		now  string
		open bool
	}{{"22:59", false}, {"23:00", true}, {"00:00", true}, {"01:29", true}, {"01:30", false}} {
		now, err := time.Parse("15:04", c.now)
		if err != nil {
			t.Fatal(err)
		}
		if w.Open(now) != c.open {
			t.Errorf("open at %s: %v", c.now, !c.open)
		}
		if at := w.Pick(now); !w.Open(at) || at.Before(now) {
			t.Errorf("at %s it picks %s", c.now, at)
		}
	}
}
