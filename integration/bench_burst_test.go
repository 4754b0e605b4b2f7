package integration

import (
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// BenchmarkBurst sends one host 1,000 messages about one publish and counts what they cost:
// reconciles, the one that the burst finds under way included; looks at S3, of which each
// reconcile makes one, and each build that is under way one or more while messages arrive; and
// requests to SQS. An agent that reconciles for each message makes 1,000 of each.
func BenchmarkBurst(b *testing.B) {
	const messages = 1000
	for _, c := range []struct {
		name string
		wait bool // the messages are in the queue before the agent starts
		busy bool // they arrive during a build
		slow bool // they are sent one by one
	}{
		{"waiting-at-start", true, false, false},
		{"during-a-build", false, true, false},
		{"while-idle", false, false, false},
		{"while-idle-one-by-one", false, false, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			var reconciles, asked, requests int
			for b.Loop() {
				f := newFleet(b, 1)
				f.credentials(b)
				f.publish() // sends the first message
				release := make(chan struct{})
				looks := func() int { return f.cloud.Requests("s3", "HeadObject") + f.cloud.Requests("s3", "GetObject") }
				h := &watchedHost{}
				if c.busy {
					h.hold = release
				}
				burst := func() { f.send(f.hosts[0], messages-1, 10, 10) }
				if c.slow {
					burst = func() { f.send(f.hosts[0], messages-1, 1, 1) }
				}
				if c.wait {
					burst()
				}
				looksBefore, requestsBefore := looks(), f.cloud.Requests("sqs", "")
				reconcilesBefore := 0
				f.follow(f.hosts[0], h)
				switch {
				case c.busy:
					await(b, "the build", func() bool { return !h.calledFor().IsZero() })
					burst()
					f.awaitCount(awsfake.Received, messages)
				case !c.wait:
					f.awaitCount(awsfake.Deleted, 1)
					f.awaitParked()
					reconcilesBefore, _ = h.counts()
					looksBefore, requestsBefore = looks(), f.cloud.Requests("sqs", "")
					burst()
				}
				close(release)
				f.awaitCount(awsfake.Deleted, messages)
				done, _ := h.counts()
				reconciles += done - reconcilesBefore
				asked += looks() - looksBefore
				requests += f.cloud.Requests("sqs", "") - requestsBefore
			}
			quiet(b)
			n := float64(b.N)
			b.ReportMetric(float64(reconciles)/n, "reconciles")
			b.ReportMetric(float64(asked)/n, "s3-looks")
			b.ReportMetric(float64(requests)/n, "sqs-requests")
			b.ReportMetric(messages, "messages")
			b.ReportMetric(float64(reconciles)/n/messages, "reconciles/message")
		})
	}
}

// send puts n messages about the remote into a host's queue: so many senders, each so many at a
// time.
func (f *fleet) send(host string, n, senders, atATime int) {
	f.t.Helper()
	batches, results := make(chan []sqstypes.SendMessageBatchRequestEntry), make(chan error)
	for range senders {
		go func() {
			for batch := range batches {
				_, err := f.sqs.SendMessageBatch(f.t.Context(), &sqs.SendMessageBatchInput{
					QueueUrl: aws.String(f.queueURL(host)), Entries: batch,
				})
				results <- err
			}
		}()
	}
	go func() {
		defer close(batches)
		for left := n; left > 0; left -= atATime {
			var batch []sqstypes.SendMessageBatchRequestEntry
			for i := range min(atATime, left) {
				batch = append(batch, sqstypes.SendMessageBatchRequestEntry{
					Id: aws.String(strconv.Itoa(i)), MessageBody: aws.String(notification()),
				})
			}
			batches <- batch
		}
	}()
	var failed error
	for range (n + atATime - 1) / atATime {
		if err := <-results; err != nil {
			failed = err
		}
	}
	f.must(failed)
}

// awaitCount waits until there are n entries of a kind in the trace.
func (f *fleet) awaitCount(what awsfake.What, n int) {
	f.t.Helper()
	count := 0
	f.await("all are "+string(what), func(e awsfake.Entry) bool {
		if e.What == what {
			count++
		}
		return count == n
	})
}
