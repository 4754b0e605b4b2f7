package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// notification says whether the bucket tells a topic of every publish to the key.
func (c *chain) notification(ctx context.Context) Finding {
	const link = "notification"
	c.topic = c.TopicARN
	if c.blind != "" {
		return unknown(link, c.blind, "")
	}
	out, err := c.aws.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &c.bucket})
	if isNotFound(err) {
		return wrong(link, "there is no bucket "+c.bucket, "mend the remote's URL, or create the bucket")
	}
	if err != nil {
		return unasked(link, "the bucket's notification", err, "s3:GetBucketNotification on bucket "+c.bucket)
	}
	fix := fmt.Sprintf("with Terraform's store_s3, or `aws s3api put-bucket-notification-configuration` (which replaces all that the bucket has), "+
		"have it tell the remote's topic of s3:ObjectCreated:* with the prefix %s and the suffix .npcnix; it takes S3 about five minutes to act on it", c.key)
	var others []string
	topics := slices.Clone(out.TopicConfigurations)
	for _, q := range out.QueueConfigurations { // a bucket may tell one queue without a topic
		topics = append(topics, s3types.TopicConfiguration{TopicArn: q.QueueArn, Events: q.Events, Filter: q.Filter})
	}
	for _, t := range topics {
		arn := aws.ToString(t.TopicArn)
		prefix, suffix := filter(t.Filter)
		if !strings.HasPrefix(c.key, prefix) || !strings.HasSuffix(c.key, suffix) {
			others = append(others, fmt.Sprintf("%s hears of prefix %q and suffix %q", arn, prefix, suffix))
			continue
		}
		if missed := missing(t.Events); len(missed) > 0 {
			others = append(others, fmt.Sprintf("%s hears of this key, but not of %s", arn, strings.Join(missed, ", ")))
			continue
		}
		if strings.Contains(arn, ":sqs:") {
			_ = c.lookAtQueue(ctx) // reported by its own link
			if c.QueueURL != "" && c.queueARN != arn {
				others = append(others, "the queue "+arn+" alone hears of this key")
				continue
			}
			c.direct, c.queueARN = true, arn
			return ok(link, "bucket %s tells the queue %s itself", c.bucket, arn)
		}
		c.suffix, c.matched = suffix, true
		if c.TopicARN != "" && c.TopicARN != arn {
			return wrong(link, fmt.Sprintf("bucket %s tells %s of this key, not %s", c.bucket, arn, c.TopicARN), "give the right --topic-arn, or mend the notification")
		}
		c.topic = arn
		return ok(link, "bucket %s tells %s of every publish", c.bucket, arn)
	}
	if len(others) == 0 && out.EventBridgeConfiguration != nil {
		return unknown(link, "bucket "+c.bucket+" tells EventBridge, whose rules are not looked at", "")
	}
	found := fmt.Sprintf("bucket %s tells nobody of publishes to %s", c.bucket, c.key)
	if len(others) > 0 {
		found += ": " + strings.Join(others, "; ")
	}
	return wrong(link, found, fix)
}

// filter reads the prefix and the suffix of a notification's keys.
func filter(f *s3types.NotificationConfigurationFilter) (prefix, suffix string) {
	if f == nil || f.Key == nil {
		return "", ""
	}
	for _, rule := range f.Key.FilterRules {
		if strings.EqualFold(string(rule.Name), "prefix") {
			prefix = aws.ToString(rule.Value)
		} else {
			suffix = aws.ToString(rule.Value)
		}
	}
	return prefix, suffix
}

// missing are the ways to publish that a notification does not hear of.
func missing(events []s3types.Event) []string {
	if slices.Contains(events, "s3:ObjectCreated:*") {
		return nil
	}
	var missed []string
	for _, way := range []s3types.Event{"s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload"} {
		if !slices.Contains(events, way) {
			missed = append(missed, string(way))
		}
	}
	return missed
}

// topicPolicy says whether the topic is there and the bucket may publish to it.
func (c *chain) topicPolicy(ctx context.Context) Finding {
	const link = "topic"
	if f, known := c.needTopic(link); !known {
		return f
	}
	out, err := c.aws.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &c.topic}, topicIn(c.topic))
	if isNotFound(err) {
		return wrong(link, "there is no topic "+c.topic, "create it, with Terraform's store_s3 for instance, or name the right one in the bucket's notification")
	}
	if err != nil {
		return unasked(link, "the topic's policy", err, "sns:GetTopicAttributes on "+c.topic)
	}
	q := question{
		service: "s3.amazonaws.com", action: "sns:Publish", resource: c.topic,
		context: map[string]string{"aws:sourcearn": "arn:" + partition(c.topic) + ":s3:::" + c.bucket, "aws:securetransport": "true"},
	}
	if policy := out.Attributes["Policy"]; c.account != "" && strings.Contains(policy, c.account) {
		q.context["aws:sourceaccount"] = c.account // else whose the bucket is is not known
	}
	switch verdict, why := allows(out.Attributes["Policy"], q); verdict {
	case Wrong:
		return wrong(link, fmt.Sprintf("the bucket may not publish to %s: %s", c.topic, why),
			"let s3.amazonaws.com do sns:Publish in the topic's policy, with aws:SourceArn arn:aws:s3:::"+c.bucket+", as Terraform's store_s3 and docs/aws.md do")
	case Unknown:
		return unknown(link, why, "")
	}
	return encrypted(link, out.Attributes["KmsMasterKeyId"], "alias/aws/sns", "s3.amazonaws.com",
		ok(link, "bucket %s may publish to %s", c.bucket, c.topic))
}

// encrypted is what a topic's or queue's key makes of a finding that is well otherwise: the sender must be
// allowed to use it, which the policy of AWS's own key never says.
func encrypted(link, key, awsOwn, sender string, well Finding) Finding {
	switch {
	case key == "":
		return well
	case strings.HasSuffix(key, awsOwn):
		return wrong(link, fmt.Sprintf("it is encrypted with %s, which %s may not use", key, sender),
			"use a key of your own whose policy lets "+sender+" do kms:GenerateDataKey* and kms:Decrypt, or SSE without KMS")
	}
	return unknown(link, well.Found+"; but it is encrypted with the key "+key+", whose policy is not looked at",
		"see that the key's policy lets "+sender+" do kms:GenerateDataKey* and kms:Decrypt")
}

// needTopic is the finding of a link that cannot be looked at without the topic.
func (c *chain) needTopic(link string) (Finding, bool) {
	switch {
	case c.blind != "":
		return unknown(link, c.blind, ""), false
	case c.direct:
		return ok(link, "none is needed"), false
	case c.topic == "":
		return unknown(link, "which topic the bucket tells is not known", "mend or allow what is above, or name it with --topic-arn"), false
	}
	return Finding{}, true
}

// subscription says whether the topic sends to the queue, and in which form.
func (c *chain) subscription(ctx context.Context) Finding {
	const link = "subscription"
	_ = c.lookAtQueue(ctx) // reported by its own link
	if f, known := c.needTopic(link); !known {
		return f
	}
	if c.QueueURL == "" {
		return unknown(link, "no queue was named", "give --queue-url, or run the doctor on a host")
	}
	if c.gone {
		return unknown(link, "there is no such queue: see below", "")
	}
	if c.queueARN == "" {
		return unknown(link, "the queue's ARN is not known", "allow what is said of the queue below")
	}
	arn, err := c.findSubscription(ctx, c.queueARN)
	if isNotFound(err) {
		return wrong(link, "there is no topic "+c.topic, "see above")
	}
	if err != nil {
		return unasked(link, "the topic's subscriptions", err, "sns:ListSubscriptionsByTopic on "+c.topic)
	}
	subscribe := fmt.Sprintf("aws sns subscribe --topic-arn %s --protocol sqs --notification-endpoint %s --attributes RawMessageDelivery=true", c.topic, c.queueARN)
	switch arn {
	case "":
		return wrong(link, fmt.Sprintf("%s does not send to %s", c.topic, c.queueARN), "`"+subscribe+"`, or Terraform's host_queue")
	case "PendingConfirmation", "Deleted":
		return wrong(link, fmt.Sprintf("the subscription of %s is not confirmed", c.queueARN), "as the queue's owner, `"+subscribe+"`")
	}
	out, err := c.aws.sns.GetSubscriptionAttributes(ctx, &sns.GetSubscriptionAttributesInput{SubscriptionArn: &arn}, topicIn(c.topic))
	if err != nil {
		f := unasked(link, "whether the subscription is raw", err, "sns:GetSubscriptionAttributes on "+c.topic)
		f.Found = "the topic sends to the queue; " + f.Found
		return f
	}
	set := "aws sns set-subscription-attributes --subscription-arn " + arn + " --attribute-name "
	switch policy := out.Attributes["FilterPolicy"]; {
	case policy != "" && policy != "{}" && out.Attributes["FilterPolicyScope"] == "MessageBody":
		return unknown(link, "it has a filter policy, which is not judged: "+policy, "take it away: `"+set+"FilterPolicy --attribute-value '{}'`")
	case policy != "" && policy != "{}":
		return wrong(link, "its filter policy lets nothing through, as S3's messages have no attributes: "+policy, "`"+set+"FilterPolicy --attribute-value '{}'`")
	case out.Attributes["RawMessageDelivery"] != "true":
		return wrong(link, "it wraps the bucket's messages: npcnix reads them, but other readers of the queue may not", "`"+set+"RawMessageDelivery --attribute-value true`")
	}
	return ok(link, "the topic sends to %s, raw", c.queueARN)
}

// findSubscription returns the ARN of a queue's subscription to the topic; "" if there is none.
func (c *chain) findSubscription(ctx context.Context, queueARN string) (string, error) {
	pages := sns.NewListSubscriptionsByTopicPaginator(c.aws.sns, &sns.ListSubscriptionsByTopicInput{TopicArn: &c.topic})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx, topicIn(c.topic))
		if err != nil {
			return "", err
		}
		for _, s := range out.Subscriptions {
			if aws.ToString(s.Endpoint) == queueARN {
				return aws.ToString(s.SubscriptionArn), nil
			}
		}
	}
	return "", nil
}

// partition is that of an ARN.
func partition(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 1 && parts[1] != "" {
		return parts[1]
	}
	return "aws"
}
