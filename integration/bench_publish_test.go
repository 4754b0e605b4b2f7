package integration

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// BenchmarkPublish measures the way from a publish to nix: agents that are real but for nix, in
// this process with the cloud, so that they share its processors with each other and with it.
//
//	own     from the moment that SQS hands the message out to the call of nix
//	npcnix  from the PUT's arrival at S3 (in turn: the message's in the queue) to the call of nix
//	bare    from the same on to a loop of nothing but ReceiveMessage having the message in hand
//	cpu     processor time of this process for each host, the cloud's share and what follows the build included
//
// Agents and bare loops take turns, on clouds of their own, with as many queues each. A hundred
// hosts have a hundred disks; a hundred agents here have one, or, where it is there, /dev/shm.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name             string
		hosts, publishes int
		inTurn           bool
		onDisk           bool          // the data directories
		late             time.Duration // events, on both sides
		takes            time.Duration // a build; 0: what follows it is in the way of those who come later
		prebuilt         bool          // signed, and each host's system realised
		padding          int           // bytes in the flake that do not compress
	}{
		{name: "100-hosts-at-once", hosts: 100, publishes: 20},
		{name: "100-hosts-at-once-builds-take-1s", hosts: 100, publishes: 20, takes: time.Second},
		{name: "100-hosts-at-once-events-1s-late", hosts: 100, publishes: 10, late: time.Second},
		{name: "100-hosts-at-once-on-one-disk", hosts: 100, publishes: 3, onDisk: true},
		{name: "10-hosts-at-once", hosts: 10, publishes: 50},
		{name: "100-hosts-in-turn", hosts: 100, publishes: 5, inTurn: true},
		{name: "100-hosts-in-turn-prebuilt", hosts: 100, publishes: 5, inTurn: true, prebuilt: true},
		{name: "100-hosts-in-turn-100-KiB", hosts: 100, publishes: 5, inTurn: true, padding: 100 << 10},
		{name: "100-hosts-in-turn-100-KiB-prebuilt", hosts: 100, publishes: 5, inTurn: true, padding: 100 << 10, prebuilt: true},
		{name: "100-hosts-in-turn-on-one-disk", hosts: 100, publishes: 5, inTurn: true, onDisk: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			ours, bare := newFleet(b, c.hosts), newFleet(b, c.hosts)
			ours.credentials(b)
			if !c.onDisk {
				ours.keepInMemory(b)
			}
			if c.prebuilt {
				ours.key = newSSHKey(b)
			}
			ours.padding = c.padding
			ours.publish()
			reached := map[string]func() time.Time{}
			for _, name := range ours.hosts {
				h := &watchedHost{takes: c.takes}
				ours.follow(name, h)
				reached[name] = h.calledFor
			}
			inHand := map[string]func() time.Time{}
			for _, name := range bare.hosts {
				inHand[name] = bare.receive(name)
			}
			ours.awaitCount(awsfake.Deleted, c.hosts)
			ours.awaitParked()
			bare.awaitParked()
			wake := (*fleet).wakeAll
			if c.inTurn {
				ours.notify(false)
				bare.notify(false)
				wake = (*fleet).wakeInTurn
			}
			for _, f := range []*fleet{ours, bare} {
				f.cloud.Events(awsfake.Delay(c.late))
			}
			wake(ours, reached) // the first times make connections
			wake(bare, inHand)

			var own, npcnix, loop []time.Duration
			var cpu, bareCPU time.Duration
			for b.Loop() {
				for range c.publishes {
					for _, w := range metered(b, &cpu, func() []waking { return wake(ours, reached) }) {
						own = append(own, w.reached.Sub(w.handedOut))
						npcnix = append(npcnix, w.reached.Sub(w.published))
					}
					for _, w := range metered(b, &bareCPU, func() []waking { return wake(bare, inHand) }) {
						loop = append(loop, w.reached.Sub(w.published))
					}
				}
			}
			quiet(b)
			b.ReportMetric(milliseconds(percentile(own, 50)), "own-p50-ms")
			b.ReportMetric(milliseconds(percentile(own, 99)), "own-p99-ms")
			b.ReportMetric(milliseconds(percentile(npcnix, 50)), "npcnix-p50-ms")
			b.ReportMetric(milliseconds(percentile(npcnix, 99)), "npcnix-p99-ms")
			b.ReportMetric(milliseconds(percentile(loop, 50)), "bare-p50-ms")
			b.ReportMetric(milliseconds(percentile(loop, 99)), "bare-p99-ms")
			b.ReportMetric(float64(percentile(npcnix, 99))/float64(percentile(loop, 99)), "p99-x-bare")
			b.ReportMetric(milliseconds(cpu)/float64(len(own)), "npcnix-cpu-ms")
			b.ReportMetric(milliseconds(bareCPU)/float64(len(loop)), "bare-cpu-ms")
			b.ReportMetric(float64(len(own)), "samples")
		})
	}
}

// metered adds to spent what processor time this process has spent meanwhile.
func metered(b *testing.B, spent *time.Duration, wake func() []waking) []waking {
	b.Helper()
	before, err := ownCPU()
	woken := wake()
	after, errAfter := ownCPU()
	if err := errors.Join(err, errAfter); err != nil {
		b.Fatal(err)
	}
	*spent += after - before
	return woken
}

// waking is how one host came to hear of one publish.
type waking struct{ published, handedOut, reached time.Time }

// wakeAll publishes and returns how each host heard of it, once all are idle again.
func (f *fleet) wakeAll(reached map[string]func() time.Time) []waking {
	f.t.Helper()
	begun := time.Now()
	f.publish()
	return f.woken(begun, f.hosts, reached)
}

// wakeInTurn publishes and tells one host after the other of it.
func (f *fleet) wakeInTurn(reached map[string]func() time.Time) []waking {
	f.t.Helper()
	f.publish()
	var all []waking
	for _, host := range f.hosts {
		begun := time.Now()
		_, err := f.sqs.SendMessage(f.t.Context(), &sqs.SendMessageInput{
			QueueUrl: aws.String(f.queueURL(host)), MessageBody: aws.String(notification()),
		})
		f.must(err)
		all = append(all, f.woken(begun, []string{host}, reached)...)
	}
	return all
}

// woken waits until all of the hosts have deleted their message and poll again, and returns how
// they heard of it; a host that did not build, or built before, is left out.
func (f *fleet) woken(begun time.Time, hosts []string, reached map[string]func() time.Time) []waking {
	f.t.Helper()
	var published time.Time
	handedOut, deleted, polling := map[string]time.Time{}, map[string]bool{}, map[string]bool{}
	f.await("every host has deleted its message", func(e awsfake.Entry) bool {
		if e.At.Before(begun) || e.Queue != "" && !slices.Contains(hosts, e.Queue) {
			return false
		}
		switch e.What {
		case awsfake.Requested:
			if e.Action == "PutObject" && e.Key == key || e.Action == "SendMessage" {
				published = e.At
			}
		case awsfake.Received:
			handedOut[e.Queue] = e.At
		case awsfake.Deleted:
			deleted[e.Queue] = true
		case awsfake.Parked:
			if !handedOut[e.Queue].IsZero() {
				polling[e.Queue] = true
			}
		}
		return len(deleted) == len(hosts) && len(polling) == len(hosts)
	})
	var all []waking
	for _, host := range hosts {
		if w := (waking{published, handedOut[host], reached[host]()}); w.reached.After(w.handedOut) {
			all = append(all, w)
		}
	}
	return all
}

// receive runs a loop that does nothing but receive and delete, until the benchmark ends. The
// function it returns tells when the loop had its latest message in hand.
func (f *fleet) receive(host string) func() time.Time {
	client := sqs.NewFromConfig(awsfake.Config(f.endpoint))
	url := aws.String(f.queueURL(host))
	ctx, ended := f.t.Context(), make(chan struct{})
	f.t.Cleanup(func() { <-ended })
	var mu sync.Mutex
	var latest time.Time
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
				QueueUrl: url, MaxNumberOfMessages: 10, WaitTimeSeconds: 20,
			})
			now := time.Now()
			if err == nil && len(out.Messages) > 0 {
				mu.Lock()
				latest = now
				mu.Unlock()
				_, err = client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: out.Messages[0].ReceiptHandle})
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				f.t.Errorf("bare loop: %v", err)
				return
			}
		}
	}()
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return latest
	}
}
