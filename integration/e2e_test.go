package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The end-to-end test: `aws s3 cp` → S3 → SNS → SQS → npcnix → nix → switch-to-configuration →
// acknowledged, and what happens when each arrow breaks.

func TestEndToEnd(t *testing.T) {
	t.Parallel()
	t.Run("on moto", endToEndOnMoto)
	t.Run("on awsfake", endToEndOnAWSFake)
}

func endToEndOnMoto(t *testing.T) {
	t.Parallel()
	endToEnd(t, moto.Start(t))
}

func endToEndOnAWSFake(t *testing.T) {
	t.Parallel()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	endToEnd(t, cloud.URL())
}

func endToEnd(t *testing.T, endpoint string) {
	w := newWorld(t, endpoint)
	queue, dead := w.queue("npcnix-web1", 6)
	h := newHost(w, "web1")
	h.configure(map[string]any{"remote": remote, "configuration": "web1", "queue_url": queue, "lease_secs": 3})
	// step fails the whole test when one step does: the later ones build on it.
	step := func(name string, f func()) {
		t.Helper()
		ok := t.Run(name, func(sub *testing.T) {
			w.t = sub
			defer func() { w.t = t }()
			f()
		})
		if !ok {
			t.FailNow()
		}
	}
	empty := func() bool {
		visible, inFlight := w.depth(queue)
		return visible == "0" && inFlight == "0"
	}

	step("a publish reconfigures the host and is acknowledged", func() {
		h.start()
		h.await("the agent polls and finds nothing published", func() bool { return h.log.count("cannot read the store") > 0 })
		etag := h.publish(nixtest.System{Version: "one"})
		h.await("the marker of the new system's switch-to-configuration", func() bool { return h.marker() == "one" })
		h.await("the profile's new generation", func() bool { return h.generation() == 1 })
		h.await("the message deleted", empty)
		h.await("the record", func() bool { return h.record().Status == record.Applied })
		r := h.record()
		if r.Version.ETag != etag || r.Host != "web1" || r.System != h.state().Applied.System || r.Times.Published.IsZero() {
			t.Errorf("record: %+v", r)
		}
	})

	step("a second publish is applied by its event", func() {
		h.publish(nixtest.System{Version: "two"})
		h.await("the new system", func() bool { return h.marker() == "two" && h.generation() == 2 })
		h.await("the message deleted", empty)
		if r := h.record(); r.Trigger != record.Event || r.PreviousSystem == "" {
			t.Errorf("record: %+v", r)
		}
	})

	step("a switch by an operator is recorded, and so is the return", func() {
		link := h.path("root", nixtest.CurrentSystem)
		point := func(to string) {
			h.must(os.Symlink(to, link+".new"))
			h.must(os.Rename(link+".new", link))
		}
		system := h.record().System
		point(h.record().PreviousSystem)
		h.await("the record says drifted", func() bool { return h.record().Status == record.Drifted })
		point(system)
		h.await("the record says applied", func() bool { return h.record().Status == record.Applied })
	})

	step("an unchanged re-publish activates nothing and is acknowledged", func() {
		was, seen := h.switches(), h.byEvent()
		h.publish(nixtest.System{Version: "two"})
		h.await("the event reconciled", func() bool { return h.byEvent() == seen+1 })
		h.await("the message deleted", empty)
		if h.switches() != was || h.generation() != 2 {
			t.Errorf("%d switches, before %d; generation %d", h.switches(), was, h.generation())
		}
	})

	step("a put to another key wakes nothing", func() {
		seen := h.byEvent()
		h.pack(nixtest.System{Version: "other"})
		w.copy(h.path("flake.npcnix"), "s3://"+bucket+"/npcnix/remotes/other.npcnix")
		// One that is for the host comes after it: had the other woken it, that would have been before.
		h.publish(nixtest.System{Version: "three"})
		h.await("the new system", func() bool { return h.marker() == "three" })
		h.await("the message deleted", empty)
		if now := h.byEvent(); now != seen+1 {
			t.Errorf("%d reconciles by events, want 1", now-seen)
		}
	})

	step("a lost event is healed by the poll", func() {
		w.notify(false)
		h.publish(nixtest.System{Version: "four"})
		h.run(append(h.flags(), "config", "set", "poll-interval-secs", "2")...)
		h.await("the new system", func() bool { return h.marker() == "four" })
		h.await("the record", func() bool { return h.record().Version.ETag == w.etag() && h.record().Status == record.Applied })
		if r := h.record(); r.Trigger == record.Event {
			t.Errorf("record: %+v", r)
		}
		h.run(append(h.flags(), "config", "set", "poll-interval-secs", "600")...)
		w.notify(true)
	})

	step("without its queue the host polls, and it heals when the queue is made again", func() {
		h.configure(map[string]any{"min_sleep_secs": 1, "max_sleep_secs": 2})
		_, err := w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &queue})
		w.must(err)
		h.await("degraded", func() bool { return h.log.count("cannot receive from the queue") > 0 })
		h.publish(nixtest.System{Version: "five"})
		h.await("the new system, by polling", func() bool { return h.marker() == "five" })
		again, _ := w.queue("npcnix-web1", 6)
		if again != queue {
			t.Fatalf("the queue has another URL now: %s", again)
		}
		h.await("healed", func() bool { return h.log.count("receiving from the queue again") == 1 })
		seen := h.byEvent()
		h.publish(nixtest.System{Version: "six"})
		h.await("the new system, by its event", func() bool {
			return h.marker() == "six" && h.byEvent() > seen
		})
		h.await("the message deleted", empty)
	})

	step("a flake that does not build is tried per schedule, rejected, and the next applies at once", func() {
		h.configure(map[string]any{"retry_delays_secs": []int{1, 1, 1}})
		generation, switches, system := h.generation(), h.switches(), h.state().Applied.System
		etag := h.publish(nixtest.System{Version: "broken", BuildFails: true})
		h.await("rejected", func() bool { return h.record().Status == record.Rejected })
		r := h.record()
		if r.Attempt != 4 || r.Version.ETag != etag || r.System != system || !strings.Contains(r.Error+strings.Join(r.LogTail, " "), "broken does not build") {
			t.Errorf("record: %+v", r)
		}
		h.await("the message in the dead-letter queue", func() bool {
			visible, _ := w.depth(dead)
			return visible == "1" && empty()
		})
		if h.marker() != "six" || h.generation() != generation || h.switches() != switches {
			t.Errorf("the host does not stay as it was: %s, generation %d", h.marker(), h.generation())
		}
		h.publish(nixtest.System{Version: "fixed"})
		h.await("the fixed system", func() bool { return h.marker() == "fixed" })
		h.await("the message deleted", empty)
	})

	step("SIGTERM during a build ends the agent, and the message is back in the queue", func() {
		wait := h.path("go-on")
		h.publish(nixtest.System{Version: "slow", BuildWaits: wait})
		h.await("the build", func() bool { return h.log.count("waiting, pid") > 0 })
		if code := h.terminate(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		await(t, "the message back in the queue", func() bool {
			visible, inFlight := w.depth(queue)
			return visible == "1" && inFlight == "0"
		})
		if s := h.state(); s.Intent != nil || s.Failure != nil {
			t.Errorf("state: %+v", s)
		}
		w.must(os.WriteFile(wait, nil, 0o600))
		h.start()
		h.await("the slow system", func() bool { return h.marker() == "slow" })
		h.await("the message deleted", empty)
		if code := h.terminate(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})

	// Through all of this, each fault was said once.
	for _, sentence := range []string{`WARN msg="cannot receive from the queue`, `ERROR msg="rejected; waiting`} {
		if n := h.log.count(sentence); n != 1 {
			t.Errorf("%q was logged %d times", sentence, n)
		}
	}
}
