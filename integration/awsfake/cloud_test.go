package awsfake_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/awsfake"
)

func TestCloud(t *testing.T) {
	t.Run("can be opened again on the same address", reopened)
	t.Run("ends what waits when it is closed", closed)
	t.Run("has an environment that is all the SDK needs", environment)
}

func reopened(t *testing.T) {
	first := start(t)
	addr := strings.TrimPrefix(first.URL(), "http://")
	if _, err := awsfake.Start(addr); err == nil {
		t.Error("two clouds on one address")
	}
	first.Close()
	second, err := awsfake.Start(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.URL() != first.URL() {
		t.Errorf("URL %s, want %s", second.URL(), first.URL())
	}
}

func closed(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, queue := w.notified(t)
	polled, hung := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, WaitTimeSeconds: 20})
		polled <- err
	}()
	cloud.Events(awsfake.Delay(time.Hour))
	w.put(t, bucket, "k", "hello")
	cloud.Fault(awsfake.Call{Action: "GetObject"}, awsfake.Effect{Hang: true})
	go func() { hung <- w.get(t.Context(), bucket, "k") }()
	for _, what := range []awsfake.What{awsfake.Parked, awsfake.Requested} {
		if _, err := cloud.Await(t.Context(), func(e awsfake.Entry) bool {
			return e.What == what && (e.Action == "GetObject" || e.What == awsfake.Parked)
		}); err != nil {
			t.Fatal(err)
		}
	}
	cloud.Close()
	cloud.Close()
	<-polled // with no messages or an error, whichever is faster
	if err := <-hung; err == nil {
		t.Error("a hung request succeeds at the end")
	}
	if _, err := cloud.Await(t.Context(), func(awsfake.Entry) bool { return false }); err == nil {
		t.Error("awaiting an entry of a closed cloud succeeds")
	}
}

func environment(t *testing.T) {
	cloud := start(t)
	for _, pair := range cloud.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	settings, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s3.NewFromConfig(settings).ListBuckets(t.Context(), &s3.ListBucketsInput{}); err != nil {
		t.Errorf("list buckets: %v", err)
	}
	if n := cloud.Requests("s3", "ListBuckets"); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestTrace(t *testing.T) {
	t.Run("tells of a publish from put to delete", tracedPublish)
	t.Run("is followed from the past to what comes", followed)
}

func tracedPublish(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, queue, topic := w.fed(t, "true")
	w.drain(t, queue)
	from := len(cloud.Trace())
	etag := w.put(t, bucket, "k", "hello").ETag
	m := w.one(t, queue)
	if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries := cloud.Trace()[from:]
	for i, e := range entries {
		got = append(got, string(e.What)+" "+e.Action)
		if i > 0 && e.At.Before(entries[i-1].At) {
			t.Errorf("%s at %v, before its predecessor", got[i], e.At)
		}
		switch e.What {
		case awsfake.Published:
			if e.Bucket != bucket || e.Key != "k" || `"`+e.ETag+`"` != *etag || !strings.HasSuffix(topic, ":"+e.Topic) {
				t.Errorf("event %+v", e)
			}
		case awsfake.Sent, awsfake.Received, awsfake.Deleted:
			if e.MessageID != *m.MessageId || !strings.HasSuffix(queue, "/"+e.Queue) {
				t.Errorf("entry %+v", e)
			}
		case awsfake.Answered:
			if e.Status != 200 {
				t.Errorf("entry %+v", e)
			}
		}
		if e.What == awsfake.Requested && e.AccessKey != "test" {
			t.Errorf("entry %+v", e)
		}
	}
	want := []string{
		"requested PutObject", "published ", "sent ", "answered PutObject",
		"requested ReceiveMessage", "received ", "answered ReceiveMessage",
		"requested DeleteMessage", "deleted ", "answered DeleteMessage",
	}
	if !slices.Equal(got, want) {
		t.Errorf("trace %q, want %q", got, want)
	}
	if all, put := cloud.Requests("s3", ""), cloud.Requests("s3", "PutObject"); put != 1 || all <= put {
		t.Errorf("%d requests to S3, %d of them puts", all, put)
	}
}

func followed(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	w.send(t, queue, "first")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := 0
	for e := range cloud.Follow(ctx) {
		if e.What == awsfake.Answered && e.Action == "SendMessage" {
			if sent++; sent == 3 {
				cancel() // ends the loop
				continue
			}
			w.send(t, queue, "next")
		}
	}
	if sent != 3 {
		t.Errorf("%d sends were seen", sent)
	}
	if _, err := cloud.Await(ctx, func(e awsfake.Entry) bool { return e.Action == "Publish" }); err == nil {
		t.Error("what never happened was awaited")
	}
}
