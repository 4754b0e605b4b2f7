package awsfake

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type queues struct {
	mu     sync.Mutex
	byName map[string]*queue
}

// sqsInput has the fields of all actions' inputs; a field that is not here is refused.
type sqsInput struct {
	QueueUrl, QueueName, QueueNamePrefix, NextToken  string
	QueueOwnerAWSAccountId                           string
	Attributes, Tags                                 map[string]string
	MessageBody, ReceiptHandle                       string
	DelaySeconds, VisibilityTimeout, WaitTimeSeconds *int
	MaxNumberOfMessages                              *int
	MaxResults                                       int
	AttributeNames, MessageSystemAttributeNames      []string
	MessageAttributeNames, TagKeys                   []string // there are never message attributes to name
	Entries                                          []sqsEntry
}

// sqsEntry is one entry of a batch.
type sqsEntry struct {
	Id, MessageBody, ReceiptHandle  string
	DelaySeconds, VisibilityTimeout *int
}

// sqsMessage is a message as ReceiveMessage answers it.
type sqsMessage struct {
	MessageId, ReceiptHandle, Body, MD5OfBody string
	Attributes                                map[string]string `json:",omitempty"`
}

type sqsFailed struct {
	Id, Code, Message string
	SenderFault       bool
}

// empty is the answer of actions that have nothing to say.
type empty struct{}

// onQueue are the actions on one queue, which exists.
var onQueue = map[string]func(*Cloud, *queue, *request, sqsInput) (any, error){
	"DeleteQueue":                  (*Cloud).deleteQueue,
	"GetQueueAttributes":           getQueueAttributes,
	"SetQueueAttributes":           setQueueAttributes,
	"SendMessage":                  sendMessage,
	"SendMessageBatch":             sendMessageBatch,
	"ReceiveMessage":               receiveMessage,
	"DeleteMessage":                deleteMessage,
	"DeleteMessageBatch":           deleteMessageBatch,
	"ChangeMessageVisibility":      changeMessageVisibility,
	"ChangeMessageVisibilityBatch": changeMessageVisibilityBatch,
	"PurgeQueue":                   purgeQueue,
	"TagQueue":                     tagQueue,
	"UntagQueue":                   untagQueue,
	"ListQueueTags":                listQueueTags,
}

// routeSQS reads an SQS request's input and finds its handler.
func routeSQS(r *request) {
	var in sqsInput
	decoder := json.NewDecoder(bytes.NewReader(r.body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&in)
	r.Queue = cmp.Or(in.QueueName, path.Base("/"+in.QueueUrl))
	if r.Queue == "/" {
		r.Queue = ""
	}
	r.handle = func(c *Cloud, r *request) (*answer, error) {
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "AWS.SimpleQueueService.UnsupportedOperation",
				"awsfake does not understand the input: %v", err)
		}
		out, err := c.sqsAction(r, in)
		if err != nil {
			return nil, err
		}
		return answerJSON(out)
	}
}

func (c *Cloud) sqsAction(r *request, in sqsInput) (any, error) {
	switch r.Action {
	case "CreateQueue":
		return c.createQueue(in)
	case "ListQueues":
		return c.listQueues(in)
	}
	q := c.sqs.get(r.Queue)
	if q == nil {
		return nil, noSuchQueue()
	}
	if r.Action == "GetQueueUrl" {
		return map[string]string{"QueueUrl": c.queueURL(q.name)}, nil
	}
	act, found := onQueue[r.Action]
	if !found {
		return nil, refuse(http.StatusBadRequest, "InvalidAction", "awsfake does not implement %s", r.Action)
	}
	return act(c, q, r, in)
}

func (qs *queues) get(name string) *queue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return qs.byName[name]
}

// byARN returns the queue that an ARN names, nil when there is none.
func (qs *queues) byARN(target string) *queue {
	q := qs.get(target[strings.LastIndex(target, ":")+1:])
	if q == nil || arn("sqs", q.name) != target {
		return nil
	}
	return q
}

func (qs *queues) all() []*queue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return slices.Collect(maps.Values(qs.byName))
}

func (c *Cloud) queueURL(name string) string { return c.url + "/" + Account + "/" + name }

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func (c *Cloud) createQueue(in sqsInput) (any, error) {
	if !queueName.MatchString(in.QueueName) {
		return nil, invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length; " +
			"awsfake has no FIFO queues")
	}
	s, err := defaultSettings().with(in.Attributes)
	if err != nil {
		return nil, err
	}
	if err := c.checkRedrive(s); err != nil {
		return nil, err
	}
	c.sqs.mu.Lock()
	defer c.sqs.mu.Unlock()
	if q := c.sqs.byName[in.QueueName]; q != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		for name, value := range in.Attributes {
			if q.settings.text[name] != value {
				return nil, refuse(http.StatusBadRequest, "QueueAlreadyExists",
					"A queue already exists with the same name and a different value for attribute %s", name)
			}
		}
	} else {
		bury := func(arn string, m *message) {
			if target := c.sqs.byARN(arn); target != nil {
				target.put(m, 0)
			}
		}
		tags := map[string]string{}
		maps.Copy(tags, in.Tags)
		c.sqs.byName[in.QueueName] = newQueue(in.QueueName, s, tags, c.trace.add, bury)
	}
	return map[string]string{"QueueUrl": c.queueURL(in.QueueName)}, nil
}

func (c *Cloud) checkRedrive(s settings) error {
	if s.deadLetters != "" && c.sqs.byARN(s.deadLetters) == nil {
		return invalid("Value %s for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.",
			s.text["RedrivePolicy"])
	}
	return nil
}

func (c *Cloud) listQueues(in sqsInput) (any, error) {
	var urls []string
	for _, q := range c.sqs.all() {
		if strings.HasPrefix(q.name, in.QueueNamePrefix) {
			urls = append(urls, c.queueURL(q.name))
		}
	}
	slices.Sort(urls)
	urls, next := page(urls, in.NextToken, cmp.Or(in.MaxResults, 1000))
	return struct {
		QueueUrls []string
		NextToken string `json:",omitempty"`
	}{urls, next}, nil
}

// page cuts one page out of items; token is where the page before ended.
func page[T any](items []T, token string, size int) (part []T, next string) {
	from, _ := strconv.Atoi(token) // a token that is none starts over
	from = min(max(from, 0), len(items))
	to := min(from+size, len(items))
	if to < len(items) {
		next = strconv.Itoa(to)
	}
	return items[from:to], next
}

func (c *Cloud) deleteQueue(q *queue, _ *request, _ sqsInput) (any, error) {
	c.sqs.mu.Lock()
	delete(c.sqs.byName, q.name)
	c.sqs.mu.Unlock()
	q.close()
	return empty{}, nil
}

func getQueueAttributes(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	attributes, err := q.attributes(in.AttributeNames)
	return map[string]any{"Attributes": attributes}, err
}

func setQueueAttributes(c *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	given, err := defaultSettings().with(in.Attributes)
	if err == nil {
		err = c.checkRedrive(given) // looks for another queue, so not under this one's lock
	}
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.release()
	q.settings, err = q.settings.with(in.Attributes)
	q.modified = time.Now()
	return empty{}, err
}

func purgeQueue(_ *Cloud, q *queue, _ *request, _ sqsInput) (any, error) {
	q.purge()
	return empty{}, nil
}

func tagQueue(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	q.mu.Lock()
	defer q.unlock()
	maps.Copy(q.tags, in.Tags)
	return empty{}, nil
}

func untagQueue(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	q.mu.Lock()
	defer q.unlock()
	for _, key := range in.TagKeys {
		delete(q.tags, key)
	}
	return empty{}, nil
}

func listQueueTags(_ *Cloud, q *queue, _ *request, _ sqsInput) (any, error) {
	q.mu.Lock()
	defer q.unlock()
	return map[string]any{"Tags": maps.Clone(q.tags)}, nil
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}
