package integration

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	nspawn "github.com/npcnix/npcnix/integration/machine"
)

// BenchmarkConfirm measures, on a real machine, the way from a confirmed activation, which is the last
// thing that activation.json says, to the deletion of its message: the worker's end, which the agent
// notices, the agent's memory on disk, the record in the store, and the message. It is compared with
// nothing but a PUT of such a record and a delete of a message, one after the other, in the same cloud.
func BenchmarkConfirm(b *testing.B) {
	const publishes = 30
	g := newGuarded(b, nspawn.Options{}, nil)
	var acknowledged, bare []time.Duration
	n := 0
	for b.Loop() {
		for range publishes {
			n++
			p := g.publish(nspawn.System{
				Version: strconv.Itoa(n),
				Units:   map[string]string{"web.service": daemonUnit(fmt.Sprintf("/bin/sleep %d", 1000000+n))},
			})
			deleted := g.awaitEntry("the message of "+p.version+" deleted", func(e awsfake.Entry) bool {
				return e.What == awsfake.Deleted && e.MessageID == p.message
			})
			p.want(record.Applied)
			seconds, err := strconv.ParseFloat(strings.TrimSpace(g.m.Must("stat", "--format=%.9Y", dataDir+"/activation.json")), 64)
			g.must(err)
			confirmed := time.Unix(0, int64(seconds*1e9))
			acknowledged = append(acknowledged, deleted.At.Sub(confirmed))
			bare = append(bare, g.putAndDelete())
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
func (w *world) putAndDelete() time.Duration {
	w.t.Helper()
	ctx := w.t.Context()
	q, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("bare")})
	w.must(err)
	_, err = w.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: q.QueueUrl, MessageBody: aws.String(notification())})
	w.must(err)
	got, err := w.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.QueueUrl, WaitTimeSeconds: 20})
	w.must(err)
	begun := time.Now()
	_, err = w.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("bare.json"), Body: bytes.NewReader(make([]byte, 900))})
	w.must(err)
	_, err = w.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: q.QueueUrl, ReceiptHandle: got.Messages[0].ReceiptHandle})
	w.must(err)
	return time.Since(begun)
}
