package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/activation"
)

// schema1 holds, by the stage at which they were taken, the files of hosts that the npcnix of the last commit
// with schema 1 kept. Some of those agents were killed in the middle of their work.
const schema1 = "testdata/schema1"

// heir makes r the agent of a host with the files of a stage, after the time at which they were written.
func (r *rig) heir(stage string) {
	r.t.Helper()
	for _, name := range []string{"state.json", "activation.json", "agent.json", "config.json"} {
		if err := os.WriteFile(r.dir.Path(name), r.file(stage, name), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	j, err := activation.Read(string(r.dir))
	if err != nil {
		r.t.Fatal(err)
	}
	r.host.left = j
	r.host.running = strings.TrimSpace(string(r.file(stage, "running")))
	if j.Phase == activation.RebootPending {
		r.host.boots = j.System
	}
	r.host.system = "/nix/store/built-again"
	r.store.etag = r.before(stage).Version.ETag
	r.opts.Queue = nil
	time.Sleep(time.Until(time.Date(2026, 11, 28, 10, 25, 0, 0, time.UTC)))
}

func (r *rig) file(stage, name string) []byte {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(schema1, stage, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return data
}

// before is the record that the older npcnix wrote last.
func (r *rig) before(stage string) record.Record {
	r.t.Helper()
	rec, err := record.Parse(r.file(stage, "record.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func TestHostsOfAnOlderNpcnixAreTakenOver(t *testing.T) {
	for _, c := range []struct {
		stage  string
		status record.Status // of the record after a round
		steps  []string      // that the host is asked for: build, activate
	}{
		{"applied", record.Applied, nil},
		{"building", record.Applied, []string{"build", "activate"}},
		{"switching", record.Applied, nil},
		{"verifying", record.Applied, nil},
		{"committing", record.Applied, nil},
		{"committed", record.Applied, nil},
		{"rollback-begun", record.RolledBack, nil},
		{"rollback-unseen", record.RolledBack, nil},
		{"rollback-seen", record.RolledBack, nil},
		{"rollback-failed", record.Rejected, nil},
		{"reboot-pending", record.RebootPending, nil},
		{"failed", record.Failed, nil},
		{"rejected", record.Rejected, nil},
		{"hook", record.Applied, nil},
		{"paused", record.Paused, nil},
		{"drifted", record.Drifted, nil},
		{"store-lost", record.Applied, nil},
	} {
		inBubble(t, c.stage, func(t *testing.T) {
			r := newRig(t)
			r.heir(c.stage)
			was, intent := r.before(c.stage), r.state().Intent
			if c.stage == "hook" {
				r.configure(func(c *config.Config) { c.Hooks = config.Hooks{} }) // see the next test
			}

			r.start()
			time.Sleep(time.Minute)
			r.end()

			rec := r.store.lastRecord()
			if rec.Schema != record.Schema || rec.Status != c.status || rec.Version != was.Version {
				t.Errorf("record: %+v", rec)
			}
			equal(t, "steps", firstWords(r.of("build", "activate")), c.steps)
			r.wantHeir(c.stage, intent)
		})
	}
}

// wantHeir checks the memory and the record of a host that was taken over, given the intent that it had.
func (r *rig) wantHeir(stage string, intent *Intent) {
	r.t.Helper()
	s, rec := r.state(), r.store.lastRecord()
	if pending := s.Intent != nil; pending != (stage == "reboot-pending") {
		r.t.Errorf("intent: %+v", s.Intent)
	}
	if s.NeedsRepair != (stage == "rollback-failed") || (rec.Warning != "") != (stage == "rollback-failed") {
		r.t.Errorf("needs repair: %v, warning %q", s.NeedsRepair, rec.Warning)
	}
	if rec.RebootDue != (stage == "reboot-pending") {
		r.t.Errorf("a reboot is due: %v", rec.RebootDue)
	}
	if s.Hook != nil {
		r.t.Errorf("hook: %+v", s.Hook)
	}
	if intent == nil || intent.Status != record.Activating || rec.Status != record.Applied {
		return
	}
	if rec.Trigger != intent.Trigger || rec.Trigger == "" || rec.Attempt != 1 || !rec.Times.Built.Equal(intent.Times.Built) || rec.Times.Acknowledged.IsZero() || rec.PreviousSystem == "" || rec.PreviousSystem == rec.System {
		r.t.Errorf("how it came about: %+v", rec)
	}
}

func firstWords(steps []string) []string {
	var words []string
	for _, s := range steps {
		words = append(words, strings.Fields(s)[0])
	}
	return words
}

func TestAHookThatAnOlderNpcnixBeganIsRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.heir("hook")
		out := filepath.Join(t.TempDir(), "out")
		r.configure(func(c *config.Config) {
			c.Hooks.PostActivate = []string{"/bin/sh", "-c", `echo "$NPCNIX_HOOK $NPCNIX_ACTIVATION_ID" >>` + out}
		})
		id := r.host.left.ID
		r.start()
		time.Sleep(time.Minute)
		r.end()

		got, err := os.ReadFile(out)
		if err != nil || string(got) != "post_activate "+id+"\n" {
			t.Errorf("the hook was run with %q, %v", got, err)
		}
		if h := r.state().Hook; h != nil {
			t.Errorf("still due: %+v", h)
		}
	})
}

func TestOlderStateIsWrittenInTheNewWords(t *testing.T) {
	for _, c := range []struct {
		stage, member, want string
	}{
		{"reboot-pending", "intent.status", `"reboot_pending"`},
		{"switching", "intent.status", `"activating"`},
		{"building", "intent.status", `"building"`},
		{"rollback-failed", "needs_repair", "true"},
	} {
		t.Run(c.stage, func(t *testing.T) {
			r := newRig(t)
			r.heirFiles(c.stage)
			if err := saveState(r.dir, r.state()); err != nil {
				t.Fatal(err)
			}

			data, err := os.ReadFile(r.dir.Path("state.json"))
			if err != nil {
				t.Fatal(err)
			}
			if got := member(t, data, c.member); got != c.want {
				t.Errorf("%s is %s, want %s", c.member, got, c.want)
			}
			if got := member(t, data, "schema"); got != "2" {
				t.Errorf("schema %s", got)
			}
			for _, old := range []string{"unsettled", "intent.stage", "restarted_for"} { // old form
				if got := member(t, data, old); got != "" {
					t.Errorf("%s is left: %s", old, got)
				}
			}
		})
	}
}

// heirFiles writes the state.json of a stage.
func (r *rig) heirFiles(stage string) {
	r.t.Helper()
	if err := os.WriteFile(r.dir.Path("state.json"), r.file(stage, "state.json"), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// member returns the JSON text of a member, by the path of its names; "" if there is none.
func member(t *testing.T, data []byte, path string) string {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		data = object[name]
		if data == nil {
			return ""
		}
	}
	return string(data)
}

func TestTheHealthOfAnOlderAgentIsRead(t *testing.T) {
	stages, err := filepath.Glob(filepath.Join(schema1, "*", "agent.json"))
	if err != nil || len(stages) == 0 {
		t.Fatal(stages, err)
	}
	for _, file := range stages {
		stage := filepath.Base(filepath.Dir(file))
		t.Run(stage, func(t *testing.T) {
			r := newRig(t)
			data := r.file(stage, "agent.json")
			if err := os.WriteFile(r.dir.Path("agent.json"), data, 0o644); err != nil {
				t.Fatal(err)
			}
			h, running, err := health.Read(r.dir)
			if err != nil || running || h.PID == 0 || h.Started.IsZero() {
				t.Fatalf("%+v, %v, %v", h, running, err)
			}
			if lost := stage == "store-lost"; (h.TransientError != "") != lost || h.Parts[health.Store].Error != "" != lost {
				t.Errorf("%+v", h)
			}
		})
	}
}

func TestRecordsOfAnOlderAgentAreRead(t *testing.T) {
	for stage, want := range map[string]record.Status{
		"building": record.Building, "switching": record.Activating, "reboot-pending": record.RebootPending, "applied": record.Applied,
		"failed": record.Failed, "rollback-seen": record.RolledBack, "rejected": record.Rejected, "paused": record.Paused, "drifted": record.Drifted,
	} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t)
			rec := r.before(stage)
			if rec.Status != want || rec.Host != "web1" || stage != "paused" && rec.Version.ETag == "" && stage != "drifted" || rec.Times.Acknowledged.IsZero() {
				t.Errorf("%+v", rec)
			}
			if !slices.Contains(record.Statuses, rec.Status) {
				t.Errorf("%q is not a status", rec.Status)
			}
		})
	}
}
