package herd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
