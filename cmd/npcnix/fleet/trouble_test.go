package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

func TestTroubleIsShown(t *testing.T) {
	r := &record.Record{Remote: remote, Version: record.Version{ETag: "v2"}, Status: record.Building,
		Trouble: &record.Trouble{Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kind: "fetch", Error: "403 \x1b[2JForbidden\nmore"}}
	const want = "trouble since 2026-01-02T03:04:05Z: 403 [2JForbidden"
	if h := judge("web1", r, remote, "v2", ""); h.Why != want {
		t.Errorf("wait says %q", h.Why)
	}
	if h := judge("web1", r, remote, "v3", ""); h.Why != "building v2, "+want {
		t.Errorf("wait says %q of a host behind", h.Why)
	}
	r.Status = record.Applied // the host cannot see whether there is more
	if h := judge("web1", r, remote, "v2", ""); h.Verdict != Done {
		t.Errorf("a host that runs the version is %+v", h)
	}
	table := Table([]Row{{Host: "web1", Trouble: troubleOf(r)}}, []Row{{Host: "web1"}}, store.Version{}, 0)
	if !strings.Contains(table, "\n  "+want+"\n") {
		t.Errorf("hosts prints:\n%s", table)
	}
}
