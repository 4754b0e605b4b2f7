package awsfake

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// of lists a topic's subscriptions; the caller holds ts.mu.
func (ts *topics) of(topicARN string) (out []*subscription) {
	for _, s := range ts.subscriptions {
		if s.topic == topicARN {
			out = append(out, s)
		}
	}
	return out
}

// checkSubscriptionAttribute refuses, among others, filter policies: they would have to be obeyed.
func checkSubscriptionAttribute(name, value string) error {
	switch {
	case name == "RawMessageDelivery" && (strings.EqualFold(value, "true") || strings.EqualFold(value, "false")):
		return nil
	case name == "RedrivePolicy" && (value == "" || json.Valid([]byte(value))):
		return nil
	}
	return snsInvalid("Attributes: awsfake does not know %s %q", name, value)
}

func (c *Cloud) subscribe(form url.Values) (any, error) {
	endpoint := form.Get("Endpoint")
	if form.Get("Protocol") != "sqs" || !strings.HasPrefix(endpoint, "arn:aws:sqs:") {
		return nil, snsInvalid("awsfake only delivers to SQS ARNs, not %s %q", form.Get("Protocol"), endpoint)
	}
	attributes := pairs(form, "Attributes.entry", "key", "value")
	for name, value := range attributes {
		if err := checkSubscriptionAttribute(name, value); err != nil {
			return nil, err
		}
	}
	return c.withTopic(form.Get("TopicArn"), func(t *topic) (any, error) {
		if c.sns.perSecond > 0 && !c.sns.subscribes.take(c.sns.perSecond) {
			return nil, refuse(http.StatusBadRequest, "Throttling", "Rate exceeded")
		}
		shown := func(s *subscription) (any, error) {
			if s.pending && form.Get("ReturnSubscriptionArn") != "true" {
				return snsResult{SubscriptionArn: "pending confirmation"}, nil
			}
			return snsResult{SubscriptionArn: s.arn}, nil
		}
		for _, s := range c.sns.of(t.arn) {
			if s.endpoint == endpoint && maps.Equal(s.attributes, attributes) {
				return shown(s)
			}
			if s.endpoint == endpoint {
				return nil, snsInvalid("Attributes Reason: Subscription already exists with different attributes")
			}
		}
		s := &subscription{arn: t.arn + ":" + newID(), topic: t.arn, endpoint: endpoint, attributes: attributes, pending: c.sns.pend}
		c.sns.subscriptions = append(c.sns.subscriptions, s)
		return shown(s)
	})
}

// PendSubscriptions has new subscriptions wait for a confirmation, as those that another account than the queue's makes.
// If it is off, all are confirmed.
func (c *Cloud) PendSubscriptions(on bool) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	c.sns.pend = on
	for _, s := range c.sns.subscriptions {
		s.pending = s.pending && on
	}
}

// LimitSubscribe has SNS refuse with Throttling what is beyond so many calls of Subscribe a second, as AWS does with more
// than 100 (Amazon SNS endpoints and quotas). 0: it takes all.
func (c *Cloud) LimitSubscribe(perSecond int) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	c.sns.perSecond, c.sns.subscribes = float64(perSecond), rate{}
}

func (c *Cloud) unsubscribe(form url.Values) (any, error) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	c.sns.subscriptions = slices.DeleteFunc(c.sns.subscriptions, func(s *subscription) bool {
		return s.arn == form.Get("SubscriptionArn")
	})
	return nil, nil
}

func (c *Cloud) listSubscriptions(form url.Values) (any, error) {
	type member struct{ SubscriptionArn, Owner, Protocol, Endpoint, TopicArn string }
	var out struct {
		Subscriptions []member `xml:"Subscriptions>member"`
		NextToken     string   `xml:",omitempty"`
	}
	return c.withTopic(form.Get("TopicArn"), func(t *topic) (any, error) {
		part, next := page(c.sns.of(t.arn), form.Get("NextToken"), 100)
		for _, s := range part {
			shown := s.arn
			if s.pending {
				shown = "PendingConfirmation"
			}
			out.Subscriptions = append(out.Subscriptions, member{shown, Account, "sqs", s.endpoint, s.topic})
		}
		out.NextToken = next
		return out, nil
	})
}

// withSubscription lets f answer while it holds SNS and the subscription that the form names.
func (c *Cloud) withSubscription(form url.Values, f func(*subscription) (any, error)) (any, error) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	for _, s := range c.sns.subscriptions {
		if s.arn == form.Get("SubscriptionArn") {
			return f(s)
		}
	}
	return nil, snsMissing("Subscription")
}

func (c *Cloud) getSubscriptionAttributes(form url.Values) (any, error) {
	return c.withSubscription(form, func(s *subscription) (any, error) {
		all := map[string]string{
			"SubscriptionArn": s.arn, "TopicArn": s.topic, "Owner": Account, "Protocol": "sqs", "Endpoint": s.endpoint,
			"ConfirmationWasAuthenticated": "true", "PendingConfirmation": strconv.FormatBool(s.pending), "RawMessageDelivery": "false",
		}
		maps.Copy(all, s.attributes)
		return snsAttributes{entries(all)}, nil
	})
}

func (c *Cloud) setSubscriptionAttributes(form url.Values) (any, error) {
	name, value := form.Get("AttributeName"), form.Get("AttributeValue")
	if err := checkSubscriptionAttribute(name, value); err != nil {
		return nil, err
	}
	return c.withSubscription(form, func(s *subscription) (any, error) {
		s.attributes[name] = value
		return nil, nil
	})
}

func (c *Cloud) snsPublish(form url.Values) (any, error) {
	for name := range form {
		if strings.HasPrefix(name, "MessageAttributes") || name == "MessageStructure" {
			return nil, snsInvalid("awsfake does not know %s", name)
		}
	}
	if form.Get("Message") == "" {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "Invalid parameter: Empty message")
	}
	t := c.sns.get(form.Get("TopicArn") + form.Get("TargetArn"))
	if t == nil {
		return nil, snsMissing("Topic")
	}
	return snsResult{MessageId: c.fanOut(t, form.Get("Subject"), form.Get("Message"))}, nil
}

// envelope is what SNS wraps a message in unless delivery is raw.
type envelope struct {
	Type             string
	MessageId        string
	TopicArn         string
	Subject          string `json:",omitempty"`
	Message          string
	Timestamp        string
	SignatureVersion string
	Signature        string // not a real one
	SigningCertURL   string
	UnsubscribeURL   string
}

// fanOut delivers a message to a topic's subscriptions and returns its id. Where a queue is gone it goes
// to the subscription's dead-letter queue, if there is one.
func (c *Cloud) fanOut(t *topic, subject, message string) string {
	type target struct {
		subscription
		raw  bool
		dead string
	}
	var targets []target
	c.sns.mu.Lock()
	for _, s := range c.sns.of(t.arn) {
		if s.pending {
			continue
		}
		var policy struct {
			DeadLetterTargetArn string `json:"deadLetterTargetArn"`
		}
		if text := s.attributes["RedrivePolicy"]; text != "" {
			_ = json.Unmarshal([]byte(text), &policy) // was checked when it was set; another shape means none
		}
		targets = append(targets, target{*s, strings.EqualFold(s.attributes["RawMessageDelivery"], "true"), policy.DeadLetterTargetArn})
	}
	c.sns.mu.Unlock()

	e := envelope{
		Type: "Notification", MessageId: newID(), TopicArn: t.arn, Subject: subject, Message: message,
		Timestamp: time.Now().UTC().Format(xmlTime), SignatureVersion: "1", Signature: "RkFLRQ==",
		SigningCertURL: c.url + "/SimpleNotificationService.pem",
	}
	for _, s := range targets {
		q := c.sqs.byARN(s.endpoint)
		if q == nil {
			q = c.sqs.byARN(s.dead)
		}
		body := message
		if !s.raw {
			e.UnsubscribeURL = c.url + "/?Action=Unsubscribe&SubscriptionArn=" + url.QueryEscape(s.arn)
			text, err := json.Marshal(e)
			if err != nil {
				continue // strings always encode
			}
			body = string(text)
		}
		if q != nil {
			c.deliver(q, body)
		}
	}
	return e.MessageId
}
