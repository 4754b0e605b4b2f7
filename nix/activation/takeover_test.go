// words: old forms, in which an older npcnix wrote.

package activation_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// takesOver puts an activation.json of testdata/schema1 into the host's data directory.
func (r *rollbackRig) takesOver(t *testing.T, stage string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "schema1", stage+".json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("ROOT", r.root, "SYSTEM-ONE", r.one.Path, "SYSTEM-TWO", r.two.Path, "SYSTEM-BOOTS", r.boots.Path, "BOOT", nix.BootID()).Replace(string(data))
	r.write(t, "data/activation.json", text)
}

// An npcnix of the first schema has begun the activation, and ended with its worker in the stage.
func TestTakeover(t *testing.T) {
	for _, c := range []struct {
		name, stage string
		runs        string // what the switch had come to
		request     activation.Request
		want        activation.Phase
		cause       activation.Cause
		switches    string
	}{
		{"before anything was done", "ordered", "one", activation.Request{}, activation.Committed, "", "v2 test, v2 boot"},
		{"in the switch", "switching", "two", activation.Request{}, activation.RolledBack, activation.CauseInterrupted, "v1 test"},
		{"before the verification, which succeeds", "switched", "two", activation.Request{}, activation.Committed, "", "v2 boot"},
		{"before the verification, which fails", "switched", "two", activation.Request{Verify: refuses}, activation.RolledBack, activation.CauseVersion, "v1 test"},
		{"in the commit", "confirming", "two", activation.Request{}, activation.Committed, "", "v2 boot"},
		{"in the rollback", "rolling-back", "two", activation.Request{}, activation.RolledBack, activation.CauseVersion, "v1 test"},
		{"after its end", "confirmed", "two", activation.Request{}, activation.Committed, "", ""},
		{"after a rollback", "rolled-back", "one", activation.Request{}, activation.RolledBack, activation.CauseVersion, ""},
		{"after a rollback that failed", "stranded", "two", activation.Request{}, activation.RollbackFailed, activation.CauseVersion, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRollrollbackRig(t, nil)
			r.takesOver(t, c.stage)
			nixtest.Link(t, r.opts.CurrentSystem, map[string]nix.System{"one": r.one, "two": r.two}[c.runs].Path)
			j, found, err := r.Resume(t.Context(), c.request)
			var failed *activation.Error
			if !found || j.Phase != c.want || j.Cause != c.cause || errors.As(err, &failed) != (c.cause != "") {
				t.Fatalf("%+v, %v, %v\n%s", j, found, err, r.workerLog())
			}
			r.wantSwitches(t, c.switches)
			if c.want == activation.Committed && c.switches != "" {
				r.wantRuns(t, r.two, true)
			}
			if c.want == activation.RolledBack {
				r.wantRuns(t, r.one, true)
			}
			r.wantFirstSchema(t)
			r.activated(t, r.fix) // and the next is as any other
		})
	}
	t.Run("of a system that is pending a reboot", func(t *testing.T) {
		r := newRollrollbackRig(t, nil)
		r.takesOver(t, "booting")
		nixtest.Link(t, r.opts.Profile+"-2-link", r.boots.Path)
		nixtest.Link(t, r.opts.Profile, "system-2-link")
		if j, found, err := r.Resume(t.Context(), activation.Request{}); err != nil || !found || j.Phase != activation.RebootPending {
			t.Fatalf("%+v, %v, %v", j, found, err)
		}
		r.restarted(t, r.boots)
		if j, _, err := r.Resume(t.Context(), activation.Request{}); err != nil || j.Phase != activation.Committed {
			t.Fatalf("%+v, %v", j, err)
		}
		r.wantRuns(t, r.boots, true)
		r.wantBoots(t, "boots")
		r.wantFirstSchema(t)
	})
}

// One that is older still knows less, and names a boot otherwise.
func TestTakeoverOfAnEarlyNpcnix(t *testing.T) {
	r := newRollrollbackRig(t, nil)
	r.pendReboot(t)
	r.edit(t, func(all map[string]any) {
		delete(all, "profile_system")
		all["previous_system"] = r.fix.Path // which an operator tried
		all["boot_id"] = all["boot_id"].(string)[:36]
	})
	if j, found, err := r.Resume(t.Context(), activation.Request{}); err != nil || !found || j.Phase != activation.RebootPending {
		t.Fatalf("in the same boot: %+v, %v, %v", j, found, err)
	}
	r.restarted(t, r.boots)
	_, _, err := r.Resume(t.Context(), activation.Request{Verify: refuses})
	wantRolledBack(t, err, "verify: no")
	r.wantProfile(t, r.one, 1)
	r.wantBoots(t, "v1")
}

// wantFirstSchema checks that an older npcnix can read activation.json still.
func (h *host) wantFirstSchema(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.opts.Dir, "activation.json"))
	if err != nil {
		t.Fatal(err)
	}
	var j struct {
		Schema int
		Stage  string
	}
	if err := json.Unmarshal(data, &j); err != nil || j.Schema != 1 || j.Stage == "" {
		t.Errorf("schema %d, stage %q, %v", j.Schema, j.Stage, err)
	}
}
