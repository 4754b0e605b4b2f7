package fleet

import (
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
)

func TestRecords(t *testing.T) {
	t.Run("count only for the version and the remote that they name", recordCounts)
	t.Run("must be whole", recordDamaged)
	t.Run("cannot control the terminal", recordHostile)
}

func recordCounts(t *testing.T) {
	const etag = "v2"
	for _, c := range []struct {
		name, remote, etag, state string
		verdict                   Verdict
		seen, why                 string
	}{
		{"applied", remote, etag, "applied", Done, "applied", ""},
		{"applied, the remote written another way", "s3://fleet/npcnix/remotes/dev.npcnix?endpoint=http://x", etag, "applied", Done, "applied", ""},
		{"applied, an older version", remote, "v1", "applied", Missing, Behind, "applied v1"},
		{"failed, an older version", remote, "v1", "failed", Missing, Behind, "failed v1"},
		{"applied, no version named", remote, "", "applied", Missing, Behind, "applied"},
		{"applied, another key", "s3://fleet/npcnix/remotes/prod.npcnix", etag, "applied", Missing, Elsewhere, "prod"},
		{"applied, another bucket", "s3://other/npcnix/remotes/dev.npcnix", etag, "applied", Missing, Elsewhere, "other"},
		{"applied, no remote named", "", etag, "applied", Missing, Elsewhere, ""},
		{"building", remote, etag, "building", Missing, "building", ""},
		{"activating", remote, etag, "activating", Missing, "activating", ""},
		{"failed", remote, etag, "failed", Failed, "failed", "it broke"},
		{"rejected", remote, etag, "rejected", Failed, "rejected", "it broke"},
		{"rolled back", remote, etag, "rolled_back", Failed, "rolled_back", "it broke"},
		{"drifted", remote, etag, "drifted", Missing, "drifted", "an operator has switched"},
		{"paused", remote, "", "paused", Missing, "paused", "it broke"},
		{"paused at the version", remote, etag, "paused", Missing, "paused", "it broke"},
		{"a state of the future", remote, etag, "meditating", Missing, "meditating", ""},
	} {
		r := &record.Record{}
		r.Remote, r.Version.ETag, r.Error = c.remote, c.etag, "it broke\nat line 2"
		r.Status = record.Status(c.state)
		h := judge("web1", r, remote, etag, "")
		if h.Verdict != c.verdict || h.State != c.seen || !strings.Contains(h.Why, c.why) || strings.Contains(h.Why, "line 2") && c.state != "paused" {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
	renamed := &record.Record{Remote: remote, Version: record.Version{ETag: etag}, Status: record.Applied, RenamedTo: "web2"}
	if h := judge("web1", renamed, remote, etag, ""); h.Verdict != Missing || h.State != Renamed || !strings.Contains(h.Why, "web2") {
		t.Errorf("renamed: %+v", h)
	}
	boots := &record.Record{Remote: remote, Version: record.Version{ETag: etag}, Status: record.RebootPending, RebootDue: true}
	if h := judge("web1", boots, remote, etag, ""); h.Verdict != Missing || !strings.Contains(h.Why, "reboot is due") {
		t.Errorf("reboot pending: %+v", h)
	}
	if h := judge("web1", nil, remote, etag, ""); h.Verdict != Missing || h.State != Unheard {
		t.Errorf("no record: %+v", h)
	}
}

// A host that takes the base of a rollout says so of the rollout's object.
func TestAHostOnTheBaseIsNotDone(t *testing.T) {
	on := func(release, message string) *record.Record {
		return &record.Record{Remote: remote, Status: record.Applied, Version: record.Version{ETag: "v2", Release: release, Message: message}}
	}
	base := on("one", record.BaseOf+"two")
	if h := judge("web1", base, remote, "v2", "two"); h.Verdict != Missing || h.State != Behind || !strings.Contains(h.Why, "runs the base") {
		t.Errorf("the base: %+v", h)
	}
	if h := judge("web1", on("two", ""), remote, "v2", "two"); h.Verdict != Done {
		t.Errorf("the release: %+v", h)
	}
	if h := judge("web1", on("one", ""), remote, "v2", ""); h.Verdict != Done {
		t.Errorf("not known which release it is: %+v", h)
	}
	r := records{known: map[string]entry{"web1": {record: base}}}
	if got := r.release("v2"); got.ID != "" {
		t.Errorf("the base passes for the release: %+v", got)
	}
	r.known["web2"] = entry{record: on("two", "")}
	if got := r.release("v2"); got.ID != "two" {
		t.Errorf("%+v", got)
	}
}

func recordDamaged(t *testing.T) {
	for body, want := range map[string]string{
		``:          "damaged",
		`{`:         "damaged",
		`null`:      "damaged",
		`[]`:        "damaged",
		`{}`:        "no schema",
		`"applied"`: "damaged",
		`{"schema":1,"host":"web2","state":"applied"}`:                         `host "web2"`,
		`{"schema":1,"host":"web1"}`:                                           "no schema or status",
		`{"schema":"1","host":"web1","state":"applied"}`:                       "damaged",
		`{"schema":3,"host":"web1","state":{"new":"shape"}}`:                   "schema 3",
		`{"schema":-1,"host":"web1","state":"applied"}`:                        "no schema",
		`{"schema":1,"host":"web1","state":"applied","version":"v1"}`:          "damaged",
		`{"schema":1,"host":"web1","state":"applied","version":{"etag":"v1"}`:  "damaged",
		`{"schema":1,"host":"web1","state":"applied"}{"schema":1}`:             "damaged",
		"{\"schema\":1,\"host\":\"\x1b[2Jweb1\",\"state\":\"applied\"}":        "damaged",
		`{"schema":1,"host":"web\u001b[2J","state":"applied"}`:                 `host "web[2J"`,
		`{"schema":99999999999999999999,"host":"web1","state":"applied"}`:      "damaged",
		`{"schema":1,"host":"web1","state":"applied","times":{"built":"now"}}`: "damaged",
	} {
		r, err := decode("web1", []byte(body))
		if err == nil || r != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", body, r, err, want)
		}
	}
	r, err := decode("web1", []byte(`{"schema":1,"host":"web1","state":"applied","version":{"etag":"v1"},"reboot_due":true,"later":1}`))
	if err != nil || r.Status != "applied" || r.Version.ETag != "v1" || !r.RebootDue {
		t.Errorf("schema 1: %+v, %v", r, err)
	}
	r, err = decode("web1", []byte(`{"schema":2,"host":"web1","status":"reboot_pending","version":{"etag":"v1"},"reboot_due":true,"later":1}`))
	if err != nil || r.Status != record.RebootPending || r.Version.ETag != "v1" || !r.RebootDue {
		t.Errorf("schema 2: %+v, %v", r, err)
	}
}

func recordHostile(t *testing.T) {
	r := &record.Record{}
	r.Remote, r.Version.ETag, r.Status = remote, "v1", "failed"
	r.Error = "\x1b]0;title\a::error::gotcha\r\x1b[31m\u202e"
	h := judge("web1", r, remote, "v1", "")
	if h.Why != "]0;title::error::gotcha [31m" {
		t.Errorf("%q", h.Why)
	}
}
