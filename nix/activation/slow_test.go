package activation_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// noReply is a script that ends as a switch does whose call of systemd gets no answer.
const noReply = `echo 'Error: Failed to restart units' >&2; echo >&2; echo 'Caused by:' >&2; ` +
	`echo '    Did not receive a reply. Possible causes include: the reply timeout expired' >&2; exit 1`

// noReplyOnce does so the first time, if the host has a file "slow".
const noReplyOnce = "[ ! -e slow ] || { rm slow; " + noReply + "; }"

func TestSlowMachine(t *testing.T) {
	t.Run("a switch that gets no answer from systemd is repeated", func(t *testing.T) {
		r := newRollrollbackRig(t, func(all systems) { all["two"] = nixtest.System{Version: "v2", SwitchRuns: noReplyOnce} })
		r.write(t, "slow", "")
		r.activated(t, r.two)
		r.wantSwitches(t, "v2 test, v2 test, v2 boot")
	})
	t.Run("one that gets none in all its time is the machine's error", func(t *testing.T) {
		r := newRollrollbackRig(t, func(all systems) { all["two"] = nixtest.System{Version: "v2", SwitchRuns: noReply} })
		_, err := r.Activate(t.Context(), r.two, activation.Request{SwitchTimeout: 5 * time.Second})
		if failed := wantRolledBack(t, err, "Failed to restart units"); failed.Cause != activation.CauseMachine {
			t.Errorf("the cause is %s", failed.Cause)
		}
		r.wantRuns(t, r.one, true)
	})
	t.Run("a rollback that gets no answer is repeated", func(t *testing.T) {
		r := newRollrollbackRig(t, func(all systems) {
			all["one"] = nixtest.System{Version: "v1", SwitchRuns: noReplyOnce}
			all["two"] = nixtest.System{Version: "v2", SwitchRuns: ": >slow"}
		})
		_, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
		if failed := wantRolledBack(t, err, "verify: no"); failed.RollbackTries != 0 || failed.RollbackError != "" {
			t.Errorf("%+v", failed)
		}
		r.wantRuns(t, r.one, true)
		r.wantSwitches(t, "v2 test, v1 test, v1 test")
	})
	t.Run("a rollback that failed is tried again, with growing pauses", retriesRollback)
}

func retriesRollback(t *testing.T) {
	r := newRollrollbackRig(t, func(all systems) {
		all["one"] = nixtest.System{Version: "v1", SwitchRuns: "[ ! -e refuses ] || exit 1"}
	})
	r.write(t, "refuses", "")
	j, err := r.Activate(t.Context(), r.two, activation.Request{Verify: refuses})
	nixtest.WantError(t, err, nil, "; it is tried again")
	first := j.RollbackRetryAt
	if first.IsZero() || j.RollbackRetries != 0 {
		t.Errorf("%+v", j)
	}
	r.forgetSwitches(t)
	retryAt := func(at time.Time) {
		r.edit(t, func(all map[string]any) { all["rollback_retry_at"] = at.Format(time.RFC3339) })
	}
	retryAt(time.Now().Add(30 * time.Minute))
	if j, _, _ = r.Resume(t.Context(), activation.Request{}); j.Phase != activation.RollbackFailed {
		t.Errorf("it is %s before its time", j.Phase)
	}
	r.wantSwitches(t, "")

	retryAt(time.Now().Add(-time.Second))
	if j, _, _ = r.Resume(t.Context(), activation.Request{}); j.Phase != activation.RollbackFailed || j.RollbackRetries != 1 {
		t.Errorf("after another try that fails: %+v", j)
	}
	if !j.RollbackRetryAt.After(first) {
		t.Errorf("the next try is at %s, after that at %s", j.RollbackRetryAt, first)
	}
	retryAt(time.Now().Add(2 * time.Hour)) // the clock was set back
	if err := os.Remove(filepath.Join(r.root, "refuses")); err != nil {
		t.Fatal(err)
	}
	_, _, err = r.Resume(t.Context(), activation.Request{})
	if failed := wantRolledBack(t, err, "rolled back to "+r.one.Path); failed.Cause != activation.CauseVersion || failed.RollbackRetries != 2 {
		t.Errorf("%+v", failed)
	}
	r.wantRuns(t, r.one, true)
}
