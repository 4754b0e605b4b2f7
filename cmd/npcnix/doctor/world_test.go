package doctor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/integration/awsfake"
)

// world is an AWS with one chain in it, which is healthy until a test breaks it.
type world struct {
	t   *testing.T
	s3  *s3.Client
	sns *sns.Client
	sqs *sqs.Client

	bucket, key                    string
	topic, subscription            string
	queue, queueARN, dead, deadARN string
}

// enter makes an endpoint this process's AWS.
func enter(t *testing.T, endpoint string) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "",
		"AWS_REGION": awsfake.Region, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
}

// newWorld builds the chain that docs/aws.md describes, with names from salt.
func newWorld(t *testing.T, endpoint, salt string) *world {
	t.Helper()
	cfg := awsfake.Config(endpoint)
	w := &world{
		t: t, s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg),
		bucket: "fleet-" + salt, key: "remotes/dev.npcnix",
	}
	ctx := t.Context()
	_, err := w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &w.bucket})
	w.must(err)
	topic, err := w.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("npcnix-" + salt)})
	w.must(err)
	w.topic = *topic.TopicArn
	w.topicPolicy(allow("s3.amazonaws.com", "sns:Publish", w.topic,
		`{"ArnLike":{"aws:SourceArn":"arn:aws:s3:::`+w.bucket+`"},"StringEquals":{"aws:SourceAccount":"`+awsfake.Account+`"}}`))
	w.notify(w.key, "s3:ObjectCreated:*")

	account := "arn:aws:sqs:" + awsfake.Region + ":" + awsfake.Account + ":"
	w.queueARN, w.deadARN = account+"web1-"+salt, account+"web1-"+salt+"-dead"
	dead, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("web1-" + salt + "-dead"), Attributes: map[string]string{"MessageRetentionPeriod": "1209600"}})
	w.must(err)
	w.dead = *dead.QueueUrl
	queue, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("web1-" + salt), Attributes: map[string]string{
		"MessageRetentionPeriod": "604800",
		"RedrivePolicy":          fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"10"}`, w.deadARN),
		"Policy":                 w.queuePolicy(),
	}})
	w.must(err)
	w.queue = *queue.QueueUrl
	w.subscribe("true")
	w.put(w.key)
	return w
}

func allow(service, action, resource, condition string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"` + action +
		`","Resource":"` + resource + `","Condition":` + condition + `}]}`
}

func (w *world) queuePolicy() string {
	return allow("sns.amazonaws.com", "sqs:SendMessage", w.queueARN, `{"ArnEquals":{"aws:SourceArn":"`+w.topic+`"}}`)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(key string) {
	w.t.Helper()
	_, err := w.s3.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &w.bucket, Key: &key, Body: strings.NewReader("flake")})
	w.must(err)
}

func (w *world) topicPolicy(policy string) {
	w.t.Helper()
	_, err := w.sns.SetTopicAttributes(w.t.Context(), &sns.SetTopicAttributesInput{TopicArn: &w.topic, AttributeName: aws.String("Policy"), AttributeValue: &policy})
	w.must(err)
}

// notify has the bucket tell the topic of keys with this prefix, and the suffix of packed flakes.
func (w *world) notify(prefix string, events ...s3types.Event) {
	w.t.Helper()
	w.notifyOf(prefix, ".npcnix", events...)
}

// notifyOf has the bucket tell the topic of keys with this prefix and this suffix, if it is not empty.
func (w *world) notifyOf(prefix, suffix string, events ...s3types.Event) {
	w.t.Helper()
	n := &s3types.NotificationConfiguration{}
	rules := []s3types.FilterRule{{Name: "prefix", Value: &prefix}}
	if suffix != "" {
		rules = append(rules, s3types.FilterRule{Name: "suffix", Value: &suffix})
	}
	if len(events) > 0 {
		n.TopicConfigurations = []s3types.TopicConfiguration{{
			TopicArn: &w.topic, Events: events,
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: rules}},
		}}
	}
	_, err := w.s3.PutBucketNotificationConfiguration(w.t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: &w.bucket, NotificationConfiguration: n})
	w.must(err)
}

func (w *world) subscribe(raw string) {
	w.t.Helper()
	out, err := w.sns.Subscribe(w.t.Context(), &sns.SubscribeInput{
		TopicArn: &w.topic, Protocol: aws.String("sqs"), Endpoint: &w.queueARN, ReturnSubscriptionArn: true,
		Attributes: map[string]string{"RawMessageDelivery": raw},
	})
	w.must(err)
	w.subscription = *out.SubscriptionArn
}

func (w *world) unsubscribe() {
	w.t.Helper()
	_, err := w.sns.Unsubscribe(w.t.Context(), &sns.UnsubscribeInput{SubscriptionArn: &w.subscription})
	w.must(err)
}

// set changes attributes of a queue. moto forgets a policy that is not given again.
func (w *world) set(queue string, attributes map[string]string) {
	w.t.Helper()
	if queue == w.queue && attributes["Policy"] == "" {
		attributes["Policy"] = w.queuePolicy()
	}
	_, err := w.sqs.SetQueueAttributes(w.t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &queue, Attributes: attributes})
	w.must(err)
}

func (w *world) deleteQueue(queue string) {
	w.t.Helper()
	_, err := w.sqs.DeleteQueue(w.t.Context(), &sqs.DeleteQueueInput{QueueUrl: &queue})
	w.must(err)
}

func (w *world) options() doctor.Options {
	return doctor.Options{Remote: "s3://" + w.bucket + "/" + w.key, QueueURL: w.queue}
}

// examine runs the doctor and returns what it finds, by link.
func examine(t *testing.T, o doctor.Options) map[string]doctor.Finding {
	t.Helper()
	found := map[string]doctor.Finding{}
	err := doctor.Run(t.Context(), o, func(f doctor.Finding) {
		if _, twice := found[f.Link]; twice {
			t.Errorf("%s is told twice", f.Link)
		}
		found[f.Link] = f
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
