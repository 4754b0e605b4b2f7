package herd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
)

// Many hosts make their queues at the same moment, and SNS takes 100 subscriptions a second. All come to be
// subscribed; each says at most once that it waits, and they do not try again in step.
func TestManySubscribeAtOnce(t *testing.T) {
	environment(t)
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	dir := files(t)
	const hosts, perSecond = 1000, 100
	synctest.Test(t, func(t *testing.T) {
		h := start(t, dir, 0, limits{awsfake.S3Reads, awsfake.S3Writes})
		h.cloud.LimitSubscribe(perSecond)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		logs, made := make([]bytes.Buffer, hosts), make(chan string, 2*hosts)
		begun := time.Now()
		for i := range hosts {
			running.Go(func() {
				one := &host{name: fmt.Sprintf("i-%017x", i), own: true}
				queue, err := events.OpenOwnQueue(ctx, events.OwnQueueOptions{
					Topic: h.topic, Remote: remote, Host: one.name, Dial: h.wire.dial(&one.client), Made: func(url string) { made <- url },
				})
				if err != nil {
					t.Error(err)
					return
				}
				inbox.New(inbox.Options{
					Queue: queue, Open: true, Lease: 2 * time.Minute, Ours: func(events.Notice) bool { return true },
					Monitor: health.New("", "herd", slog.New(slog.NewTextHandler(&logs[i], &slog.HandlerOptions{Level: slog.LevelWarn}))),
				}).Run(ctx)
			})
		}
		for range hosts {
			select {
			case <-made:
			case <-time.After(time.Hour):
				t.Fatalf("after an hour, %d are not subscribed", hosts-len(made))
			}
		}
		took := time.Since(begun)
		cancel()
		running.Wait()

		tried, inSecond := 0, map[int]int{}
		for _, e := range h.cloud.Trace() {
			if e.What == awsfake.Requested && e.Action == "Subscribe" {
				tried++
				inSecond[int(e.At.Sub(begun)/time.Second)]++
			}
		}
		most, when := 0, 0
		for second, n := range inSecond {
			if second >= 10 && n > most {
				most, when = n, second
			}
		}
		t.Logf("%d subscribed within %v by %d requests; from the tenth second on at most %d a second (second %d)", hosts, took, tried, most, when)
		if most > 3*perSecond {
			t.Errorf("in second %d there are %d requests: they try again in step", when, most)
		}
		if tried < hosts+hosts/2 {
			t.Errorf("%d requests for %d hosts: the limit did not act", tried, hosts)
		}
		for i := range logs {
			if n := bytes.Count(logs[i].Bytes(), []byte("\n")); n > 1 {
				t.Errorf("host %d warned %d times: %s", i, n, logs[i].String())
			}
		}
	})
}

// A host that lacks a permission says so once, tries again with growing pauses, and has its queue once it is allowed.
func TestWhatIsDeniedIsTriedAgainEverMoreSeldom(t *testing.T) {
	environment(t)
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	dir := files(t)
	for action, service := range map[string]string{"CreateQueue": "sqs", "Subscribe": "sns"} {
		synctest.Test(t, func(t *testing.T) {
			h := start(t, dir, 0, limits{awsfake.S3Reads, awsfake.S3Writes})
			call := awsfake.Call{Service: service, Action: action}
			denied := h.cloud.Fault(call, awsfake.Effect{Status: 403, Code: "AccessDenied"})
			one, made := &host{name: "web1"}, make(chan string, 1)
			queue, err := events.OpenOwnQueue(t.Context(), events.OwnQueueOptions{
				Topic: h.topic, Remote: remote, Host: one.name, Dial: h.wire.dial(&one.client), Made: func(url string) { made <- url },
			})
			h.must(err)
			var log bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				inbox.New(inbox.Options{
					Queue: queue, Open: true, Lease: 2 * time.Minute, Ours: func(events.Notice) bool { return true },
					Monitor: health.New("", "herd", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))),
				}).Run(ctx)
			})
			time.Sleep(time.Hour)
			denied.Remove()
			select {
			case <-made:
			case <-time.After(2 * time.Minute):
				t.Errorf("%s: the permission is there, and no queue", action)
			}
			cancel()
			running.Wait()

			if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "docs/aws.md lists for hosts that make their queue themselves") {
				t.Errorf("%s: it says %s", action, said)
			}
			var tried []time.Time
			for _, e := range h.cloud.Trace() {
				if e.What == awsfake.Requested && e.Action == action && len(tried) < denied.Hits() {
					tried = append(tried, e.At)
				}
			}
			for i := 1; i < len(tried); i++ {
				pause, mean := tried[i].Sub(tried[i-1]), min(time.Second<<min(i-1, 10), time.Minute) // ±50 %, and the requests
				if pause < mean/2 || pause > mean*3/2+time.Second {
					t.Errorf("%s: pause %d is %v, not about %v", action, i, pause, mean)
				}
			}
			if len(tried) < 30 {
				t.Errorf("%s: it has tried %d times in an hour", action, len(tried))
			}
		})
	}
}
