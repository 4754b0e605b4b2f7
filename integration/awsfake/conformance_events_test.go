package awsfake_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// event is what a receiver may rely on in an S3 event.
type event struct {
	Version string `json:"eventVersion"`
	Source  string `json:"eventSource"`
	Region  string `json:"awsRegion"`
	Time    string `json:"eventTime"`
	Name    string `json:"eventName"`
	S3      struct {
		ConfigurationID string `json:"configurationId"`
		Bucket          struct {
			Name string `json:"name"`
			ARN  string `json:"arn"`
		} `json:"bucket"`
		Object struct {
			Key       string  `json:"key"`
			Size      *int    `json:"size"`
			ETag      string  `json:"eTag"`
			VersionID *string `json:"versionId"`
			Sequencer *string `json:"sequencer"`
		} `json:"object"`
	} `json:"s3"`
}

func parse(t *testing.T, body string) event {
	t.Helper()
	var in struct{ Records []event }
	if err := json.Unmarshal([]byte(body), &in); err != nil || len(in.Records) != 1 {
		t.Fatalf("want one record, got %v, %v in %s", in.Records, err, body)
	}
	return in.Records[0]
}

// drain receives and deletes what is in the queue, and returns the bodies.
func (w world) drain(t *testing.T, queue string) (all []string) {
	t.Helper()
	for {
		out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			all = append(all, *m.Body)
			if err := w.remove(t, queue, m.ReceiptHandle); err != nil {
				t.Fatalf("delete: %v", err)
			}
		}
	}
}

// notify has a bucket tell queues and topics of created and removed objects whose keys start and end so.
func (w world) notify(t *testing.T, bucket, prefix, suffix string, queues, topics []string) {
	t.Helper()
	events := []s3types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}
	var filter *s3types.NotificationConfigurationFilter
	if prefix+suffix != "" {
		filter = &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{
			{Name: s3types.FilterRuleNamePrefix, Value: &prefix}, {Name: s3types.FilterRuleNameSuffix, Value: &suffix},
		}}}
	}
	var c s3types.NotificationConfiguration
	for _, arn := range queues {
		c.QueueConfigurations = append(c.QueueConfigurations, s3types.QueueConfiguration{
			Id: aws.String("to-queue"), QueueArn: &arn, Events: events, Filter: filter,
		})
	}
	for _, arn := range topics {
		c.TopicConfigurations = append(c.TopicConfigurations, s3types.TopicConfiguration{
			Id: aws.String("to-topic"), TopicArn: &arn, Events: events, Filter: filter,
		})
	}
	if _, err := w.s3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &bucket, NotificationConfiguration: &c,
	}); err != nil {
		t.Fatalf("put notification configuration: %v", err)
	}
}

// notified is a bucket that tells a queue of everything; its test event is received already.
func (w world) notified(t *testing.T) (bucket, queue string) {
	t.Helper()
	bucket = w.bucket(t)
	queue, arn := w.queue(t, nil)
	w.notify(t, bucket, "", "", []string{arn}, nil)
	w.drain(t, queue)
	return bucket, queue
}

// fed is a bucket that tells a queue of everything through a topic.
func (w world) fed(t *testing.T, raw string) (bucket, queue, topic string) {
	t.Helper()
	bucket, topic = w.bucket(t), w.topic(t)
	queue, arn := w.queue(t, nil)
	w.subscribe(t, topic, arn, raw)
	w.notify(t, bucket, "", "", nil, []string{topic})
	return bucket, queue, topic
}

var eventBehaviours = []behaviour{
	{"a put is told to a queue with all that identifies the object", func(t *testing.T, w world) {
		bucket, queue := w.notified(t)
		w.put(t, bucket, "hosts/a b+ü.npcnix", "hello")
		e := parse(t, *w.one(t, queue).Body)
		if !strings.HasPrefix(e.Version, "2.") || e.Source != "aws:s3" || e.Region != "us-east-1" || e.Name != "ObjectCreated:Put" {
			t.Errorf("event %+v", e)
		}
		at, err := time.Parse(cmp.Or(w.differs.eventTimeLayout, time.RFC3339), e.Time)
		if err != nil || time.Since(at).Abs() > time.Hour && w.differs.eventTimeLayout == "" {
			t.Errorf("event time %s, %v", e.Time, err)
		}
		o := e.S3.Object
		if e.S3.Bucket.Name != bucket || e.S3.Bucket.ARN != "arn:aws:s3:::"+bucket || e.S3.ConfigurationID != "to-queue" ||
			*o.Size != 5 || o.ETag != strings.Trim(helloMD5, `"`) || o.VersionID != nil {
			t.Errorf("event %+v", e)
		}
		if want := "hosts" + w.differs.slash() + "a+b%2B%C3%BC.npcnix"; o.Key != want {
			t.Errorf("key %s, want %s", o.Key, want)
		}
		if (o.Sequencer == nil) != w.differs.noSequencer {
			t.Errorf("sequencer %v", o.Sequencer)
		}
	}},
	{"sequencers of one key grow", func(t *testing.T, w world) {
		bucket, queue := w.notified(t)
		for range 3 {
			w.put(t, bucket, "k", "hello")
		}
		var sequencers []string
		for _, body := range w.drain(t, queue) {
			if s := parse(t, body).S3.Object.Sequencer; s != nil {
				sequencers = append(sequencers, *s)
			}
		}
		if w.differs.noSequencer {
			if len(sequencers) != 0 {
				t.Errorf("sequencers %v", sequencers)
			}
			return
		}
		if len(sequencers) != 3 || !slices.IsSorted(sequencers) || len(sequencers[0]) != len(sequencers[2]) || sequencers[0] == sequencers[1] {
			t.Errorf("sequencers %v", sequencers)
		}
	}},
	{"only keys with the prefix and the suffix are told", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		queue, arn := w.queue(t, nil)
		w.notify(t, bucket, "hosts/", ".npcnix", []string{arn}, nil)
		w.drain(t, queue)
		for _, key := range []string{"hosts/web.npcnix", "hosts/web.npcnix.acks/web1.json", "other/web.npcnix", "hosts/.npcnix"} {
			w.put(t, bucket, key, "hello")
		}
		var keys []string
		for _, body := range w.drain(t, queue) {
			keys = append(keys, strings.ReplaceAll(parse(t, body).S3.Object.Key, "%2F", "/"))
		}
		if want := []string{"hosts/web.npcnix", "hosts/.npcnix"}; !slices.Equal(keys, want) {
			t.Errorf("told of %v, want %v", keys, want)
		}
	}},
	{"events are named for what happened", func(t *testing.T, w world) {
		bucket, queue := w.notified(t)
		w.put(t, bucket, "k", "hello")
		if _, err := w.s3.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String(bucket + "/k")}); err != nil {
			t.Fatalf("copy: %v", err)
		}
		if _, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")}); err != nil {
			t.Fatalf("delete: %v", err)
		}
		w.multipart(t, bucket, "parts", [][]byte{bytes.Repeat([]byte("a"), 5<<20), []byte("b")})
		var names []string
		for _, body := range w.drain(t, queue) {
			e := parse(t, body)
			names = append(names, e.Name+" "+e.S3.Object.Key)
			if e.Name == "ObjectCreated:CompleteMultipartUpload" && (*e.S3.Object.Size != 5<<20+1 || !strings.HasSuffix(e.S3.Object.ETag, "-2")) {
				t.Errorf("event %s", body)
			}
		}
		want := []string{"ObjectCreated:Put k", "ObjectCreated:Copy copy", "ObjectRemoved:Delete k"}
		if w.differs.multipartAlsoPut {
			want = append(want, "ObjectCreated:Put parts")
		}
		want = append(want, "ObjectCreated:CompleteMultipartUpload parts")
		if !slices.Equal(names, want) {
			t.Errorf("events %q, want %q", names, want)
		}
	}},
	{"events of a versioned bucket name the version", func(t *testing.T, w world) {
		bucket, queue := w.notified(t)
		w.version(t, bucket)
		put := w.put(t, bucket, "k", "hello")
		got := parse(t, *w.one(t, queue).Body).S3.Object.VersionID
		if w.differs.noEventVersion {
			if got != nil {
				t.Errorf("version %s", *got)
			}
		} else if aws.ToString(got) != *put.VersionId {
			t.Errorf("version %s, want %s", aws.ToString(got), *put.VersionId)
		}
	}},
	{"a new configuration sends a test event to each destination", func(t *testing.T, w world) {
		bucket, topic := w.bucket(t), w.topic(t)
		direct, directARN := w.queue(t, nil)
		behind, behindARN := w.queue(t, nil)
		w.subscribe(t, topic, behindARN, "true")
		w.notify(t, bucket, "", "", []string{directARN}, []string{topic})
		for _, queue := range []string{direct, behind} {
			var got map[string]string
			body := *w.one(t, queue).Body
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if got["Service"] != "Amazon S3" || got["Event"] != "s3:TestEvent" || got["Bucket"] != bucket || got["Time"] == "" {
				t.Errorf("test event %v", got)
			}
			if bare := got["RequestId"] == "" && got["HostId"] == ""; bare != w.differs.testEventBare {
				t.Errorf("test event %v", got)
			}
		}
	}},
	{"a configuration is replaced as a whole and can be read", func(t *testing.T, w world) {
		bucket, queue := w.notified(t)
		_, other := w.queue(t, nil)
		w.notify(t, bucket, "a/", ".z", []string{other}, nil)
		w.put(t, bucket, "a/k.z", "hello")
		w.none(t, queue)
		out, err := w.s3.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
		if err != nil || len(out.QueueConfigurations) != 1 || len(out.TopicConfigurations) != 0 {
			t.Fatalf("configuration %+v, %v", out, err)
		}
		c := out.QueueConfigurations[0]
		if *c.QueueArn != other || len(c.Events) != 2 || len(c.Filter.Key.FilterRules) != 2 || *c.Filter.Key.FilterRules[0].Value != "a/" {
			t.Errorf("configuration %+v", c)
		}
	}},
	{"a configuration for a queue that does not exist is refused", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		_, err := w.s3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
			Bucket: &bucket, NotificationConfiguration: &s3types.NotificationConfiguration{
				QueueConfigurations: []s3types.QueueConfiguration{{
					QueueArn: aws.String("arn:aws:sqs:us-east-1:123456789012:no-such-queue"), Events: []s3types.Event{"s3:ObjectCreated:*"},
				}},
			},
		})
		if w.differs.anyDestination {
			if err != nil {
				t.Errorf("put: %v", err)
			}
			return
		}
		wantCode(t, err, "InvalidArgument", 400)
	}},
	{"a raw subscription delivers the event itself", func(t *testing.T, w world) {
		bucket, queue, _ := w.fed(t, "true")
		w.drain(t, queue)
		w.put(t, bucket, "k", "hello")
		if e := parse(t, *w.one(t, queue).Body); e.S3.Object.Key != "k" {
			t.Errorf("event %+v", e)
		}
	}},
	{"a plain subscription delivers the event in an envelope", func(t *testing.T, w world) {
		bucket, queue, topic := w.fed(t, "")
		w.drain(t, queue)
		w.put(t, bucket, "k", "hello")
		var e struct{ Type, MessageId, TopicArn, Subject, Message, Timestamp, SignatureVersion, Signature, SigningCertURL, UnsubscribeURL string }
		body := *w.one(t, queue).Body
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if e.Type != "Notification" || e.MessageId == "" || e.TopicArn != topic || e.SignatureVersion == "" || e.Signature == "" ||
			e.SigningCertURL == "" || e.UnsubscribeURL == "" {
			t.Errorf("envelope %s", body)
		}
		if _, err := time.Parse(time.RFC3339, e.Timestamp); err != nil {
			t.Errorf("timestamp: %v", err)
		}
		if (e.Subject == "Amazon S3 Notification") == w.differs.noSubject {
			t.Errorf("subject %q", e.Subject)
		}
		if inner := parse(t, e.Message); inner.S3.Object.Key != "k" {
			t.Errorf("event %+v", inner)
		}
	}},
}
