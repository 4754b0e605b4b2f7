package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/integration/awsfake"
)

const (
	bucket = "fleet"
	key    = "npcnix/remotes/dev.npcnix"
	remote = "s3://" + bucket + "/" + key
)

// world is an AWS, awsfake or moto, with a bucket that tells a topic of publishes.
type world struct {
	t        testing.TB
	endpoint string
	s3       *s3.Client
	sns      *sns.Client
	sqs      *sqs.Client
	topic    string
	settings []string // further environment of what uses it
}

// worldAt is an AWS with nothing in it.
func worldAt(t testing.TB, endpoint string) *world {
	cfg := awsfake.Config(endpoint)
	return &world{
		t: t, endpoint: endpoint,
		s3:  s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
		sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg),
	}
}

// newFakeWorld is newWorld on an awsfake of its own.
func newFakeWorld(t *testing.T) *world {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return newWorld(t, cloud.URL())
}

func newWorld(t testing.TB, endpoint string) *world {
	t.Helper()
	w := worldAt(t, endpoint)
	ctx := t.Context()
	_, err := w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	w.must(err)
	topic, err := w.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("npcnix-dev")})
	w.must(err)
	w.topic = *topic.TopicArn
	w.notify(true)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// notify configures the bucket's notification, or takes it away.
func (w *world) notify(on bool) {
	w.t.Helper()
	c := &s3types.NotificationConfiguration{}
	if on {
		c.TopicConfigurations = []s3types.TopicConfiguration{{
			TopicArn: &w.topic, Events: []s3types.Event{"s3:ObjectCreated:*"},
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{
				{Name: s3types.FilterRuleNamePrefix, Value: aws.String(key)},
				{Name: s3types.FilterRuleNameSuffix, Value: aws.String(".npcnix")},
			}}},
		}}
	}
	_, err := w.s3.PutBucketNotificationConfiguration(w.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucket), NotificationConfiguration: c,
	})
	w.must(err)
}

// queue makes a host's queue, its dead-letter queue, and its subscription.
func (w *world) queue(name string, maxReceives int) (url, dead string) {
	w.t.Helper()
	ctx := w.t.Context()
	make := func(name string, attributes map[string]string) (url, arn string) {
		q, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		w.must(err)
		a, err := w.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: q.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"},
		})
		w.must(err)
		return *q.QueueUrl, a.Attributes["QueueArn"]
	}
	dead, deadARN := make(name+"-dead", nil)
	url, arn := make(name, map[string]string{
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, deadARN, maxReceives),
	})
	_, err := w.sns.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: &w.topic, Protocol: aws.String("sqs"), Endpoint: &arn,
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	w.must(err)
	return url, dead
}

// depth returns how many messages a queue has, visible and in flight.
func (w *world) depth(url string) (visible, inFlight string) {
	w.t.Helper()
	a, err := w.sqs.GetQueueAttributes(w.t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl:       &url,
		AttributeNames: []sqstypes.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"},
	})
	w.must(err)
	return a.Attributes["ApproximateNumberOfMessages"], a.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

// etag returns the ETag of the published flake, without quotes.
func (w *world) etag() string {
	w.t.Helper()
	out, err := w.s3.HeadObject(w.t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	w.must(err)
	return strings.Trim(*out.ETag, `"`)
}

// env is the environment of a child process that uses this AWS and nothing else.
func (w *world) env() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AWS_") {
			env = append(env, e)
		}
	}
	env = append(env, w.settings...)
	return append(env, "AWS_ENDPOINT_URL="+w.endpoint, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_REGION="+awsfake.Region, "AWS_DEFAULT_REGION="+awsfake.Region, "AWS_EC2_METADATA_DISABLED=true")
}

// copy puts a file where the remote is, or elsewhere in the bucket, with the AWS CLI.
func (w *world) copy(file, to string) {
	w.t.Helper()
	cmd := exec.Command(need(w.t, "aws"), "s3", "cp", "--quiet", file, to)
	cmd.Env = w.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("aws s3 cp: %v\n%s", err, out)
	}
}

// run runs npcnix to its end and returns what it printed to stdout.
func (w *world) run(args ...string) string {
	w.t.Helper()
	cmd := exec.Command(npcnix, args...)
	cmd.Env = w.env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("npcnix %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}
