package record

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Status
	}{
		{"schema 2", `{"schema": 2, "status": "rolled_back"}`, Status("rolled_back")},
		{"schema 1", `{"schema": 1, "state": "rolled_back"}`, Status("rolled_back")},
		{"schema 1, with the next boot", `{"schema": 1, "state": "activating", "reboot_due": true}`, RebootPending},
		{"schema 1, switching", `{"schema": 1, "state": "activating"}`, Activating},
		{"schema 1, applied with a reboot due", `{"schema": 1, "state": "applied", "reboot_due": true}`, Applied},
		{"schema 2, switching with a reboot due", `{"schema": 2, "status": "activating", "reboot_due": true}`, Activating},
		{"a later schema with what is unknown", `{"schema": 3, "status": "applied", "novel": [1]}`, Applied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse([]byte(c.text))
			if err != nil || r.Status != c.want {
				t.Errorf("status %q, %v; want %q", r.Status, err, c.want)
			}
		})
	}
	if _, err := Parse([]byte(`{"schema": `)); err == nil || !strings.Contains(err.Error(), "read record") {
		t.Errorf("damaged: %v", err)
	}
}

func TestARecordIsWrittenWithStatusAlone(t *testing.T) {
	body, err := json.Marshal(Record{Schema: Schema, Status: Applied})
	if err != nil || !strings.Contains(string(body), `"status":"applied"`) || strings.Contains(string(body), `"state"`) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestBounds(t *testing.T) {
	if got := Bounded("é"+strings.Repeat("x", 10), 1); got != "…" {
		t.Errorf("half a letter is kept: %q", got)
	}
	if got := Bounded("short", 5); got != "short" {
		t.Errorf("%q", got)
	}
	if got := BoundedTail([]string{"one", "two", "three"}, 8); strings.Join(got, " ") != "two three" {
		t.Errorf("%q", got)
	}
	if got := BoundedTail([]string{"one"}, 3); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
