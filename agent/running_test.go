package agent

import (
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
)

// A record names the version that runs, whatever version it is about.
func TestRecordNamesTheRunningVersion(t *testing.T) {
	applied := &Applied{Target: Target{ETag: "v1"}, System: "/nix/store/one"}
	for name, c := range map[string]struct {
		applied *Applied
		running string
		status  record.Status
		want    string // "": none
	}{
		"applied":                             {applied, "/nix/store/one", record.Applied, "v1"},
		"another version was rolled back":     {applied, "/nix/store/one", record.RolledBack, "v1"},
		"an operator has switched to another": {applied, "/nix/store/two", record.Drifted, ""},
		"nothing is applied yet":              {nil, "/nix/store/two", record.Failed, ""},
		"what runs is unknown":                {applied, "", record.Failed, ""},
		"neither is known":                    {&Applied{Target: Target{ETag: "v1"}}, "", record.Failed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &round{target: Target{ETag: "v2"}, running: nix.System{Path: c.running}, state: State{Applied: c.applied}}
			rec := (&Agent{}).recordOf(r, c.status)
			if rec.Running == nil && c.want != "" || rec.Running != nil && rec.Running.ETag != c.want {
				t.Errorf("running is %+v, want %q", rec.Running, c.want)
			}
			if rec.Version.ETag != "v2" {
				t.Errorf("it is about %q", rec.Version.ETag)
			}
		})
	}
}
