package awsfake_test

import (
	"cmp"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func (w world) change(t *testing.T, queue string, receipt *string, seconds int32) error {
	t.Helper()
	_, err := w.sqs.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &queue, ReceiptHandle: receipt, VisibilityTimeout: seconds,
	})
	return err
}

func (w world) remove(t *testing.T, queue string, receipt *string) error {
	t.Helper()
	_, err := w.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &queue, ReceiptHandle: receipt})
	return err
}

var sqsBehaviours = []behaviour{
	{"a message is received with its attributes and is gone once deleted", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		before := time.Now().Add(-time.Second)
		w.send(t, queue, "hello")
		m := w.one(t, queue)
		if *m.Body != "hello" || *m.MD5OfBody != fmt.Sprintf("%x", md5.Sum([]byte("hello"))) || *m.MessageId == "" {
			t.Errorf("message %q, MD5 %s, id %q", *m.Body, *m.MD5OfBody, *m.MessageId)
		}
		if m.Attributes["ApproximateReceiveCount"] != "1" {
			t.Errorf("attributes %v", m.Attributes)
		}
		for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp"} {
			at, err := strconv.ParseInt(m.Attributes[name], 10, 64)
			if err != nil || time.UnixMilli(at).Before(before) || time.UnixMilli(at).After(time.Now().Add(time.Second)) {
				t.Errorf("%s is %q", name, m.Attributes[name])
			}
		}
		w.wantDepth(t, queue, 0, 1, 0)
		if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
			t.Errorf("delete: %v", err)
		}
		w.wantDepth(t, queue, 0, 0, 0)
		if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
			t.Errorf("delete again: %v", err)
		}
	}},
	{"attributes come by either of the names to ask for them, and only those asked for", func(t *testing.T, w world) {
		queue, _ := w.queue(t, map[string]string{"VisibilityTimeout": "0"})
		w.send(t, queue, "hello")
		for count, in := range []*sqs.ReceiveMessageInput{
			{AttributeNames: []types.QueueAttributeName{"ApproximateReceiveCount"}}, // as old SDKs ask
			{MessageSystemAttributeNames: []types.MessageSystemAttributeName{"ApproximateReceiveCount"}},
		} {
			in.QueueUrl, in.WaitTimeSeconds = &queue, 5
			out, err := w.sqs.ReceiveMessage(t.Context(), in)
			if err != nil || len(out.Messages) != 1 {
				t.Fatalf("receive: %v, %v", out, err)
			}
			got := out.Messages[0].Attributes
			if len(got) != 1 || got["ApproximateReceiveCount"] != strconv.Itoa(count+1) {
				t.Errorf("attributes %v at receive %d", got, count+1)
			}
		}
	}},
	{"a received message is hidden until its visibility is changed to 0", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.send(t, queue, "hello")
		m := w.one(t, queue)
		w.none(t, queue)
		if err := w.change(t, queue, m.ReceiptHandle, 0); err != nil {
			t.Errorf("change visibility: %v", err)
		}
		again := w.one(t, queue)
		if *again.MessageId != *m.MessageId || again.Attributes["ApproximateReceiveCount"] != "2" {
			t.Errorf("received %s then %s with %v", *m.MessageId, *again.MessageId, again.Attributes)
		}
		if again.Attributes["ApproximateFirstReceiveTimestamp"] != m.Attributes["ApproximateFirstReceiveTimestamp"] {
			t.Errorf("first receive at %v then %v", m.Attributes, again.Attributes)
		}
	}},
	{"a lease that ends brings the message back, one that is extended does not", func(t *testing.T, w world) {
		queue, _ := w.queue(t, map[string]string{"VisibilityTimeout": "2"})
		w.send(t, queue, "short")
		w.send(t, queue, "extended")
		for _, m := range w.receive(t, queue) {
			if *m.Body == "extended" {
				if err := w.change(t, queue, m.ReceiptHandle, 600); err != nil {
					t.Errorf("extend: %v", err)
				}
			}
		}
		if m := w.one(t, queue); *m.Body != "short" {
			t.Errorf("%q came back", *m.Body)
		}
		w.wantDepth(t, queue, 0, 2, 0)
	}},
	{"a lease of more than 12 hours since the receive is refused", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.send(t, queue, "hello")
		m := w.one(t, queue)
		wantCode(t, w.change(t, queue, m.ReceiptHandle, 43200), "InvalidParameterValue", 400)
		wantCode(t, w.change(t, queue, m.ReceiptHandle, 43201), "InvalidParameterValue", 400)
		if err := w.change(t, queue, m.ReceiptHandle, 43000); err != nil {
			t.Errorf("extend to just below: %v", err)
		}
	}},
	{"a receipt that never was one is refused", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		err := w.change(t, queue, aws.String("nonsense"), 10)
		if _, ok := errors.AsType[*types.ReceiptHandleIsInvalid](err); !ok {
			t.Errorf("change visibility: %v", err)
		}
		wantCode(t, w.remove(t, queue, aws.String("nonsense")), "ReceiptHandleIsInvalid", 0)
		other, _ := w.queue(t, nil)
		w.send(t, other, "hello")
		wantCode(t, w.change(t, queue, w.one(t, other).ReceiptHandle, 10), "ReceiptHandleIsInvalid", 0)
	}},
	{"a receive that does not say how many gets one message", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.send(t, queue, "first")
		w.send(t, queue, "second")
		out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
		if err != nil || len(out.Messages) != 1 {
			t.Errorf("received %v, %v", out, err)
		}
		w.wantDepth(t, queue, 1, 1, 0)
	}},
	{"the receipt of a deleted message extends nothing", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.send(t, queue, "hello")
		m := w.one(t, queue)
		if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
			t.Errorf("delete: %v", err)
		}
		wantCode(t, w.change(t, queue, m.ReceiptHandle, 10), cmp.Or(w.differs.deletedReceiptCode, "InvalidParameterValue"), 0)
	}},
	{"the receipt of an earlier receive neither deletes nor extends", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.send(t, queue, "hello")
		old := w.one(t, queue)
		if err := w.change(t, queue, old.ReceiptHandle, 0); err != nil {
			t.Errorf("give back: %v", err)
		}
		w.one(t, queue)
		err := w.change(t, queue, old.ReceiptHandle, 10)
		if w.differs.oldReceiptsWork {
			if err != nil {
				t.Errorf("extend: %v", err)
			}
		} else {
			wantCode(t, err, "InvalidParameterValue", 400)
		}
		if err := w.remove(t, queue, old.ReceiptHandle); err != nil {
			t.Errorf("delete: %v", err)
		}
		left := 1
		if w.differs.oldReceiptsWork {
			left = 0
		}
		w.wantDepth(t, queue, 0, left, 0)
	}},
	{"a long poll ends with the first message", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		got := make(chan *sqs.ReceiveMessageOutput, 1)
		start := time.Now()
		go func() {
			out, _ := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, WaitTimeSeconds: 20})
			got <- out
		}()
		w.send(t, queue, "hello")
		out := <-got
		if out == nil || len(out.Messages) != 1 || time.Since(start) >= 20*time.Second { // it has not waited to its end
			t.Errorf("received %v after %v", out, time.Since(start))
		}
	}},
	{"an empty queue answers a short wait with nothing", func(t *testing.T, w world) {
		queue, _ := w.queue(t, map[string]string{"ReceiveMessageWaitTimeSeconds": "1"})
		start := time.Now()
		out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
		if err != nil || len(out.Messages) != 0 || time.Since(start) < time.Second {
			t.Errorf("received %v, %v after %v", out, err, time.Since(start))
		}
	}},
	{"a message received too often goes to the dead-letter queue", func(t *testing.T, w world) {
		dead, deadARN := w.queue(t, nil)
		queue, _ := w.queue(t, map[string]string{
			"RedrivePolicy": `{"deadLetterTargetArn":"` + deadARN + `","maxReceiveCount":"2"}`,
		})
		w.send(t, queue, "hello")
		var id string
		for range 2 {
			m := w.one(t, queue)
			id = *m.MessageId
			if err := w.change(t, queue, m.ReceiptHandle, 0); err != nil {
				t.Errorf("give back: %v", err)
			}
		}
		w.wantDepth(t, queue, 1, 0, 0)
		w.none(t, queue)
		w.wantDepth(t, queue, 0, 0, 0)
		if m := w.one(t, dead); *m.Body != "hello" || *m.MessageId != id {
			t.Errorf("the dead letter is %q, %s, want %s", *m.Body, *m.MessageId, id)
		}
	}},
	{"counters tell visible, in flight and delayed messages", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		w.wantDepth(t, queue, 0, 0, 0)
		w.send(t, queue, "first")
		w.one(t, queue)
		w.send(t, queue, "second")
		w.send(t, queue, "third")
		if _, err := w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{
			QueueUrl: &queue, MessageBody: aws.String("late"), DelaySeconds: 600,
		}); err != nil {
			t.Errorf("send: %v", err)
		}
		w.wantDepth(t, queue, 2, 1, 1)
		if _, err := w.sqs.PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: &queue}); err != nil {
			t.Errorf("purge: %v", err)
		}
		w.wantDepth(t, queue, 0, 0, 0)
	}},
	{"batches send, extend and delete, and say which entries failed", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		var send []types.SendMessageBatchRequestEntry
		for _, body := range []string{"a", "b", "c"} {
			send = append(send, types.SendMessageBatchRequestEntry{Id: aws.String("id-" + body), MessageBody: aws.String(body)})
		}
		sent, err := w.sqs.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &queue, Entries: send})
		if err != nil || len(sent.Successful) != 3 || len(sent.Failed) != 0 {
			t.Fatalf("send: %+v, %v", sent, err)
		}
		messages := w.receive(t, queue)
		if got := bodies(messages); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatalf("received %v", got)
		}
		change := []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("good"), ReceiptHandle: messages[0].ReceiptHandle, VisibilityTimeout: 0},
			{Id: aws.String("bad"), ReceiptHandle: aws.String("nonsense"), VisibilityTimeout: 0},
		}
		changed, err := w.sqs.ChangeMessageVisibilityBatch(t.Context(), &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &queue, Entries: change})
		if err != nil || len(changed.Successful) != 1 || len(changed.Failed) != 1 || *changed.Failed[0].Id != "bad" {
			t.Errorf("change visibility: %+v, %v", changed, err)
		}
		deleted, err := w.sqs.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{
			QueueUrl: &queue, Entries: []types.DeleteMessageBatchRequestEntry{
				{Id: aws.String("b"), ReceiptHandle: messages[1].ReceiptHandle}, {Id: aws.String("bad"), ReceiptHandle: aws.String("nonsense")},
			},
		})
		if err != nil || len(deleted.Successful) != 1 || len(deleted.Failed) != 1 || *deleted.Failed[0].Code != "ReceiptHandleIsInvalid" {
			t.Errorf("delete: %+v, %v", deleted, err)
		}
		if m := w.one(t, queue); *m.Body != "a" {
			t.Errorf("%q came back", *m.Body)
		}
		_, err = w.sqs.DeleteMessageBatch(t.Context(), &sqs.DeleteMessageBatchInput{QueueUrl: &queue, Entries: []types.DeleteMessageBatchRequestEntry{}})
		wantCode(t, err, "AWS.SimpleQueueService.EmptyBatchRequest", 400)
	}},
	{"a queue that does not exist is an error of its own type", func(t *testing.T, w world) {
		queue, _ := w.queue(t, nil)
		if _, err := w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &queue}); err != nil {
			t.Fatalf("delete queue: %v", err)
		}
		_, receive := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue})
		_, send := w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: aws.String("hello")})
		_, get := w.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("no-such-queue")})
		for what, err := range map[string]error{"receive": receive, "send": send, "get url": get} {
			if _, ok := errors.AsType[*types.QueueDoesNotExist](err); !ok {
				t.Errorf("%s: %v", what, err)
			}
			wantStatus(t, err, 400)
		}
	}},
	{"a queue is created once and found by name, tags and attributes", func(t *testing.T, w world) {
		queue := name("queue")
		in := &sqs.CreateQueueInput{QueueName: &queue, Attributes: map[string]string{"VisibilityTimeout": "120"}, Tags: map[string]string{"a": "1"}}
		first, err := w.sqs.CreateQueue(t.Context(), in)
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		again, err := w.sqs.CreateQueue(t.Context(), in)
		if err != nil || *again.QueueUrl != *first.QueueUrl {
			t.Errorf("create again: %v, %v", again, err)
		}
		in.Attributes = map[string]string{"VisibilityTimeout": "60"}
		_, err = w.sqs.CreateQueue(t.Context(), in)
		if _, ok := errors.AsType[*types.QueueNameExists](err); !ok {
			t.Errorf("create with other attributes: %v", err)
		}
		found, err := w.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &queue})
		if err != nil || *found.QueueUrl != *first.QueueUrl {
			t.Errorf("get url: %v, %v", found, err)
		}
		list, err := w.sqs.ListQueues(t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: &queue})
		if err != nil || !slices.Contains(list.QueueUrls, *first.QueueUrl) {
			t.Errorf("list: %v, %v", list, err)
		}
		if _, err := w.sqs.TagQueue(t.Context(), &sqs.TagQueueInput{QueueUrl: first.QueueUrl, Tags: map[string]string{"b": "2"}}); err != nil {
			t.Errorf("tag: %v", err)
		}
		if _, err := w.sqs.UntagQueue(t.Context(), &sqs.UntagQueueInput{QueueUrl: first.QueueUrl, TagKeys: []string{"a"}}); err != nil {
			t.Errorf("untag: %v", err)
		}
		tags, err := w.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: first.QueueUrl})
		if err != nil || len(tags.Tags) != 1 || tags.Tags["b"] != "2" {
			t.Errorf("tags %v, %v", tags, err)
		}
	}},
	{"attributes are set, read and checked", func(t *testing.T, w world) {
		queue, arn := w.queue(t, nil)
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:*","Resource":"*"}]}`
		if _, err := w.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
			QueueUrl: &queue, Attributes: map[string]string{"VisibilityTimeout": "7", "Policy": policy},
		}); err != nil {
			t.Fatalf("set: %v", err)
		}
		out, err := w.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{"VisibilityTimeout", "QueueArn", "DelaySeconds"},
		})
		if err != nil || len(out.Attributes) != 3 || out.Attributes["VisibilityTimeout"] != "7" ||
			out.Attributes["QueueArn"] != arn || out.Attributes["DelaySeconds"] != "0" {
			t.Errorf("attributes %v, %v", out, err)
		}
		out, err = w.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{"All"},
		})
		if err != nil || out.Attributes["Policy"] == "" || out.Attributes["MessageRetentionPeriod"] != "345600" ||
			out.Attributes["CreatedTimestamp"] == "" {
			t.Errorf("attributes %v, %v", out, err)
		}
		_, err = w.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{"Nonsense"},
		})
		wantCode(t, err, "InvalidAttributeName", 400)
	}},
}
