package publish

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

func TestThePreviousReleaseIsNotGuessed(t *testing.T) {
	past := func(serial int64, name string, state release.Rollout) Past {
		m := &release.Manifest{Serial: serial, Release: name, Source: release.Source{Rev: "rev-" + name}}
		p := Past{Versions: []store.Version{{Modified: time.Unix(serial, 0)}}, Release: &release.Verified{Manifest: m}}
		if state != "" {
			m.Rollout = &release.Plan{}
			p.Progress = &release.VerifiedProgress{Progress: &release.Progress{State: state}}
		}
		return p
	}
	unread := Omitted{Version: store.Version{ID: "v5", Modified: time.Unix(5, 0)}, Why: "KMS", Unread: true}
	for _, c := range []struct {
		name    string
		h       History
		present string
		want    int64
		err     string
	}{
		{"nothing was kept", History{}, "c", 0, "kept no earlier release"},
		{"the one before", History{Releases: []Past{past(3, "c", ""), past(2, "b", ""), past(1, "a", "")}}, "c", 2, ""},
		{"the remote holds none", History{Releases: []Past{past(3, "c", ""), past(2, "b", "")}}, "", 3, ""},
		{"the same release was published twice", History{Releases: []Past{past(4, "c", ""), past(3, "c", ""), past(1, "a", "")}}, "c", 1, ""},
		{"a rollout was halted, reverted, complete", History{Releases: []Past{
			past(5, "e", ""), past(4, "d", release.Halted), past(3, "c", release.Reverted), past(2, "b", release.Complete)}}, "e", 2, ""},
		{"an older one is present", History{Releases: []Past{past(3, "c", ""), past(2, "b", ""), past(1, "a", "")}}, "b", 1, ""},
		{"a later version cannot be read", History{Releases: []Past{past(6, "c", ""), past(4, "b", "")}, Omitted: []Omitted{unread}}, "c", 0, "v5 of 1970-01-01T00:00:05Z, cannot be read"},
		{"old versions fill what was read", History{Releases: []Past{past(4000, "c", ""), past(1000, "b", "")}, More: true, Oldest: time.Unix(500, 0)}, "c", 0, "name the release by --to"},
		{"what was read goes back far enough", History{Releases: []Past{past(9e6, "c", ""), past(8e6, "b", "")}, More: true, Oldest: time.Unix(500, 0)}, "c", 8e6, ""},
		{"an older version cannot be read", History{Releases: []Past{past(9, "c", ""), past(6, "b", "")}, Omitted: []Omitted{unread}}, "c", 6, ""},
	} {
		got, err := c.h.Previous(c.present)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v", c.name, err)
		case c.err == "" && (err != nil || got.Release.Serial != c.want):
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestAReleaseIsFoundByOneName(t *testing.T) {
	past := func(serial int64, name, rev string) Past {
		m := &release.Manifest{Serial: serial, Release: name, Source: release.Source{Rev: rev}}
		return Past{Release: &release.Verified{Manifest: m}}
	}
	h := History{Releases: []Past{
		past(40, "aaaaaa111111", "feedbeef01"), past(30, "aaaaaa222222", "feedbeef02"), past(20, "aaaaaa111111", "feedbeef01"), past(10, "bbbbbb333333", ""),
	}}
	for name, want := range map[string]int64{"40": 40, "20": 20, "aaaaaa1": 40, "bbbbbb": 10, "feedbeef02": 30, "feedbeef01": 40, "aaaaaa": -1, "feedbeef": -1, "aaaaa": 0, "": 0, "50": 0} {
		got, err := h.Find(name)
		switch {
		case want == 0 && (err == nil || !strings.Contains(err.Error(), "kept no release")),
			want < 0 && (err == nil || !strings.Contains(err.Error(), "means 2 releases")),
			want > 0 && (err != nil || got.Release.Serial != want):
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}
