package integration

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"npcnix/integration/awsfake"
	"npcnix/nix"
)

// confirmedHost is a host that knows when its activation was confirmed.
type confirmedHost struct {
	watchedHost
	mu sync.Mutex
	at time.Time
}

func (h *confirmedHost) Activate(ctx context.Context, s nix.System, o nix.Order) (nix.Activation, error) {
	a, err := h.watchedHost.Activate(ctx, s, o)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = time.Now()
	return a, err
}

func (h *confirmedHost) confirmed() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

// BenchmarkConfirm measures the way from a confirmed activation to the deletion of its message: the
// agent's memory on disk, the record in the store, and the message. It is compared with nothing but a
// PUT of such a record and a delete of a message, one after the other, in the same cloud.
func BenchmarkConfirm(b *testing.B) {
	const publishes = 50
	f := newFleet(b, 1)
	f.credentials(b)
	host := f.hosts[0]
	h := &confirmedHost{}
	f.publish()
	f.follow(host, h)
	f.awaitCount(awsfake.Deleted, 1)
	f.awaitParked()

	var acknowledged, bare []time.Duration
	for b.Loop() {
		for range publishes {
			begun := time.Now()
			f.publish()
			f.await("the message is deleted", func(e awsfake.Entry) bool {
				if e.What != awsfake.Deleted || e.Queue != host || e.At.Before(begun) {
					return false
				}
				acknowledged = append(acknowledged, e.At.Sub(h.confirmed()))
				return true
			})
			bare = append(bare, f.putAndDelete())
		}
	}
	quiet(b)
	b.ReportMetric(milliseconds(percentile(acknowledged, 50)), "acknowledged-p50-ms")
	b.ReportMetric(milliseconds(percentile(acknowledged, 99)), "acknowledged-p99-ms")
	b.ReportMetric(milliseconds(percentile(bare, 50)), "bare-p50-ms")
	b.ReportMetric(milliseconds(percentile(bare, 99)), "bare-p99-ms")
	b.ReportMetric(float64(percentile(acknowledged, 50))/float64(percentile(bare, 50)), "p50-x-bare")
	b.ReportMetric(float64(len(acknowledged)), "samples")
}

// putAndDelete puts an object of a record's size, and deletes a message, of a queue of its own.
func (f *fleet) putAndDelete() time.Duration {
	f.t.Helper()
	ctx := f.t.Context()
	q, err := f.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("bare")})
	f.must(err)
	_, err = f.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: q.QueueUrl, MessageBody: aws.String(notification())})
	f.must(err)
	got, err := f.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, WaitTimeSeconds: 20})
	f.must(err)
	begun := time.Now()
	_, err = f.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("bare.json"), Body: bytes.NewReader(make([]byte, 900))})
	f.must(err)
	_, err = f.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: q.QueueUrl, ReceiptHandle: got.Messages[0].ReceiptHandle})
	f.must(err)
	return time.Since(begun)
}
