package main

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
)

func TestAHostSpeaksForWhatItRuns(t *testing.T) {
	runs := func(name string) *record.Record {
		return &record.Record{Status: record.Applied, Running: &record.Version{ETag: "e", Release: name}}
	}
	sick := runs("good")
	sick.Unhealthy = "the check\n failed"
	for want, e := range map[string]fleet.Entry{
		"":                         {Record: runs("good"), Heard: time.Now()},
		"cannot be understood":     {Heard: time.Now()},
		"does not run it: applied": {Record: runs("other"), Heard: time.Now()},
		"was not heard since":      {Record: runs("good"), Heard: time.Now().Add(-fleet.StaleAfter - time.Minute)},
		"unhealthy: the check":     {Record: sick, Heard: time.Now()},
	} {
		if got := doubtOf(e, "good"); !strings.Contains(got, want) || (want == "") != (got == "") || strings.Contains(got, "\n") {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}

func TestWhyAPromotionWasForcedIsBounded(t *testing.T) {
	doubt := []string{strings.Repeat("é", 400) + " does not run it (at all)"}
	if got := []rune(forced(doubt)); len(got) != 301 {
		t.Errorf("%d characters", len(got))
	}
	message := restated("promoted by force ("+forced([]string{"web1 is (very) unhealthy"})+")", "text")
	if got := restated("rollback", message); got != "rollback: text" {
		t.Errorf("%q", got)
	}
}
