package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// notification says whether the bucket sends a topic an event for every publish to the key.
func (c *chain) notification(ctx context.Context) Finding {
	const link = "notification"
	c.topic = c.TopicARN
	if c.blind != "" {
		return unknown(link, c.blind, "")
	}
	out, err := c.aws.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &c.bucket})
	if isNotFound(err) {
		return wrong(link, "there is no bucket "+c.bucket, "fix the remote's URL, or create the bucket")
	}
	if err != nil {
		return unasked(link, "the bucket's notification", err, "s3:GetBucketNotification on bucket "+c.bucket)
	}
	fix := fmt.Sprintf("send s3:ObjectCreated:* with the prefix %s and the suffix .npcnix to the remote's topic, with Terraform's store_s3 or "+
		"`aws s3api put-bucket-notification-configuration`, which replaces all notifications of the bucket; S3 takes about five minutes to apply it", c.key)
	var others []string
	topics := slices.Clone(out.TopicConfigurations)
	for _, q := range out.QueueConfigurations { // a bucket can send to one queue without a topic
		topics = append(topics, s3types.TopicConfiguration{TopicArn: q.QueueArn, Events: q.Events, Filter: q.Filter})
	}
	for _, t := range topics {
		arn := aws.ToString(t.TopicArn)
		prefix, suffix := filter(t.Filter)
		if !strings.HasPrefix(c.key, prefix) || !strings.HasSuffix(c.key, suffix) {
			others = append(others, fmt.Sprintf("%s gets only keys with the prefix %q and the suffix %q", arn, prefix, suffix))
			continue
		}
		if missed := missing(t.Events); len(missed) > 0 {
			others = append(others, fmt.Sprintf("%s gets events of this key, but not %s", arn, strings.Join(missed, ", ")))
			continue
		}
		if strings.Contains(arn, ":sqs:") {
			_ = c.lookAtQueue(ctx) // reported by its own link
			if c.QueueURL != "" && c.queueARN != arn {
				others = append(others, "only the queue "+arn+" gets events of this key")
				continue
			}
			c.direct, c.queueARN = true, arn
			return ok(link, "bucket %s sends events to the queue %s, without a topic", c.bucket, arn)
		}
		c.suffix, c.matched = suffix, true
		if c.TopicARN != "" && c.TopicARN != arn {
			return wrong(link, fmt.Sprintf("bucket %s sends events of this key to %s, not to %s", c.bucket, arn, c.TopicARN), "give the right --topic-arn, or fix the notification")
		}
		c.topic = arn
		if strings.HasSuffix("HOST.json", suffix) { // the prefix is that of the key, and so of the records beside it
			return warning(link, fmt.Sprintf("bucket %s sends every publish to %s, and every record of a host too, so that each host wakes all others", c.bucket, arn),
				"give the notification the suffix .npcnix")
		}
		return ok(link, "bucket %s sends every publish to %s", c.bucket, arn)
	}
	if f, bridged := c.eventBridge(ctx, out.EventBridgeConfiguration != nil, len(others) > 0); bridged {
		return f
	}
	found := fmt.Sprintf("bucket %s sends no event of a publish to %s", c.bucket, c.key)
	if len(others) > 0 {
		found += ": " + strings.Join(others, "; ")
	}
	return wrong(link, found, fix)
}

// eventBridge is the finding if no notification of the bucket is for this key: EventBridge can tell the topic too. It
// is known by what the topic's policy admits, as the rules themselves are not read.
func (c *chain) eventBridge(ctx context.Context, on, others bool) (f Finding, bridged bool) {
	const link = "notification"
	if c.topic == "" && c.lookAtQueue(ctx) == nil {
		c.topic = topicARN.FindString(c.queue["Policy"])
	}
	var policy string
	known := false
	if c.topic != "" {
		out, err := c.aws.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &c.topic}, topicIn(c.topic))
		if known = err == nil; known {
			policy = out.Attributes["Policy"]
		}
	}
	if known && policy != "" {
		verdict, _ := allows(policy, question{service: "events.amazonaws.com", action: "sns:Publish", resource: c.topic})
		c.bridged = verdict != Wrong
	}
	switch {
	case on && (c.bridged || !known && !others):
		return unknown(link, "bucket "+c.bucket+" sends events to EventBridge, whose rules are not read",
			"`npcnix doctor --probe` shows whether an event arrives; `aws events list-rules` shows the rules"), true
	case c.bridged:
		return wrong(link, fmt.Sprintf("bucket %s sends no events to EventBridge, although EventBridge can publish to %s", c.bucket, c.topic),
			"switch EventBridge on in the bucket's notification, where something has switched it off: eventbridge = true of the aws_s3_bucket_notification that writes it, beside all that is there"), true
	}
	return Finding{}, false
}

// topicARN finds the topic that a queue's policy admits.
var topicARN = regexp.MustCompile(`arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+`)

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

// missing are the ways to publish that a notification omits.
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

// topicPolicy says whether the topic exists and the bucket can publish to it.
func (c *chain) topicPolicy(ctx context.Context) Finding {
	const link = "topic"
	if f, known := c.needTopic(link); !known {
		return f
	}
	out, err := c.aws.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &c.topic}, topicIn(c.topic))
	if isNotFound(err) {
		return wrong(link, "there is no topic "+c.topic, "create it, for instance with Terraform's store_s3, or fix the topic in the bucket's notification")
	}
	if err != nil {
		return unasked(link, "the topic's policy", err, "sns:GetTopicAttributes on "+c.topic)
	}
	q := question{
		service: "s3.amazonaws.com", action: "sns:Publish", resource: c.topic,
		context: map[string]string{"aws:sourcearn": "arn:" + partition(c.topic) + ":s3:::" + c.bucket, "aws:securetransport": "true"},
	}
	if owner := accountOf(c.topic); c.account == owner && strings.Contains(out.Attributes["Policy"], owner) {
		q.context["aws:sourceaccount"] = owner // otherwise the bucket's owner is unknown
	}
	if c.bridged {
		q.service, q.context = "events.amazonaws.com", map[string]string{"aws:securetransport": "true"}
		if verdict, why := allows(out.Attributes["Policy"], q); verdict != OK {
			return Finding{Link: link, Verdict: verdict, Found: fmt.Sprintf("whether EventBridge can publish to %s: %s", c.topic, why),
				Fix: "allow events.amazonaws.com sns:Publish in the topic's policy without a condition, as Terraform's store_s3 does: EventBridge supports none"}
		}
		return encrypted(link, out.Attributes["KmsMasterKeyId"], "alias/aws/sns", q.service, ok(link, "EventBridge can publish to %s", c.topic))
	}
	switch verdict, why := allows(out.Attributes["Policy"], q); verdict {
	case Wrong:
		return wrong(link, fmt.Sprintf("the bucket cannot publish to %s: %s", c.topic, why),
			"allow s3.amazonaws.com sns:Publish in the topic's policy, with aws:SourceArn arn:aws:s3:::"+c.bucket+", as Terraform's store_s3 and docs/aws.md do")
	case Unknown:
		return unknown(link, why, "")
	}
	return encrypted(link, out.Attributes["KmsMasterKeyId"], "alias/aws/sns", "s3.amazonaws.com",
		ok(link, "bucket %s can publish to %s", c.bucket, c.topic))
}

// encrypted adds a topic's or queue's encryption to a finding that is otherwise good: the sender must be
// allowed to use the key, which the policy of AWS's own key never allows.
func encrypted(link, key, awsOwn, sender string, well Finding) Finding {
	switch {
	case key == "":
		return well
	case strings.HasSuffix(key, awsOwn):
		return wrong(link, fmt.Sprintf("it is encrypted with %s, which %s cannot use", key, sender),
			"use your own key with a policy that allows "+sender+" kms:GenerateDataKey* and kms:Decrypt, or SSE without KMS")
	}
	return unknown(link, well.Found+"; but it is encrypted with the key "+key+", whose policy is not checked",
		"make sure that the key's policy allows "+sender+" kms:GenerateDataKey* and kms:Decrypt")
}

// needTopic is the finding of a link that cannot be checked without the topic.
func (c *chain) needTopic(link string) (Finding, bool) {
	switch {
	case c.blind != "":
		return unknown(link, c.blind, ""), false
	case c.direct:
		return ok(link, "none is needed"), false
	case c.topic == "":
		return unknown(link, "the bucket's topic is unknown", "fix or allow what is reported above, or give --topic-arn"), false
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
		return unknown(link, "no queue is given", "give --queue-url, or run the doctor on a host")
	}
	if c.gone {
		return unknown(link, "there is no such queue, see below", "")
	}
	if c.queueARN == "" {
		return unknown(link, "the queue's ARN is unknown", "allow what is reported for the queue below")
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
		f := unasked(link, "the subscription's attributes", err, "sns:GetSubscriptionAttributes on "+c.topic)
		f.Found = "the topic sends to the queue; " + f.Found
		return f
	}
	set := "aws sns set-subscription-attributes --subscription-arn " + arn + " --attribute-name "
	switch policy := out.Attributes["FilterPolicy"]; {
	case policy != "" && policy != "{}" && out.Attributes["FilterPolicyScope"] == "MessageBody":
		return unknown(link, "it has a filter policy, which is not evaluated: "+policy, "remove it: `"+set+"FilterPolicy --attribute-value '{}'`")
	case policy != "" && policy != "{}":
		return wrong(link, "its filter policy matches nothing, because S3's messages have no attributes: "+policy, "`"+set+"FilterPolicy --attribute-value '{}'`")
	case out.Attributes["RawMessageDelivery"] != "true":
		return warning(link, "it wraps the bucket's messages: npcnix reads them, but other readers of the queue might not", "`"+set+"RawMessageDelivery --attribute-value true`")
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

// accountOf is the account of an ARN; "" if it has none.
func accountOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// partition is that of an ARN.
func partition(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 1 && parts[1] != "" {
		return parts[1]
	}
	return "aws"
}
