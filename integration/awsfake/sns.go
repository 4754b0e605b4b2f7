package awsfake

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// topics is all of SNS.
type topics struct {
	mu            sync.Mutex
	topics        map[string]*topic // by ARN
	subscriptions []*subscription   // of all topics, oldest first
	pend          bool              // new subscriptions wait for a confirmation
	perSecond     float64           // Subscribe a second; 0: no limit
	subscribes    rate
}

type topic struct {
	arn        string
	attributes map[string]string
	tags       map[string]string
}

type subscription struct {
	arn, topic, endpoint string
	pending              bool
	attributes           map[string]string
}

// snsActions are the actions by name; each returns what stands in its result element.
var snsActions = map[string]func(*Cloud, url.Values) (any, error){
	"CreateTopic":               (*Cloud).createTopic,
	"DeleteTopic":               (*Cloud).deleteTopic,
	"ListTopics":                (*Cloud).listTopics,
	"GetTopicAttributes":        (*Cloud).getTopicAttributes,
	"SetTopicAttributes":        (*Cloud).setTopicAttributes,
	"TagResource":               (*Cloud).tagResource,
	"UntagResource":             (*Cloud).untagResource,
	"ListTagsForResource":       (*Cloud).listTagsForResource,
	"Subscribe":                 (*Cloud).subscribe,
	"Unsubscribe":               (*Cloud).unsubscribe,
	"ListSubscriptionsByTopic":  (*Cloud).listSubscriptions,
	"GetSubscriptionAttributes": (*Cloud).getSubscriptionAttributes,
	"SetSubscriptionAttributes": (*Cloud).setSubscriptionAttributes,
	"Publish":                   (*Cloud).snsPublish,
}

type (
	snsEntry struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	snsAttributes struct {
		Entries []snsEntry `xml:"Attributes>entry"`
	}
	snsResult struct {
		TopicArn        string `xml:",omitempty"`
		SubscriptionArn string `xml:",omitempty"`
		MessageId       string `xml:",omitempty"`
	}
)

// routeSNS finds the handler of an SNS request.
func routeSNS(r *request) {
	for _, name := range []string{"TopicArn", "TargetArn", "ResourceArn", "Name"} {
		if r.Topic == "" {
			r.Topic = lastPart(r.form.Get(name))
		}
	}
	act, found := snsActions[r.Action]
	r.handle = func(c *Cloud, r *request) (*answer, error) {
		if !found || r.form.Get("Version") != "2010-03-31" {
			return nil, refuse(http.StatusBadRequest, "InvalidAction", "awsfake does not implement %s of %s",
				r.Action, r.form.Get("Version"))
		}
		result, err := act(c, r.form)
		if err != nil {
			return nil, err
		}
		return answerForm("http://sns.amazonaws.com/doc/2010-03-31/", r.Action, result)
	}
}

// answerForm wraps a result in the elements that are named after the action.
func answerForm(namespace, action string, result any) (*answer, error) {
	var out bytes.Buffer
	encoder := xml.NewEncoder(&out)
	root := xml.StartElement{Name: xml.Name{Space: namespace, Local: action + "Response"}}
	err := encoder.EncodeToken(root)
	if err == nil && result != nil {
		err = encoder.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	}
	if err == nil {
		err = encoder.EncodeElement(struct{ RequestId string }{newID()}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}})
	}
	if err == nil {
		err = encoder.EncodeToken(root.End())
	}
	if err == nil {
		err = encoder.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	a := answerEmpty(http.StatusOK).with("Content-Type", "text/xml")
	a.body = out.Bytes()
	return a, nil
}

// pairs reads a map out of a form: prefix.1.key and prefix.1.value, prefix.2.key, …
func pairs(form url.Values, prefix, key, value string) map[string]string {
	out := map[string]string{}
	for i := 1; ; i++ {
		at := prefix + "." + strconv.Itoa(i) + "."
		if !form.Has(at + key) {
			return out
		}
		out[form.Get(at+key)] = form.Get(at + value)
	}
}

func entries(m map[string]string) (out []snsEntry) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, snsEntry{key, m[key]})
	}
	return out
}

func snsInvalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidParameter", "Invalid parameter: "+format, args...)
}

func snsMissing(what string) error {
	return refuse(http.StatusNotFound, "NotFound", "%s does not exist", what)
}

// get returns a topic, nil when there is none.
func (ts *topics) get(arn string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.topics[arn]
}

// withTopic lets f answer while it holds SNS and the topic that the form names.
func (c *Cloud) withTopic(topicARN string, f func(*topic) (any, error)) (any, error) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	t := c.sns.topics[topicARN]
	if t == nil {
		return nil, snsMissing("Topic")
	}
	return f(t)
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// topicAttributes are those that an owner may set; none of them changes what awsfake does.
var topicAttributes = []string{"Policy", "DisplayName", "DeliveryPolicy", "KmsMasterKeyId", "SignatureVersion", "TracingConfig"}

func checkTopicAttribute(name string) error {
	if !slices.Contains(topicAttributes, name) {
		return snsInvalid("AttributeName: awsfake does not know %s", name)
	}
	return nil
}

func (c *Cloud) createTopic(form url.Values) (any, error) {
	if !topicName.MatchString(form.Get("Name")) {
		return nil, snsInvalid("Topic Name (awsfake has no FIFO topics)")
	}
	attributes := pairs(form, "Attributes.entry", "key", "value")
	for name := range attributes {
		if err := checkTopicAttribute(name); err != nil {
			return nil, err
		}
	}
	t := &topic{
		arn: arn("sns", form.Get("Name")), attributes: attributes, tags: pairs(form, "Tags.member", "Key", "Value"),
	}
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	if c.sns.topics[t.arn] == nil {
		c.sns.topics[t.arn] = t
	}
	return snsResult{TopicArn: t.arn}, nil
}

func (c *Cloud) deleteTopic(form url.Values) (any, error) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	delete(c.sns.topics, form.Get("TopicArn"))
	c.sns.subscriptions = slices.DeleteFunc(c.sns.subscriptions, func(s *subscription) bool {
		return s.topic == form.Get("TopicArn")
	})
	return nil, nil
}

func (c *Cloud) listTopics(form url.Values) (any, error) {
	c.sns.mu.Lock()
	defer c.sns.mu.Unlock()
	arns, next := page(slices.Sorted(maps.Keys(c.sns.topics)), form.Get("NextToken"), 100)
	out := struct {
		Topics    []snsResult `xml:"Topics>member"`
		NextToken string      `xml:",omitempty"`
	}{NextToken: next}
	for _, a := range arns {
		out.Topics = append(out.Topics, snsResult{TopicArn: a})
	}
	return out, nil
}

func (c *Cloud) getTopicAttributes(form url.Values) (any, error) {
	return c.withTopic(form.Get("TopicArn"), func(t *topic) (any, error) {
		all := maps.Clone(t.attributes)
		all["TopicArn"], all["Owner"] = t.arn, Account
		all["SubscriptionsConfirmed"] = strconv.Itoa(len(c.sns.of(t.arn)))
		all["SubscriptionsPending"], all["SubscriptionsDeleted"] = "0", "0"
		return snsAttributes{entries(all)}, nil
	})
}

func (c *Cloud) setTopicAttributes(form url.Values) (any, error) {
	if err := checkTopicAttribute(form.Get("AttributeName")); err != nil {
		return nil, err
	}
	return c.withTopic(form.Get("TopicArn"), func(t *topic) (any, error) {
		t.attributes[form.Get("AttributeName")] = form.Get("AttributeValue")
		return nil, nil
	})
}

func (c *Cloud) tagResource(form url.Values) (any, error) {
	return c.withTopic(form.Get("ResourceArn"), func(t *topic) (any, error) {
		maps.Copy(t.tags, pairs(form, "Tags.member", "Key", "Value"))
		return struct{}{}, nil
	})
}

func (c *Cloud) untagResource(form url.Values) (any, error) {
	return c.withTopic(form.Get("ResourceArn"), func(t *topic) (any, error) {
		for i := 1; form.Has("TagKeys.member." + strconv.Itoa(i)); i++ {
			delete(t.tags, form.Get("TagKeys.member."+strconv.Itoa(i)))
		}
		return struct{}{}, nil
	})
}

func (c *Cloud) listTagsForResource(form url.Values) (any, error) {
	type tag struct{ Key, Value string }
	var out struct {
		Tags []tag `xml:"Tags>member"`
	}
	return c.withTopic(form.Get("ResourceArn"), func(t *topic) (any, error) {
		for _, e := range entries(t.tags) {
			out.Tags = append(out.Tags, tag(e))
		}
		return out, nil
	})
}
