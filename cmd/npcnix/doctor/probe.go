package doctor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/events"
)

const (
	probeTimeout = 2 * time.Minute
	probeAgain   = 20 * time.Second // a new queue's policy can take a while to apply
	cleanUpLimit = 30 * time.Second
)

// made is what a probe has made, or might have made if an answer was lost, and removes. A queue's name and
// ARN are noted before it is made and subscribed, its URL and the subscription when they are known.
type made struct {
	queueName, queue            string
	subscribedARN, subscription string
	objects                     []s3.DeleteObjectInput
}

// didNothing reports whether a service refused a request, so that nothing came of it.
func didNothing(err error) bool { return status(err)/100 == 4 }

// probe puts an object that the notification matches and hosts ignore, because its key is not the
// remote's, and waits for its event in a queue of its own. It does not use a host's queue: the agent would
// take the event, and every receive would bring other messages nearer to the dead-letter queue.
func (c *chain) probe(ctx context.Context) (f Finding) {
	const link = "probe"
	switch {
	case c.blind != "":
		return unknown(link, c.blind, "")
	case c.direct || c.topic == "" || !c.matched:
		return unknown(link, "not sent: the bucket's notification to a topic is unknown", "fix or allow what is reported above")
	}
	m := &made{}
	defer func() {
		if left := c.cleanUp(context.WithoutCancel(ctx), m); left != "" {
			f.Verdict = Wrong
			f.Found += "; not everything could be removed: " + left
			f.Fix = strings.TrimPrefix(f.Fix+"; remove what is left", "; ")
		}
	}()
	limit := c.ProbeTimeout
	if limit == 0 {
		limit = probeTimeout
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	id := strings.ToLower(rand.Text()[:12])
	if f, done := c.prepareProbe(waiting, m, id); done {
		return f
	}
	if f, done := c.sendProbe(waiting, m, id); done {
		return f
	}
	if err := ctx.Err(); err != nil {
		return unknown(link, "interrupted", "")
	}
	return wrong(link, fmt.Sprintf("no event arrived within %s", limit),
		"fix what is wrong above; S3 takes about five minutes to apply a changed notification")
}

// sendProbe puts one object after the other until the event of one arrives; done says that it did, or that
// the probe ends here.
func (c *chain) sendProbe(ctx context.Context, m *made, id string) (f Finding, done bool) {
	const link = "probe"
	type put struct{ began, answered time.Time }
	puts := map[string]put{} // by key
	for n := 1; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s%s%s-%d%s", c.key, events.ProbeMark, id, n, c.suffix)
		began := time.Now()
		m.objects = append(m.objects, s3.DeleteObjectInput{Bucket: &c.bucket, Key: &key})
		out, err := c.aws.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &c.bucket, Key: &key, Body: strings.NewReader("")})
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil && didNothing(err) {
			m.objects = m.objects[:len(m.objects)-1]
		}
		if err != nil {
			return refused("the object "+key+" cannot be put", err,
				"s3:PutObject, s3:DeleteObject and, if the bucket keeps versions, s3:DeleteObjectVersion on "+c.key+".probe-*"), true
		}
		m.objects[len(m.objects)-1].VersionId = out.VersionId
		puts[key] = put{began, time.Now()}
		sent, notice, err := c.awaitProbe(ctx, m.queue, func(key string) bool { return !puts[key].began.IsZero() })
		if err != nil {
			return refused("the probe's queue cannot be received from", err, "sqs:ReceiveMessage on npcnix-probe-*"), true
		}
		if p := puts[notice.Key]; notice.Key != "" {
			f := ok(link, "the bucket's event arrived in a queue subscribed to %s", c.topic)
			f.Hops = []Hop{
				{"put answered", millis(p.answered.Sub(p.began))},
				{"event in the queue, by AWS's clocks", millis(max(0, sent.Sub(notice.At)))},
				{"received, since the put began", millis(time.Since(p.began))},
			}
			return f, true
		}
	}
	return Finding{}, false
}

func refused(what string, err error, permission string) Finding {
	return unknown("probe", "not sent: "+what+": "+brief(err), "give these credentials "+permission)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// prepareProbe makes the probe's queue and subscribes it; done says that the probe ends here.
func (c *chain) prepareProbe(ctx context.Context, m *made, id string) (f Finding, done bool) {
	const link = "probe"
	const queues = "sqs:CreateQueue, sqs:SetQueueAttributes, sqs:ReceiveMessage, sqs:GetQueueUrl and sqs:DeleteQueue on npcnix-probe-*"
	arn := strings.Split(c.topic, ":")
	if len(arn) != 6 {
		return unknown(link, "the topic's ARN cannot be read: "+c.topic, ""), true
	}
	name := "npcnix-probe-" + id
	account := arn[4]
	if c.account != "" {
		account = c.account // the queue is these credentials'
	}
	queueARN := fmt.Sprintf("arn:%s:sqs:%s:%s:%s", arn[1], arn[3], account, name)
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]string{"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queueARN,
		"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": c.topic}},
	}}})
	if err != nil {
		return unknown(link, err.Error(), ""), true
	}
	m.queueName = name
	queue, err := c.aws.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{
		"Policy": string(policy), "MessageRetentionPeriod": "3600",
	}}, queueIn(c.topic))
	if err != nil && didNothing(err) {
		m.queueName = ""
	}
	if err != nil {
		return refused("its queue cannot be created", err, queues), true
	}
	m.queue = aws.ToString(queue.QueueUrl)
	m.subscribedARN = queueARN
	subscribed, err := c.aws.sns.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: &c.topic, Protocol: aws.String("sqs"), Endpoint: &queueARN, ReturnSubscriptionArn: true,
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	}, topicIn(c.topic))
	if err != nil && didNothing(err) {
		m.subscribedARN = ""
	}
	if err != nil {
		return refused("its queue cannot be subscribed", err, "sns:Subscribe and sns:Unsubscribe on "+c.topic), true
	}
	m.subscription = aws.ToString(subscribed.SubscriptionArn)
	return Finding{}, false
}

// awaitProbe waits for an event of one of the keys, and says when it was in the queue. The notice is zero if
// none came in a while.
func (c *chain) awaitProbe(ctx context.Context, queue string, ours func(key string) bool) (sent time.Time, n events.Notice, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeAgain)
	defer cancel()
	for ctx.Err() == nil {
		out, err := c.aws.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &queue, MaxNumberOfMessages: 10, WaitTimeSeconds: 5,
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameSentTimestamp},
		}, queueIn(c.topic))
		if err != nil && ctx.Err() == nil {
			return time.Time{}, events.Notice{}, err
		}
		if err != nil {
			break
		}
		for _, m := range out.Messages {
			notices, err := events.Parse([]byte(aws.ToString(m.Body)))
			if err != nil {
				continue // not this probe's
			}
			for _, n := range notices {
				if n.Bucket == c.bucket && ours(n.Key) {
					ms, _ := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
					return time.UnixMilli(ms), n, nil
				}
			}
		}
	}
	return time.Time{}, events.Notice{}, nil
}

// cleanUp removes what the probe made, and says what it could not remove.
func (c *chain) cleanUp(ctx context.Context, m *made) (left string) {
	ctx, cancel := context.WithTimeout(ctx, cleanUpLimit)
	defer cancel()
	var errs []error
	note := func(what string, err error) {
		if err != nil && !isNotFound(err) {
			errs = append(errs, fmt.Errorf("%s: %s", what, brief(err)))
		}
	}
	for _, o := range m.objects {
		_, err := c.aws.s3.DeleteObject(ctx, &o)
		note("s3://"+c.bucket+"/"+aws.ToString(o.Key), err)
	}
	if m.subscribedARN != "" && m.subscription == "" {
		var err error
		m.subscription, err = c.findSubscription(ctx, m.subscribedARN)
		note("the subscription of "+m.subscribedARN+", if there is one", err)
	}
	if m.subscription != "" {
		_, err := c.aws.sns.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: &m.subscription}, topicIn(c.topic))
		note(m.subscription, err)
	}
	if m.queueName != "" && m.queue == "" {
		out, err := c.aws.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &m.queueName}, queueIn(c.topic))
		note(m.queueName+", if there is one", err)
		if err == nil {
			m.queue = aws.ToString(out.QueueUrl)
		}
	}
	if m.queue != "" {
		_, err := c.aws.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &m.queue}, queueIn(c.topic))
		note(m.queue, err)
	}
	if err := errors.Join(errs...); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", ", ")
	}
	return ""
}
