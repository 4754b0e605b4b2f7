package awsfake

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// notificationConfiguration is a bucket's list of who hears of what, as S3 reads and writes it.
type notificationConfiguration struct {
	XMLName     xml.Name
	Topics      []notification `xml:"TopicConfiguration"`
	Queues      []notification `xml:"QueueConfiguration"`
	Functions   []struct{}     `xml:"CloudFunctionConfiguration"`
	EventBridge *struct{}      `xml:"EventBridgeConfiguration"` // kept, and nothing more: there is no EventBridge
}

type notification struct {
	ID     string       `xml:"Id"`
	Topic  string       `xml:",omitempty"` // ARN; either this or Queue
	Queue  string       `xml:",omitempty"`
	Events []string     `xml:"Event"`
	Rules  []filterRule `xml:"Filter>S3Key>FilterRule"`
}

type filterRule struct{ Name, Value string }

// wants says whether the notification is for an event, named without "s3:", of a key.
func (n notification) wants(event, key string) bool {
	named := slices.ContainsFunc(n.Events, func(pattern string) bool {
		pattern = strings.TrimPrefix(pattern, "s3:")
		family, all := strings.CutSuffix(pattern, "*")
		return pattern == event || all && strings.HasPrefix(event, family)
	})
	return named && !slices.ContainsFunc(n.Rules, func(rule filterRule) bool {
		if strings.EqualFold(rule.Name, "prefix") {
			return !strings.HasPrefix(key, rule.Value)
		}
		return !strings.HasSuffix(key, rule.Value)
	})
}

func (c *Cloud) getBucketNotification(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		out := b.notify
		out.XMLName = s3Element("NotificationConfiguration")
		return answerXML(out)
	})
}

// putBucketNotification replaces the whole configuration and sends a test event to everyone in it.
func (c *Cloud) putBucketNotification(r *request) (*answer, error) {
	var in notificationConfiguration
	if err := decodeXML(r.body, &in); err != nil {
		return nil, err
	}
	if len(in.Functions) > 0 {
		return nil, unimplemented("notifications to functions")
	}
	all := slices.Concat(in.Topics, in.Queues)
	for _, n := range all {
		if (n.Topic == "" || c.sns.get(n.Topic) == nil) && (n.Queue == "" || c.sqs.byARN(n.Queue) == nil) {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument",
				"Unable to validate the following destination configurations: %s%s", n.Topic, n.Queue)
		}
	}
	for _, list := range [][]notification{in.Topics, in.Queues} {
		for i := range list {
			if list[i].ID == "" {
				list[i].ID = newID()
			}
		}
	}
	a, err := c.withBucket(r, func(b *bucket) (*answer, error) {
		b.notify = in
		return answerEmpty(http.StatusOK), nil
	})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]string{
		"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": time.Now().UTC().Format(xmlTime),
		"Bucket": r.Bucket, "RequestId": newID(), "HostId": newID(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode test event: %w", err)
	}
	told := map[string]bool{}
	for _, n := range all {
		if !told[n.Topic+n.Queue] {
			c.notify(n.Topic, n.Queue, string(body))
			told[n.Topic+n.Queue] = true
		}
	}
	return a, nil
}

// notify sends a body to a topic or a queue; one that is gone is S3's loss, as on AWS.
func (c *Cloud) notify(topicARN, queueARN, body string) {
	if t := c.sns.get(topicARN); t != nil {
		c.fanOut(t, "Amazon S3 Notification", body)
	}
	if q := c.sqs.byARN(queueARN); q != nil {
		q.send(body, 0)
	}
}

// eventsOf lists the events that a change of o causes, one for each notification that wants it; the
// caller holds s.mu, so sequencers grow in the order of the changes.
func (s *storage) eventsOf(b *bucket, o *object, name string) []Event {
	s.sequencer = max(s.sequencer+1, time.Now().UnixNano())
	var out []Event
	for _, n := range slices.Concat(b.notify.Topics, b.notify.Queues) {
		if !n.wants(name, o.key) {
			continue
		}
		out = append(out, Event{
			Name: name, Bucket: b.name, Key: o.key, Size: len(o.body), ETag: o.etag, VersionID: o.version(),
			Sequencer: fmt.Sprintf("%018X", s.sequencer), At: time.Now(),
			configuration: n.ID, topicARN: n.Topic, queueARN: n.Queue,
		})
	}
	return out
}
