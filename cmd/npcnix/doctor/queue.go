package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/events"
)

// leastReceives is how often a queue must deliver a message before it moves it to the dead-letter queue:
// more often than an agent tries a version.
const leastReceives = 5

const noQueueFix = "create it, for instance with Terraform's host_queue, or name another with `npcnix config set queue_url URL`"

// lookAtQueue reads the queue's attributes, once.
func (c *chain) lookAtQueue(ctx context.Context) (err error) {
	if c.QueueURL == "" || c.blind != "" || c.queue != nil {
		return nil
	}
	out, err := c.aws.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &c.QueueURL, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	switch {
	case err == nil:
		c.queue, c.queueARN = out.Attributes, out.Attributes["QueueArn"]
	case isNotFound(err):
		c.gone = true
	default:
		c.queueARN = arnOf(c.QueueURL)
	}
	return err
}

// arnOf is a queue's ARN as its usual URL says; "" for others.
func arnOf(queueURL string) string {
	u, err := url.Parse(queueURL)
	region, base := events.QueueEndpoint(queueURL)
	if err != nil || region == "" || base != "" {
		return ""
	}
	part := "aws"
	if strings.HasSuffix(u.Hostname(), ".cn") {
		part = "aws-cn"
	}
	return fmt.Sprintf("arn:%s:sqs:%s:%s", part, region, strings.ReplaceAll(strings.Trim(u.Path, "/"), "/", ":"))
}

// readQueue says whether the queue exists and the topic, or the bucket, can send to it.
func (c *chain) readQueue(ctx context.Context) Finding {
	const link = "queue"
	if c.blind != "" {
		return unknown(link, c.blind, "")
	}
	if c.QueueURL == "" {
		return unknown(link, "no queue is given", "give --queue-url, or run the doctor on a host")
	}
	err := c.lookAtQueue(ctx)
	if c.gone {
		return wrong(link, "there is no queue "+c.QueueURL, noQueueFix)
	}
	if err != nil {
		return unasked(link, "the queue's attributes", err, "sqs:GetQueueAttributes on the queue")
	}
	q := question{
		service: sender(c.topic, c.queueARN), action: "sqs:SendMessage", resource: c.queueARN,
		context: map[string]string{"aws:sourcearn": c.topic, "aws:securetransport": "true"},
	}
	from, owner := c.topic, accountOf(c.topic)
	if c.direct {
		q.service, from = "s3.amazonaws.com", "bucket "+c.bucket
		q.context["aws:sourcearn"] = "arn:" + partition(c.queueARN) + ":s3:::" + c.bucket
	} else if c.topic == "" {
		return unknown(link, "it exists; whether the topic can send to it is unknown, because the topic is", "")
	}
	if c.direct && strings.Contains(c.queue["Policy"], c.account) {
		owner = c.account // otherwise the bucket's owner is unknown
	}
	q.context["aws:sourceaccount"] = owner
	switch verdict, why := allows(c.queue["Policy"], q); verdict {
	case Wrong:
		return wrong(link, fmt.Sprintf("%s cannot send to %s: %s", from, c.queueARN, why),
			fmt.Sprintf("allow %s sqs:SendMessage in the queue's policy, with aws:SourceArn %s, as Terraform's host_queue and docs/aws.md do", q.service, q.context["aws:sourcearn"]))
	case Unknown:
		return unknown(link, why, "")
	}
	return encrypted(link, c.queue["KmsMasterKeyId"], "alias/aws/sqs", q.service,
		ok(link, "%s can send to it; messages: %s waiting, %s in work", from, c.queue["ApproximateNumberOfMessages"], c.queue["ApproximateNumberOfMessagesNotVisible"]))
}

// deadLetters says whether a rejected version ends in a dead-letter queue, and whether any has.
func (c *chain) deadLetters(ctx context.Context) Finding {
	const link = "dead letters"
	switch {
	case c.blind != "":
		return unknown(link, c.blind, "")
	case c.QueueURL == "":
		return unknown(link, "no queue is given", "give --queue-url, or run the doctor on a host")
	case c.queue == nil:
		return unknown(link, "the dead-letter queue is unknown, because the queue's attributes are", "")
	}
	redrive := c.queue["RedrivePolicy"]
	if redrive == "" {
		return wrong(link, "the queue has none: a version that the host rejects stays in its queue unnoticed",
			"add a dead-letter queue with maxReceiveCount 10, as Terraform's host_queue and docs/aws.md do")
	}
	var policy struct {
		Target   string      `json:"deadLetterTargetArn"`
		Receives json.Number `json:"maxReceiveCount"` // AWS takes it quoted, too
	}
	if err := json.Unmarshal([]byte(redrive), &policy); err != nil {
		return unknown(link, "the queue's RedrivePolicy cannot be read: "+redrive, "")
	}
	if n, err := strconv.Atoi(policy.Receives.String()); err != nil || n < leastReceives {
		return wrong(link, fmt.Sprintf("maxReceiveCount is %s: messages move to the dead-letter queue before the agent's four attempts at a version are over", policy.Receives), "set it to 10 in the queue's RedrivePolicy")
	}
	arn := strings.Split(policy.Target, ":")
	if len(arn) != 6 {
		return unknown(link, "the queue's RedrivePolicy cannot be read: "+redrive, "")
	}
	there := queueIn(policy.Target)
	at, err := c.aws.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &arn[5], QueueOwnerAWSAccountId: &arn[4]}, there)
	var out *sqs.GetQueueAttributesOutput
	if err == nil {
		out, err = c.aws.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: at.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
		}, there)
	}
	switch {
	case isNotFound(err):
		return wrong(link, "the dead-letter queue "+policy.Target+" does not exist", "create it, or name another in the queue's RedrivePolicy")
	case err != nil:
		return unasked(link, "the dead-letter queue", err, "sqs:GetQueueUrl and sqs:GetQueueAttributes on "+policy.Target)
	}
	if !takesFrom(out.Attributes["RedriveAllowPolicy"], c.queueARN) {
		return wrong(link, policy.Target+" does not take messages from "+c.queueARN, "add the queue to its RedriveAllowPolicy")
	}
	if dead := out.Attributes["ApproximateNumberOfMessages"]; dead != "0" {
		return wrong(link, fmt.Sprintf("%s holds %s: versions that a host has rejected, or that could not be delivered", policy.Target, messages(dead)),
			"see `npcnix status` on the host for the cause; once it is fixed, `aws sqs purge-queue --queue-url "+aws.ToString(at.QueueUrl)+"`")
	}
	keeps, _ := strconv.Atoi(out.Attributes["MessageRetentionPeriod"])
	if source, _ := strconv.Atoi(c.queue["MessageRetentionPeriod"]); keeps < source {
		return wrong(link, fmt.Sprintf("%s keeps messages for %d s, less than the queue's %d s: a message can expire before anyone sees it, because its age counts from the publish", policy.Target, keeps, source),
			"set its MessageRetentionPeriod to 1209600 (14 days)")
	}
	return ok(link, "%s is empty", policy.Target)
}

// messages is a number of messages in words.
func messages(n string) string {
	if n == "1" {
		return "1 message"
	}
	return n + " messages"
}

// takesFrom says whether a dead-letter queue's RedriveAllowPolicy admits a queue.
func takesFrom(policy, queueARN string) bool {
	var p struct {
		Permission string   `json:"redrivePermission"`
		Sources    []string `json:"sourceQueueArns"`
	}
	if policy == "" || json.Unmarshal([]byte(policy), &p) != nil {
		return true // the default is allowAll
	}
	return p.Permission == "allowAll" || p.Permission == "byQueue" && slices.Contains(p.Sources, queueARN)
}
