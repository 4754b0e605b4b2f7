package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"npcnix/nix"
)

// What was to boot next would be booted whatever became of the newer version, with nobody to ask it for
// its proof.
func TestWhatIsToBootNextIsTakenBackBeforeANewerVersionIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.RetryDelaysSecs = []int64{1} })
		target := func(etag string) Target {
			return Target{Remote: testRemote, Configuration: "web1", ETag: etag}
		}
		err := r.dir.saveState(State{
			Applied: &Applied{Target: target("v1"), System: "/nix/store/sys-1", At: time.Now()},
			Intent:  &Intent{Target: target("v2"), Stage: StageBooting, Attempt: 1, System: "/nix/store/sys-2", Activation: "two"},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.host.running = "/nix/store/sys-1"
		r.host.left = &nix.Activation{ID: "two", System: "/nix/store/sys-2", Previous: "/nix/store/sys-1", Stage: nix.StageBooting}
		r.host.build = func(context.Context) error { return errBuild }
		r.store.etag = "v3"
		r.start()
		time.Sleep(time.Minute)
		r.end()
		steps := r.of("take back", "fetch", "activate")
		equal(t, "steps", steps[:min(2, len(steps))], []string{"take back /nix/store/sys-2", "fetch v3"})
		if rec := r.store.lastRecord(); rec.State != StateRejected || rec.Version.ETag != "v3" || rec.RebootDue {
			t.Errorf("record: %+v", rec)
		}
	})
}

func TestASystemWhoseOrderIsForgottenMustReachTheStoreToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Reach = func(context.Context, Config, bool) error { r.add("reach"); return errors.New("cut off") }
		r.host.running = "/nix/store/sys-2"
		r.host.left = &nix.Activation{ID: "two", System: "/nix/store/sys-2", Previous: "/nix/store/sys-1", Stage: nix.StageSwitched}
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if len(r.of("reach")) == 0 {
			t.Error("the store was not asked for")
		}
		if r.host.left.System == "/nix/store/sys-2" && r.host.left.Stage != nix.StageRolledBack {
			t.Errorf("the system that is cut off is %s", r.host.left.Stage)
		}
	})
}
