package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// AutoQueue is the setting queue_url of a host that makes its queue itself.
const AutoQueue = "auto"

const (
	// maxReceives is after how many receives a message becomes a dead letter, as in Terraform's host_queue: the
	// agent's four attempts at a version, and some restarts of the agent.
	maxReceives = 10
	// ensureEvery is how often the queue and its subscription are made sure of while they work.
	ensureEvery = time.Hour

	deadSuffix = "-dead" // of the dead-letter queue's name

	hostTag, remoteTag, instanceTag = "npcnix:host", "npcnix:remote", "npcnix:instance"
)

// OwnQueueOptions says which queue a host makes for itself.
type OwnQueueOptions struct {
	Topic    string // ARN of the SNS topic that announces publishes; the queue is in its region. Required.
	Remote   string // URL, without passwords and tokens. Required.
	Host     string // the name in its record. Required, but for OpenOwnQueues.
	Instance string // of EC2; "" elsewhere
	Look     Notice // what is to be looked for when the queue was made
	Lease    time.Duration
	Warn     func(message string) // as in QueueOptions
	Made     func(url string)     // is told that the queue was made; nil: nobody
	// Dial is as in QueueOptions.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// OwnQueue is a queue that the host makes, subscribes to the remote's topic, and makes again if it is
// deleted. Two that are made at once for the same host and remote are one. Its methods may be called from
// several goroutines, but Receive only from one.
type OwnQueue struct {
	options OwnQueueOptions
	name    string
	sqs     *sqs.Client
	sns     *sns.Client

	queue atomic.Pointer[Queue] // nil until the queue is there
	check time.Time             // when queue and subscription are made sure of again
	late  bool                  // the last time that failed: what was published since can be missed
}

// OpenOwnQueue returns the queue and asks AWS nothing: the first Receive makes it. Errors are those of the
// options and of the SDK's own configuration.
func OpenOwnQueue(ctx context.Context, o OwnQueueOptions) (*OwnQueue, error) {
	region, err := topicRegion(o.Topic)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(ctx, QueueOptions{Region: region, Warn: o.Warn, Dial: o.Dial, attempt: attemptLimit})
	if err != nil {
		return nil, err
	}
	return &OwnQueue{options: o, name: OwnQueueName(o.Topic, o.Remote, o.Host), sqs: sqs.NewFromConfig(cfg), sns: sns.NewFromConfig(cfg)}, nil
}

// CheckTopic returns an error if s is not the ARN of an SNS topic.
func CheckTopic(s string) error {
	_, err := topicRegion(s)
	return err
}

func topicRegion(arn string) (string, error) {
	part := strings.Split(arn, ":")
	if len(part) != 6 || part[0] != "arn" || part[2] != "sns" || part[3] == "" || part[5] == "" {
		return "", fmt.Errorf("%q is not the ARN of an SNS topic, such as arn:aws:sns:eu-central-1:111122223333:npcnix-dev", arn)
	}
	return part[3], nil
}

// OwnQueueName returns the name of the queue that a host makes for a remote: "npcnix-", the remote's name, the
// host's, and what tells it from those of other remotes and hosts with such names. Names of queues have at
// most 80 characters, and no dots (Amazon SQS API reference, CreateQueue).
func OwnQueueName(topic, remote, host string) string {
	sum := sha256.Sum256([]byte(topic + "\n" + remote + "\n" + host))
	return ownPrefix(remote) + plain(host, 28) + "-" + hex.EncodeToString(sum[:4])
}

// ownPrefix is how the names of the queues of a remote's hosts begin.
func ownPrefix(remote string) string {
	path, _, _ := strings.Cut(remote, "?")
	key := path[strings.LastIndex(path, "/")+1:]
	return "npcnix-" + plain(strings.TrimSuffix(key, ".npcnix"), 30) + "-"
}

func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s)
	return s[:min(len(s), most)]
}

// Receive is [Queue.Receive]. It makes queue and subscription first if that is due. A delivery without a message
// follows when the queue was made, or subscribed after that had failed: what was published before it could arrive is
// to be looked for.
func (q *OwnQueue) Receive(ctx context.Context) ([]Delivery, error) {
	if q.queue.Load() == nil || time.Now().After(q.check) {
		made, err := q.ensure(ctx)
		if err != nil {
			q.late = true
			return nil, q.explain(ctx, "make the host's own queue "+q.name, err)
		}
		q.check = time.Now().Add(ensureEvery/2 + rand.N(ensureEvery))
		if made || q.late {
			q.late = false
			return []Delivery{{ID: q.name, Notices: []Notice{q.options.Look}, Receives: 1, Received: time.Now()}}, nil
		}
	}
	ds, err := q.queue.Load().Receive(ctx)
	if isMissing(err) {
		q.queue.Store(nil) // the next call makes it again
	}
	return ds, err
}

// Extend is [Queue.Extend].
func (q *OwnQueue) Extend(ctx context.Context, ds []Delivery, by time.Duration) error {
	queue := q.queue.Load()
	if ds = received(ds); len(ds) == 0 || queue == nil { // what was received of a deleted queue is gone with it
		return nil
	}
	return queue.Extend(ctx, ds, by)
}

// Ack is [Queue.Ack].
func (q *OwnQueue) Ack(ctx context.Context, ds []Delivery) error {
	queue := q.queue.Load()
	if ds = received(ds); len(ds) == 0 || queue == nil { // what was received of a deleted queue is gone with it
		return nil
	}
	return queue.Ack(ctx, ds)
}

// received are the deliveries that a queue has handed out.
func received(ds []Delivery) []Delivery {
	var known []Delivery
	for _, d := range ds {
		if d.receipt != "" {
			known = append(known, d)
		}
	}
	return known
}

// Reach returns why the queue does not answer, and does not make it.
func (q *OwnQueue) Reach(ctx context.Context) error {
	_, err := q.URL(ctx)
	return err
}

// URL asks AWS where the queue is. It is an error that there is none yet.
func (q *OwnQueue) URL(ctx context.Context) (string, error) {
	out, err := q.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &q.name})
	if err != nil {
		return "", q.explain(ctx, "find the host's own queue "+q.name, err)
	}
	return aws.ToString(out.QueueUrl), nil
}

// ensure makes what is not there: the dead-letter queue, the queue, and its subscription. It reports whether
// the queue was not in use before.
func (q *OwnQueue) ensure(ctx context.Context) (made bool, err error) {
	deadARN, _, err := q.ensureQueue(ctx, q.name+deadSuffix, map[string]string{})
	if err != nil {
		return false, err
	}
	lease := q.options.Lease
	if lease <= 0 {
		lease = 2 * time.Minute
	}
	redrive, _ := json.Marshal(map[string]any{"deadLetterTargetArn": deadARN, "maxReceiveCount": maxReceives})
	arn, url, err := q.ensureQueue(ctx, q.name, map[string]string{
		"ReceiveMessageWaitTimeSeconds": "20",
		"VisibilityTimeout":             strconv.Itoa(int(seconds(lease))),
		"RedrivePolicy":                 string(redrive),
	})
	if err != nil {
		return false, err
	}
	if err := q.subscribe(ctx, arn); err != nil {
		return false, err
	}
	if now := q.queue.Load(); now != nil && now.options.URL == url {
		return false, nil
	}
	o := QueueOptions{URL: url, Lease: q.options.Lease}
	if _, err := o.validate(); err != nil {
		return false, err
	}
	q.queue.Store(&Queue{sqs: q.sqs, options: o})
	if q.options.Made != nil {
		q.options.Made(url)
	}
	return true, nil
}

// ensureQueue makes a queue of the host, or checks that the one of that name is its own, and sets its attributes.
func (q *OwnQueue) ensureQueue(ctx context.Context, name string, attributes map[string]string) (arn, url string, err error) {
	attributes["MessageRetentionPeriod"] = "1209600" // 14 days, the most that SQS allows
	attributes["SqsManagedSseEnabled"] = "true"
	there, err := q.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	switch missing := isMissing(err); {
	case missing:
		made, err := q.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes, Tags: q.tags()})
		if err != nil {
			return "", "", fmt.Errorf("make it: %w", err)
		}
		url = aws.ToString(made.QueueUrl)
	case err != nil:
		return "", "", fmt.Errorf("look for it: %w", err)
	default:
		url = aws.ToString(there.QueueUrl)
		if err := q.ours(ctx, url); err != nil {
			return "", "", err
		}
	}
	out, err := q.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return "", "", fmt.Errorf("read its attributes: %w", err)
	}
	arn = out.Attributes["QueueArn"]
	attributes["Policy"] = q.policy(arn)
	for name, value := range attributes {
		if out.Attributes[name] != value {
			_, err = q.sqs.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: &url, Attributes: attributes})
			break
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("set its attributes: %w", err)
	}
	return arn, url, nil
}

func (q *OwnQueue) tags() map[string]string {
	tags := map[string]string{hostTag: q.options.Host, remoteTag: q.options.Remote}
	if q.options.Instance != "" {
		tags[instanceTag] = q.options.Instance
	}
	return tags
}

// ours returns an error if the queue is tagged as another host's.
func (q *OwnQueue) ours(ctx context.Context, url string) error {
	out, err := q.sqs.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: &url})
	if err != nil {
		return fmt.Errorf("read its tags: %w", err)
	}
	for name, value := range map[string]string{hostTag: q.options.Host, remoteTag: q.options.Remote} {
		if out.Tags[name] != value {
			return fmt.Errorf("the queue %s is not this host's: its tag %s is %q, not %q; delete it, or give this host another name with `npcnix config set host NAME`", url, name, out.Tags[name], value)
		}
	}
	return nil
}

// policy lets the topic send.
func (q *OwnQueue) policy(arn string) string {
	text, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Sid": "TopicSends", "Effect": "Allow", "Principal": map[string]string{"Service": "sns.amazonaws.com"},
		"Action": "sqs:SendMessage", "Resource": arn,
		"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": q.options.Topic}},
	}}})
	return string(text)
}

// subscribe has the topic send to the queue, raw, and what cannot be delivered to the dead-letter queue.
func (q *OwnQueue) subscribe(ctx context.Context, arn string) error {
	subscription, right, err := q.subscription(ctx, arn)
	if err != nil || right {
		return err
	}
	for name, value := range subscriptionAttributes(arn) {
		_, err := q.sns.SetSubscriptionAttributes(ctx, &sns.SetSubscriptionAttributesInput{
			SubscriptionArn: &subscription, AttributeName: &name, AttributeValue: &value,
		})
		if err != nil {
			return fmt.Errorf("set %s of its subscription to %s: %w", name, q.options.Topic, err)
		}
	}
	return nil
}

func subscriptionAttributes(queueARN string) map[string]string {
	redrive, _ := json.Marshal(map[string]string{"deadLetterTargetArn": queueARN + deadSuffix})
	return map[string]string{"RawMessageDelivery": "true", "RedrivePolicy": string(redrive)}
}

// subscription returns the ARN of the queue's subscription, which it makes if there is none, and whether that
// has the right attributes.
func (q *OwnQueue) subscription(ctx context.Context, queueARN string) (arn string, right bool, err error) {
	out, err := q.sns.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: &q.options.Topic, Protocol: aws.String("sqs"), Endpoint: &queueARN, // without ReturnSubscriptionArn: see pending
		Attributes: subscriptionAttributes(queueARN),
	})
	if err == nil {
		return aws.ToString(out.SubscriptionArn), true, q.pending(queueARN, out.SubscriptionArn)
	}
	if !strings.Contains(err.Error(), "already exists with different attributes") {
		return "", false, fmt.Errorf("subscribe it to %s: %w", q.options.Topic, err)
	}
	pages := sns.NewListSubscriptionsByTopicPaginator(q.sns, &sns.ListSubscriptionsByTopicInput{TopicArn: &q.options.Topic})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", false, fmt.Errorf("find its subscription to %s: %w", q.options.Topic, err)
		}
		for _, s := range page.Subscriptions {
			if aws.ToString(s.Endpoint) == queueARN {
				return aws.ToString(s.SubscriptionArn), false, q.pending(queueARN, s.SubscriptionArn)
			}
		}
	}
	return "", false, fmt.Errorf("the subscription of %s to %s is gone again", queueARN, q.options.Topic)
}

// pending returns an error if there are words in place of a subscription's ARN, as for one that is not confirmed: the
// queue's own account needs no confirmation, but another account can have subscribed the queue before (Amazon SNS API
// reference, Subscribe).
func (q *OwnQueue) pending(queueARN string, arn *string) error {
	if strings.HasPrefix(aws.ToString(arn), "arn:") {
		return nil
	}
	return fmt.Errorf("%w: that of %s to %s was not made by the queue's account; delete it, or confirm it with the token that SNS has sent to the queue", errPending, queueARN, q.options.Topic)
}

var errPending = errors.New("the subscription is pending")

// Leave deletes the subscription and both queues, as far as they are there.
func (q *OwnQueue) Leave(ctx context.Context) error {
	var failed []error
	for _, name := range []string{q.name, q.name + deadSuffix} {
		there, err := q.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
		if isMissing(err) {
			continue
		}
		if err == nil {
			err = q.ours(ctx, aws.ToString(there.QueueUrl))
		}
		if err == nil && name == q.name {
			err = q.unsubscribe(ctx, aws.ToString(there.QueueUrl))
		}
		if err == nil {
			_, err = q.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: there.QueueUrl})
		}
		if err != nil && !isMissing(err) {
			failed = append(failed, q.explain(ctx, "delete the queue "+name, err))
		}
	}
	return errors.Join(failed...)
}

// unsubscribe deletes the queue's subscription.
func (q *OwnQueue) unsubscribe(ctx context.Context, url string) error {
	out, err := q.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn}})
	if err != nil {
		return err
	}
	subscription, _, err := q.subscription(ctx, out.Attributes["QueueArn"])
	if _, gone := errors.AsType[*snstypes.NotFoundException](err); gone {
		return nil // the topic, and its subscriptions with it
	}
	if errors.Is(err, errPending) {
		return nil // SNS itself deletes it after some days
	}
	if err != nil {
		return err
	}
	if _, err = q.sns.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: &subscription}); err != nil {
		return fmt.Errorf("unsubscribe it from %s: %w", q.options.Topic, err)
	}
	return nil
}

// explain is the package's own, but for calls that a role for a queue of Terraform's need not allow.
func (q *OwnQueue) explain(ctx context.Context, op string, err error) error {
	return explainDenied(ctx, op, err, "the host's role lacks a permission that docs/aws.md lists for hosts that make their queue themselves")
}

func isMissing(err error) bool {
	_, missing := errors.AsType[*types.QueueDoesNotExist](err)
	return missing
}
