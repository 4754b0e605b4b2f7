package awsfake_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
)

func (w world) subscribe(t *testing.T, topic, queueARN, raw string) (arn string) {
	t.Helper()
	in := &sns.SubscribeInput{TopicArn: &topic, Protocol: aws.String("sqs"), Endpoint: &queueARN, ReturnSubscriptionArn: true}
	if raw != "" {
		in.Attributes = map[string]string{"RawMessageDelivery": raw}
	}
	out, err := w.sns.Subscribe(t.Context(), in)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	return *out.SubscriptionArn
}

var snsBehaviours = []behaviour{
	{"a topic is created once, listed and deleted", func(t *testing.T, w world) {
		in := &sns.CreateTopicInput{Name: aws.String(name("topic"))}
		first, err := w.sns.CreateTopic(t.Context(), in)
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		again, err := w.sns.CreateTopic(t.Context(), in)
		if err != nil || *again.TopicArn != *first.TopicArn {
			t.Errorf("create again: %v, %v", again, err)
		}
		w.topic(t) // so that there is more than one
		var found bool
		asked, total := 0, 0
		for pages := sns.NewListTopicsPaginator(w.sns, &sns.ListTopicsInput{}); pages.HasMorePages(); {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("list: %v", err)
			}
			asked, total = asked+1, total+len(page.Topics)
			found = found || slices.ContainsFunc(page.Topics, func(topic types.Topic) bool { return *topic.TopicArn == *first.TopicArn })
		}
		if !found || asked != (total+99)/100 {
			t.Errorf("%s is not among the %d that are listed in %d pages of 100", *first.TopicArn, total, asked)
		}
		if _, err := w.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: first.TopicArn}); err != nil {
			t.Errorf("delete: %v", err)
		}
		_, err = w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: first.TopicArn, Message: aws.String("hello")})
		if _, ok := errors.AsType[*types.NotFoundException](err); !ok {
			t.Errorf("publish to nobody: %v", err)
		}
	}},
	{"a topic's attributes and tags are kept", func(t *testing.T, w world) {
		topic := w.topic(t)
		if _, err := w.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{
			TopicArn: &topic, AttributeName: aws.String("DisplayName"), AttributeValue: aws.String("shown"),
		}); err != nil {
			t.Errorf("set: %v", err)
		}
		out, err := w.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &topic})
		if err != nil || out.Attributes["DisplayName"] != "shown" || out.Attributes["TopicArn"] != topic {
			t.Errorf("attributes %v, %v", out, err)
		}
		if _, err := w.sns.TagResource(t.Context(), &sns.TagResourceInput{
			ResourceArn: &topic, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b"), Value: aws.String("2")}},
		}); err != nil {
			t.Errorf("tag: %v", err)
		}
		if _, err := w.sns.UntagResource(t.Context(), &sns.UntagResourceInput{ResourceArn: &topic, TagKeys: []string{"a"}}); err != nil {
			t.Errorf("untag: %v", err)
		}
		tags, err := w.sns.ListTagsForResource(t.Context(), &sns.ListTagsForResourceInput{ResourceArn: &topic})
		if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "b" || *tags.Tags[0].Value != "2" {
			t.Errorf("tags %+v, %v", tags, err)
		}
	}},
	{"a publish reaches every subscription until it ends", func(t *testing.T, w world) {
		topic := w.topic(t)
		a, aARN := w.queue(t, nil)
		b, bARN := w.queue(t, nil)
		first := w.subscribe(t, topic, aARN, "true")
		if again := w.subscribe(t, topic, aARN, "true"); again != first {
			t.Errorf("subscribed again as %s, was %s", again, first)
		}
		second := w.subscribe(t, topic, bARN, "true")
		publish := func(message string) {
			if _, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: &message}); err != nil {
				t.Fatalf("publish: %v", err)
			}
		}
		publish("first")
		if _, err := w.sns.Unsubscribe(t.Context(), &sns.UnsubscribeInput{SubscriptionArn: &second}); err != nil {
			t.Errorf("unsubscribe: %v", err)
		}
		publish("second")
		if gotA, gotB := w.drain(t, a), w.drain(t, b); !slices.Equal(gotA, []string{"first", "second"}) || !slices.Equal(gotB, []string{"first"}) {
			t.Errorf("received %v and %v", gotA, gotB)
		}
	}},
	{"raw delivery and a redrive policy are set on a subscription", func(t *testing.T, w world) {
		topic := w.topic(t)
		queue, arn := w.queue(t, nil)
		subscription := w.subscribe(t, topic, arn, "")
		policy := fmt.Sprintf(`{"deadLetterTargetArn":%q}`, arn)
		for attribute, value := range map[string]string{"RawMessageDelivery": "true", "RedrivePolicy": policy} {
			if _, err := w.sns.SetSubscriptionAttributes(t.Context(), &sns.SetSubscriptionAttributesInput{
				SubscriptionArn: &subscription, AttributeName: &attribute, AttributeValue: &value,
			}); err != nil {
				t.Errorf("set %s: %v", attribute, err)
			}
		}
		out, err := w.sns.GetSubscriptionAttributes(t.Context(), &sns.GetSubscriptionAttributesInput{SubscriptionArn: &subscription})
		if err != nil || out.Attributes["RawMessageDelivery"] != "true" || out.Attributes["RedrivePolicy"] != policy ||
			out.Attributes["Endpoint"] != arn || out.Attributes["Protocol"] != "sqs" || out.Attributes["TopicArn"] != topic {
			t.Errorf("attributes %v, %v", out, err)
		}
		if _, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: aws.String("hello")}); err != nil {
			t.Errorf("publish: %v", err)
		}
		if m := w.one(t, queue); *m.Body != "hello" {
			t.Errorf("received %q", *m.Body)
		}
	}},
	{"subscriptions come in pages of a hundred", func(t *testing.T, w world) {
		topic := w.topic(t)
		_, arn := w.queue(t, nil)
		for i := range 120 {
			w.subscribe(t, topic, fmt.Sprintf("%s-%d", arn, i), "true")
		}
		seen, sizes := map[string]bool{}, []int{}
		for pages := sns.NewListSubscriptionsByTopicPaginator(w.sns, &sns.ListSubscriptionsByTopicInput{TopicArn: &topic}); pages.HasMorePages(); {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatalf("list: %v", err)
			}
			sizes = append(sizes, len(page.Subscriptions))
			for _, s := range page.Subscriptions {
				seen[*s.Endpoint] = true
				if *s.Protocol != "sqs" || *s.TopicArn != topic || *s.SubscriptionArn == "" {
					t.Errorf("subscription %+v", s)
				}
			}
		}
		if len(seen) != 120 || !slices.Equal(sizes, []int{100, 20}) {
			t.Errorf("%d endpoints in pages of %v", len(seen), sizes)
		}
	}},
}

func TestSubscriptionDeadLetter(t *testing.T) {
	w := newWorld(start(t).URL(), differences{})
	topic := w.topic(t)
	queue, arn := w.queue(t, nil)
	dead, deadARN := w.queue(t, nil)
	subscription := w.subscribe(t, topic, arn, "true")
	if _, err := w.sns.SetSubscriptionAttributes(t.Context(), &sns.SetSubscriptionAttributesInput{
		SubscriptionArn: &subscription, AttributeName: aws.String("RedrivePolicy"),
		AttributeValue: aws.String(fmt.Sprintf(`{"deadLetterTargetArn":%q}`, deadARN)),
	}); err != nil {
		t.Fatal(err)
	}
	w.deleteQueue(t, queue)
	if _, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: aws.String("hello")}); err != nil {
		t.Fatal(err)
	}
	if m := w.one(t, dead); *m.Body != "hello" {
		t.Errorf("the dead letter is %q", *m.Body)
	}
}
