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

// leastReceives is how often a queue must deliver a message before it gives it up: more often than an
// agent tries a version.
const leastReceives = 5

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

// readQueue says whether the queue is there and the topic, or the bucket, may send to it.
func (c *chain) readQueue(ctx context.Context) Finding {
	const link = "queue"
	if c.blind != "" {
		return unknown(link, c.blind, "")
	}
	if c.QueueURL == "" {
		return unknown(link, "no queue was named", "give --queue-url, or run the doctor on a host")
	}
	err := c.lookAtQueue(ctx)
	if c.gone {
		return wrong(link, "there is no queue "+c.QueueURL, "create it, with Terraform's host_queue for instance, or `npcnix config set queue-url URL`")
	}
	if err != nil {
		return unasked(link, "the queue's attributes", err, "sqs:GetQueueAttributes on the queue")
	}
	q := question{
		service: "sns.amazonaws.com", action: "sqs:SendMessage", resource: c.queueARN,
		context: map[string]string{"aws:sourcearn": c.topic, "aws:securetransport": "true"},
	}
	sender := c.topic
	if c.direct {
		q.service, sender = "s3.amazonaws.com", "bucket "+c.bucket
		q.context["aws:sourcearn"] = "arn:" + partition(c.queueARN) + ":s3:::" + c.bucket
	} else if c.topic == "" {
		return unknown(link, "it is there; whether the right topic may send to it is not known, as the topic is not", "")
	}
	if policy := c.queue["Policy"]; c.account != "" && strings.Contains(policy, c.account) {
		q.context["aws:sourceaccount"] = c.account
	}
	switch verdict, why := allows(c.queue["Policy"], q); verdict {
	case Wrong:
		return wrong(link, fmt.Sprintf("%s may not send to %s: %s", sender, c.queueARN, why),
			fmt.Sprintf("let %s do sqs:SendMessage in the queue's policy, with aws:SourceArn %s, as Terraform's host_queue and docs/aws.md do", q.service, q.context["aws:sourcearn"]))
	case Unknown:
		return unknown(link, why, "")
	}
	return encrypted(link, c.queue["KmsMasterKeyId"], "alias/aws/sqs", q.service,
		ok(link, "%s may send to it; %s waiting, %s in work", sender, c.queue["ApproximateNumberOfMessages"], c.queue["ApproximateNumberOfMessagesNotVisible"]))
}

// deadLetters says whether what a host gives up ends where somebody sees it, and whether anything has.
func (c *chain) deadLetters(ctx context.Context) Finding {
	const link = "dead letters"
	switch {
	case c.blind != "":
		return unknown(link, c.blind, "")
	case c.QueueURL == "":
		return unknown(link, "no queue was named", "give --queue-url, or run the doctor on a host")
	case c.queue == nil:
		return unknown(link, "which queue they go to is not known, as the queue's attributes are not", "")
	}
	redrive := c.queue["RedrivePolicy"]
	if redrive == "" {
		return wrong(link, "the queue has no dead-letter queue: a version that this host gives up stays in its queue unnoticed",
			"give it one, with maxReceiveCount 10, as Terraform's host_queue and docs/aws.md do")
	}
	var policy struct {
		Target   string      `json:"deadLetterTargetArn"`
		Receives json.Number `json:"maxReceiveCount"` // AWS takes it quoted, too
	}
	if err := json.Unmarshal([]byte(redrive), &policy); err != nil {
		return unknown(link, "the queue's RedrivePolicy cannot be read: "+redrive, "")
	}
	if n, err := strconv.Atoi(policy.Receives.String()); err != nil || n < leastReceives {
		return wrong(link, fmt.Sprintf("maxReceiveCount is %s: messages are given up before the agent's four attempts at a version are over", policy.Receives), "set it to 10 in the queue's RedrivePolicy")
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
		return wrong(link, fmt.Sprintf("%s holds %s messages: versions that a host has given up, or that could not be delivered", policy.Target, dead),
			"see `npcnix status` on the host for why; when that is mended, `aws sqs purge-queue --queue-url "+aws.ToString(at.QueueUrl)+"`")
	}
	keeps, _ := strconv.Atoi(out.Attributes["MessageRetentionPeriod"])
	if source, _ := strconv.Atoi(c.queue["MessageRetentionPeriod"]); keeps < source {
		return wrong(link, fmt.Sprintf("%s keeps messages for %d s, less than the queue's %d s: a letter may expire before it is dead, as its age counts from the publish", policy.Target, keeps, source),
			"set its MessageRetentionPeriod to 1209600 (14 days)")
	}
	return ok(link, "%s is empty", policy.Target)
}

// takesFrom says whether a dead-letter queue's RedriveAllowPolicy lets a queue in.
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
