package awsfake_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/integration/versity"
)

// world is one AWS, through the clients of the real SDK, and where it is known not to be like the real one.
type world struct {
	s3      *s3.Client
	sns     *sns.Client
	sqs     *sqs.Client
	sts     *sts.Client
	differs differences
}

// differences are what a world is known to do unlike AWS. The zero value is AWS. A behaviour that does not
// hold any more, difference included, fails its test, so that this list stays true.
type differences struct {
	eventKeySlash      string // what a slash in an event's key is written as, when it is not "/"
	eventTimeLayout    string // when it is not RFC 3339
	noSequencer        bool   // events have none
	multipartAlsoPut   bool   // a multipart upload ends with two events, Put and CompleteMultipartUpload
	noDefaultChecksum  bool   // a checksum is kept only where the request also names its algorithm
	oldReceiptsWork    bool   // a receipt of an earlier receive still deletes and extends
	deletedReceiptCode string // the error for extending a deleted message, when it is not InvalidParameterValue
	anyDestination     bool   // notifications to queues that do not exist are accepted
	noSubject          bool   // S3's messages have no subject in the SNS envelope
	noEventVersion     bool   // events of versioned buckets name no version
	multipartAlgorithm bool   // an upload whose parts have checksums must name the algorithm at its beginning
	testEventBare      bool   // the test event has neither RequestId nor HostId
	versionPages       bool   // a page of versions that begins at one from before versioning has it once more
}

var motoDiffers = differences{
	eventKeySlash:      "%2F",
	eventTimeLayout:    "2006-01-02T15:04:05.000000",
	noSequencer:        true,
	multipartAlsoPut:   true,
	oldReceiptsWork:    true,
	deletedReceiptCode: "ReceiptHandleIsInvalid",
	anyDestination:     true,
	noSubject:          true,
	noDefaultChecksum:  true,
	noEventVersion:     true,
	testEventBare:      true,
}

var versityDiffers = differences{multipartAlgorithm: true, versionPages: true}

func newWorld(endpoint string, d differences) world {
	config := awsfake.Config(endpoint)
	config.RetryMaxAttempts = 1 // a test asks once
	return world{s3: s3.NewFromConfig(config), sns: sns.NewFromConfig(config), sqs: sqs.NewFromConfig(config), sts: sts.NewFromConfig(config), differs: d}
}

// start starts a cloud that ends with the test.
func start(t *testing.T) *awsfake.Cloud {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

// behaviour is something that holds for AWS, and is asked of every world.
type behaviour struct {
	name string
	test func(*testing.T, world)
}

func TestConformance(t *testing.T) {
	t.Run("of awsfake", awsfakeConforms)
	t.Run("of moto", motoConforms)
	t.Run("of versitygw", versityConforms)
}

func awsfakeConforms(t *testing.T) {
	t.Parallel()
	runConformance(t, newWorld(start(t).URL(), differences{}))
}

func motoConforms(t *testing.T) {
	t.Parallel()
	runConformance(t, newWorld(moto.Start(t), motoDiffers))
}

// versitygw is an S3 alone.
func versityConforms(t *testing.T) {
	t.Parallel()
	w := newWorld(versity.Start(t).URL, versityDiffers)
	for _, b := range s3Behaviours {
		t.Run(b.name, func(t *testing.T) { b.test(t, w) })
	}
}

func runConformance(t *testing.T, w world) {
	for _, suite := range [][]behaviour{s3Behaviours, sqsBehaviours, snsBehaviours, eventBehaviours, stsBehaviours} {
		for _, b := range suite {
			t.Run(b.name, func(t *testing.T) { b.test(t, w) })
		}
	}
}

// named makes names that no other test of this run uses.
var named atomic.Int64

func name(kind string) string { return fmt.Sprintf("%s-%d", kind, named.Add(1)) }

func (w world) bucket(t *testing.T) string {
	t.Helper()
	bucket := name("bucket")
	if _, err := w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatalf("create bucket: %v", err)
	}
	return bucket
}

// queue creates a queue and returns its URL and ARN.
func (w world) queue(t *testing.T, attributes map[string]string) (url, arn string) {
	t.Helper()
	queue := name("queue")
	out, err := w.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &queue, Attributes: attributes})
	if err != nil {
		t.Fatalf("create queue: %v", err)
	}
	return *out.QueueUrl, "arn:aws:sqs:us-east-1:123456789012:" + queue
}

func (w world) topic(t *testing.T) (arn string) {
	t.Helper()
	out, err := w.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String(name("topic"))})
	if err != nil {
		t.Fatalf("create topic: %v", err)
	}
	return *out.TopicArn
}

func (w world) send(t *testing.T, queue, body string) {
	t.Helper()
	if _, err := w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: &body}); err != nil {
		t.Fatalf("send message: %v", err)
	}
}

// receive returns the messages that are there, after waiting up to 5 s for the first one.
func (w world) receive(t *testing.T, queue string) []sqstypes.Message {
	t.Helper()
	out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 5,
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
	})
	if err != nil {
		t.Fatalf("receive message: %v", err)
	}
	return out.Messages
}

// one returns the only message that is there.
func (w world) one(t *testing.T, queue string) sqstypes.Message {
	t.Helper()
	messages := w.receive(t, queue)
	if len(messages) != 1 {
		t.Fatalf("received %d messages, want one: %s", len(messages), bodies(messages))
	}
	return messages[0]
}

// none fails the test when a message is visible. In both worlds what was sent is there at once.
func (w world) none(t *testing.T, queue string) {
	t.Helper()
	out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, MaxNumberOfMessages: 10})
	if err != nil {
		t.Fatalf("receive message: %v", err)
	}
	if len(out.Messages) != 0 {
		t.Errorf("received %s, want nothing", bodies(out.Messages))
	}
}

func bodies(messages []sqstypes.Message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, *m.Body)
	}
	return out
}

// depth is what the queue's counters say.
func (w world) depth(t *testing.T, queue string) (visible, inFlight, delayed int) {
	t.Helper()
	out, err := w.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	if err != nil {
		t.Fatalf("get queue attributes: %v", err)
	}
	number := func(name string) int {
		n, err := strconv.Atoi(out.Attributes[name])
		if err != nil {
			t.Fatalf("attribute %s: %v", name, err)
		}
		return n
	}
	return number("ApproximateNumberOfMessages"), number("ApproximateNumberOfMessagesNotVisible"),
		number("ApproximateNumberOfMessagesDelayed")
}

func (w world) wantDepth(t *testing.T, queue string, visible, inFlight, delayed int) {
	t.Helper()
	v, i, d := w.depth(t, queue)
	if v != visible || i != inFlight || d != delayed {
		t.Errorf("the queue has %d visible, %d in flight, %d delayed; want %d, %d, %d", v, i, d, visible, inFlight, delayed)
	}
}

// wantCode fails the test unless err is the API error code, with the HTTP status where that is not 0.
func wantCode(t *testing.T, err error, code string, status int) {
	t.Helper()
	api, _ := errors.AsType[smithy.APIError](err)
	response, _ := errors.AsType[*awshttp.ResponseError](err)
	if api == nil || api.ErrorCode() != code {
		t.Errorf("error %v, want code %s", err, code)
	}
	if status != 0 && (response == nil || response.HTTPStatusCode() != status) {
		t.Errorf("error %v, want status %d %s", err, status, http.StatusText(status))
	}
}

// wantStatus fails the test unless err comes from an answer of that HTTP status.
func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	response, _ := errors.AsType[*awshttp.ResponseError](err)
	if response == nil || response.HTTPStatusCode() != status {
		t.Errorf("error %v, want status %d %s", err, status, http.StatusText(status))
	}
}

func (d differences) slash() string { return cmp.Or(d.eventKeySlash, "/") }
