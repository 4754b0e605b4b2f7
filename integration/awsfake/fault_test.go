package awsfake_test

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/integration/awsfake"
)

func (w world) deleteQueue(t *testing.T, queue string) {
	t.Helper()
	if _, err := w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &queue}); err != nil {
		t.Fatalf("delete queue: %v", err)
	}
}

func (w world) get(ctx context.Context, bucket, key string) error {
	out, err := w.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return err
	}
	_, err = io.ReadAll(out.Body)
	return err
}

func TestFault(t *testing.T) {
	t.Run("answers with the error of the service", faultError)
	t.Run("of a missing queue has its type", faultType)
	t.Run("strikes only what it matches", faultMatch)
	t.Run("breaks connections", faultConnection)
	t.Run("holds requests up", faultDelay)
	t.Run("of expired receipts neither deletes nor extends", expiredReceipts)
	t.Run("of frozen counters tells the past until they are thawed", frozenCounters)
}

func faultError(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, topic := w.bucket(t), w.topic(t)
	queue, _ := w.queue(t, nil)
	w.put(t, bucket, "k", "hello")
	for code, status := range map[string]int{
		"AccessDenied": 403, "ExpiredToken": 400, "SlowDown": 503, "ThrottlingException": 400, "InternalError": 500,
	} {
		for service, call := range map[string]func() error{
			"s3": func() error { return w.get(t.Context(), bucket, "k") },
			"sns": func() error {
				_, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: aws.String("hello")})
				return err
			},
			"sqs": func() error {
				_, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
				return err
			},
		} {
			fault := cloud.Fault(awsfake.Call{Service: service}, awsfake.Effect{Status: status, Code: code, Next: 1})
			wantCode(t, call(), code, status)
			if err := call(); err != nil || fault.Hits() != 1 {
				t.Errorf("%s after one %s: %v, %d hits", service, code, err, fault.Hits())
			}
		}
	}
	cloud.Fault(awsfake.Call{Action: "HeadObject"}, awsfake.Effect{Status: 403, Code: "AccessDenied"})
	_, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("k")})
	wantCode(t, err, "Forbidden", 403) // a HEAD has no body to tell the code
}

func faultType(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	cloud.Fault(awsfake.Call{Service: "sqs"}, awsfake.Effect{Code: "AWS.SimpleQueueService.NonExistentQueue"})
	_, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
	if _, ok := errors.AsType[*sqstypes.QueueDoesNotExist](err); !ok {
		t.Errorf("receive: %v", err)
	}
}

func faultMatch(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, other := w.bucket(t), w.bucket(t)
	w.put(t, bucket, "k", "hello")
	w.put(t, bucket, "k2", "hello")
	w.put(t, other, "k", "hello")
	stranger := newWorld(cloud.URL(), differences{})
	stranger.s3 = s3.NewFromConfig(awsfake.Config(cloud.URL()), func(o *s3.Options) {
		o.RetryMaxAttempts = 1
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "stranger", SecretAccessKey: "x"}, nil
		})
	})
	for name, c := range map[string]struct {
		call    awsfake.Call
		strikes string
	}{
		"everything":      {awsfake.Call{}, "k k2 other stranger"},
		"one bucket":      {awsfake.Call{Service: "s3", Bucket: bucket}, "k k2 stranger"},
		"one object":      {awsfake.Call{Bucket: bucket, Key: "k2"}, "k2"},
		"one access key":  {awsfake.Call{AccessKey: "stranger"}, "stranger"},
		"another action":  {awsfake.Call{Service: "s3", Action: "PutObject"}, ""},
		"another service": {awsfake.Call{Service: "sqs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			fault := cloud.Fault(c.call, awsfake.Effect{Code: "SlowDown", Status: 503})
			defer fault.Remove()
			struck := ""
			for _, call := range []struct {
				name string
				err  error
			}{
				{"k", w.get(t.Context(), bucket, "k")}, {"k2", w.get(t.Context(), bucket, "k2")},
				{"other", w.get(t.Context(), other, "k")}, {"stranger", stranger.get(t.Context(), bucket, "k")},
			} {
				if call.err != nil {
					struck += " " + call.name
				}
			}
			if struck != "" {
				struck = struck[1:]
			}
			if struck != c.strikes {
				t.Errorf("struck %q, want %q", struck, c.strikes)
			}
			fault.Remove()
			if err := w.get(t.Context(), bucket, "k"); err != nil {
				t.Errorf("after its removal: %v", err)
			}
		})
	}
}

func faultConnection(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	queue, _ := w.queue(t, nil)
	w.put(t, bucket, "k", "hello")
	w.send(t, queue, "hello")

	t.Run("a reset before the action", func(t *testing.T) {
		cloud.Fault(awsfake.Call{Action: "ReceiveMessage"}, awsfake.Effect{Reset: true, Next: 1})
		_, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("receive: %v", err)
		}
		if visible, inFlight, _ := cloud.Depth(queue); visible != 1 || inFlight != 0 {
			t.Errorf("%d visible, %d in flight", visible, inFlight)
		}
	})
	t.Run("a body that ends too early", func(t *testing.T) {
		cloud.Fault(awsfake.Call{Action: "GetObject"}, awsfake.Effect{Truncate: true, Next: 1})
		if err := w.get(t.Context(), bucket, "k"); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("get: %v", err)
		}
	})
	t.Run("an answer that is lost after the action", func(t *testing.T) {
		cloud.Fault(awsfake.Call{Action: "ReceiveMessage"}, awsfake.Effect{Truncate: true, Next: 1})
		_, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
		if visible, inFlight, _ := cloud.Depth(queue); err == nil || visible != 0 || inFlight != 1 {
			t.Errorf("receive: %v; %d visible, %d in flight", err, visible, inFlight)
		}
		cloud.Fault(awsfake.Call{Action: "DeleteObject"}, awsfake.Effect{Truncate: true, Next: 1})
		_, err = w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")})
		if err == nil {
			t.Errorf("delete was answered")
		}
		wantCode(t, w.get(t.Context(), bucket, "k"), "NoSuchKey", 404)
	})
}

func faultDelay(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	w.put(t, bucket, "k", "hello")

	t.Run("for a while", func(t *testing.T) {
		cloud.Fault(awsfake.Call{}, awsfake.Effect{Latency: 50 * time.Millisecond, Next: 1})
		start := time.Now()
		if err := w.get(t.Context(), bucket, "k"); err != nil || time.Since(start) < 50*time.Millisecond {
			t.Errorf("get: %v after %v", err, time.Since(start))
		}
	})
	t.Run("until the client gives up", func(t *testing.T) {
		fault := cloud.Fault(awsfake.Call{}, awsfake.Effect{Hang: true})
		defer fault.Remove()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := w.get(ctx, bucket, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
	})
}

func expiredReceipts(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	w.send(t, queue, "hello")
	m := w.one(t, queue)
	cloud.ExpireReceipts(queue)
	if visible, inFlight, _ := cloud.Depth(queue); visible != 1 || inFlight != 0 {
		t.Errorf("%d visible, %d in flight", visible, inFlight)
	}
	wantCode(t, w.change(t, queue, m.ReceiptHandle, 60), "InvalidParameterValue", 400)
	if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
		t.Errorf("delete: %v", err)
	}
	again := w.one(t, queue)
	if *again.MessageId != *m.MessageId {
		t.Errorf("received %s, want %s", *again.MessageId, *m.MessageId)
	}
	if err := w.remove(t, queue, again.ReceiptHandle); err != nil {
		t.Errorf("delete: %v", err)
	}
	w.wantDepth(t, queue, 0, 0, 0)
}

func frozenCounters(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	thaw := cloud.FreezeCounters(queue)
	w.send(t, queue, "hello")
	w.wantDepth(t, queue, 0, 0, 0)
	if visible, _, _ := cloud.Depth(queue); visible != 1 {
		t.Errorf("%d visible in truth", visible)
	}
	thaw()
	w.wantDepth(t, queue, 1, 0, 0)
}

func TestEvents(t *testing.T) {
	t.Run("are transformed on their way", transformed)
	t.Run("are delayed or garbled", delayedOrGarbled)
	t.Run("come to each queue of a topic as often as it is said", spreadOut)
}

func transformed(t *testing.T) {
	put := func(t *testing.T, w world, bucket string, keys ...string) {
		for _, key := range keys {
			w.put(t, bucket, key, "hello")
		}
	}
	for name, c := range map[string]struct {
		transform awsfake.Transform
		want      []string // keys of the events that come, of puts of a, b, c
	}{
		"lost":             {awsfake.Lose, nil},
		"next one lost":    {awsfake.Next(1, awsfake.Lose), []string{"b", "c"}},
		"duplicated":       {awsfake.Next(1, awsfake.Duplicate(3)), []string{"a", "a", "a", "b", "c"}},
		"reversed":         {awsfake.Reverse(3), []string{"c", "b", "a"}},
		"held back":        {awsfake.Reverse(4), nil},
		"without sequence": {awsfake.NoSequencer, []string{"a", "b", "c"}},
		"renamed": {func(e awsfake.Event) []awsfake.Event { e.Key += "!"; return []awsfake.Event{e} },
			[]string{"a%21", "b%21", "c%21"}},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := start(t)
			w := newWorld(cloud.URL(), differences{})
			bucket, queue := w.notified(t)
			remove := cloud.Events(c.transform)
			put(t, w, bucket, "a", "b", "c")
			var keys []string
			for _, body := range w.drain(t, queue) {
				e := parse(t, body)
				keys = append(keys, e.S3.Object.Key)
				if (e.S3.Object.Sequencer == nil) != (name == "without sequence") {
					t.Errorf("sequencer %v", e.S3.Object.Sequencer)
				}
			}
			if !slices.Equal(keys, c.want) {
				t.Errorf("told of %v, want %v", keys, c.want)
			}
			remove()
			put(t, w, bucket, "d")
			if e := parse(t, *w.one(t, queue).Body); e.S3.Object.Key != "d" {
				t.Errorf("told of %s after the removal", e.S3.Object.Key)
			}
		})
	}
}

func delayedOrGarbled(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, queue := w.notified(t)
	cloud.Events(awsfake.Next(1, awsfake.Delay(50*time.Millisecond)))
	begin := time.Now()
	w.put(t, bucket, "k", "hello")
	w.one(t, queue)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("the event came after %v", took)
	}
	cloud.Events(awsfake.Garble("}{"))
	w.put(t, bucket, "k", "hello")
	if m := w.one(t, queue); *m.Body != "}{" {
		t.Errorf("received %s", *m.Body)
	}
}

func spreadOut(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, once, topic := w.fed(t, "true")
	twice, twiceARN := w.queue(t, nil)
	never, neverARN := w.queue(t, nil)
	w.subscribe(t, topic, twiceARN, "true")
	w.subscribe(t, topic, neverARN, "true")
	w.drain(t, once)
	cloud.Spread(func(queue string) []time.Duration {
		return map[string][]time.Duration{path.Base(twice): {0, time.Millisecond}, path.Base(never): nil, path.Base(once): {0}}[queue]
	})
	w.put(t, bucket, "k", "hello")
	for queue, want := range map[string]int{once: 1, twice: 2, never: 0} {
		for {
			visible, _, _ := cloud.Depth(queue)
			if visible == want {
				break
			}
			if visible > want || t.Context().Err() != nil {
				t.Fatalf("%d messages; want %d", visible, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
