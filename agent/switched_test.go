package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

func TestWhatAnOperatorSwitchesToIsRecordedAtOnce(t *testing.T) {
	for _, correct := range []bool{false, true} {
		want := []string{"record drifted v1", "record applied v1"}
		if correct {
			want = []string{"record applied v1"} // as before: the correction takes less than a moment
		}
		inBubble(t, map[bool]string{false: "and left alone", true: "and corrected"}[correct], func(t *testing.T) {
			switched := make(chan struct{})
			r := newRig(t, func(c *config.Config) { c.CorrectDrift = correct })
			r.opts.Switched = switched
			r.start()
			time.Sleep(time.Minute) // the look that follows a start is over
			r.mark()
			begun := time.Now()

			switched <- struct{}{} // the agent's own switch
			synctest.Wait()
			equal(t, "the agent's own switch", r.of("latest", "record"), nil)

			for _, system := range []string{"/nix/store/by-hand", "/nix/store/sys-1"} {
				r.host.set(func(h *fakeHost) { h.running = system })
				switched <- struct{}{}
				synctest.Wait()
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("it took %v", took)
			}
			r.end()
			equal(t, "the records", r.of("record"), want)
		})
	}
}
