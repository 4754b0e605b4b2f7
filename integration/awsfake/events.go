package awsfake

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is an S3 event on its way from a bucket to one topic or queue, its destination. Test events
// are none. A transformation may change every field; the destination stays with the event.
type Event struct {
	Name      string // "ObjectCreated:Put", …
	Bucket    string
	Key       string // not encoded
	Size      int
	ETag      string
	VersionID string // empty on an unversioned bucket
	Sequencer string // hexadecimal; left out of the message when empty
	At        time.Time

	Body  string        // when set, the message in place of the event's JSON
	Delay time.Duration // how long the event is held up

	configuration, topicARN, queueARN string
}

// Transform says what becomes of an event: none, itself, several. It may keep events back and return
// them with a later one. It is called for one event at a time.
type Transform func(Event) []Event

// Lose is a Transform that loses every event.
func Lose(Event) []Event { return nil }

// NoSequencer is a Transform that takes the sequencer away.
func NoSequencer(e Event) []Event {
	e.Sequencer = ""
	return []Event{e}
}

// Duplicate sends each event n times.
func Duplicate(n int) Transform {
	return func(e Event) []Event { return slices.Repeat([]Event{e}, n) }
}

// Delay holds each event up for d.
func Delay(d time.Duration) Transform {
	return func(e Event) []Event { e.Delay = d; return []Event{e} }
}

// Garble replaces each event's message by body.
func Garble(body string) Transform {
	return func(e Event) []Event { e.Body = body; return []Event{e} }
}

// Reverse holds events back until there are n, then releases them in reverse order.
func Reverse(n int) Transform {
	var held []Event
	return func(e Event) []Event {
		held = append(held, e)
		if len(held) < n {
			return nil
		}
		out := held
		held = nil
		slices.Reverse(out)
		return out
	}
}

// Next applies t to the next n events and leaves those after them alone.
func Next(n int, t Transform) Transform {
	return func(e Event) []Event {
		if n == 0 {
			return []Event{e}
		}
		n--
		return t(e)
	}
}

type transforms struct {
	mu    sync.Mutex
	inUse []*Transform
}

// Events puts a transformation in the way of S3 events until remove is called; what it keeps back then
// is lost. Several apply one after the other, in the order they were set.
func (c *Cloud) Events(t Transform) (remove func()) {
	p := &t
	c.events.mu.Lock()
	defer c.events.mu.Unlock()
	c.events.inUse = append(c.events.inUse, p)
	return func() {
		c.events.mu.Lock()
		defer c.events.mu.Unlock()
		c.events.inUse = slices.DeleteFunc(c.events.inUse, func(q *Transform) bool { return q == p })
	}
}

func (ts *transforms) apply(events []Event) []Event {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.inUse {
		var out []Event
		for _, e := range events {
			out = append(out, (*t)(e)...)
		}
		events = out
	}
	return events
}

// publish sends events to their destinations.
func (c *Cloud) publish(events []Event) {
	for _, e := range c.events.apply(events) {
		send := func() {
			c.trace.add(Entry{
				What: Published, ETag: e.ETag, VersionID: e.VersionID,
				Call: Call{Service: "s3", Bucket: e.Bucket, Key: e.Key, Topic: lastPart(e.topicARN), Queue: lastPart(e.queueARN)},
			})
			c.notify(e.topicARN, e.queueARN, e.message())
		}
		if e.Delay > 0 {
			c.after(e.Delay, send)
		} else {
			send()
		}
	}
}

// spread says how the messages of topics come to their queues.
type spread struct {
	mu sync.Mutex
	of func(queue string) []time.Duration
}

// Spread has each message of a topic come to a queue as often as f returns delays, each time that late: none loses
// it, two double it. Nil: once, at once.
func (c *Cloud) Spread(f func(queue string) []time.Duration) {
	c.spread.mu.Lock()
	defer c.spread.mu.Unlock()
	c.spread.of = f
}

// deliver sends a topic's message to a queue.
func (c *Cloud) deliver(q *queue, body string) {
	c.spread.mu.Lock()
	delays := []time.Duration{0}
	if c.spread.of != nil {
		delays = c.spread.of(q.name)
	}
	c.spread.mu.Unlock()
	for _, d := range delays {
		if d > 0 {
			c.after(d, func() { q.send(body, 0) })
			continue
		}
		q.send(body, 0)
	}
}

func lastPart(arn string) string { return arn[strings.LastIndex(arn, ":")+1:] }

// message is the event as S3 writes it.
func (e Event) message() string {
	if e.Body != "" {
		return e.Body
	}
	type identity struct {
		PrincipalID string `json:"principalId"`
	}
	type s3Bucket struct {
		Name          string   `json:"name"`
		OwnerIdentity identity `json:"ownerIdentity"`
		ARN           string   `json:"arn"`
	}
	type s3Object struct {
		Key       string `json:"key"`
		Size      int    `json:"size,omitempty"`
		ETag      string `json:"eTag,omitempty"`
		VersionID string `json:"versionId,omitempty"`
		Sequencer string `json:"sequencer,omitempty"`
	}
	type entity struct {
		SchemaVersion   string   `json:"s3SchemaVersion"`
		ConfigurationID string   `json:"configurationId"`
		Bucket          s3Bucket `json:"bucket"`
		Object          s3Object `json:"object"`
	}
	type record struct {
		EventVersion      string            `json:"eventVersion"`
		EventSource       string            `json:"eventSource"`
		AWSRegion         string            `json:"awsRegion"`
		EventTime         string            `json:"eventTime"`
		EventName         string            `json:"eventName"`
		UserIdentity      identity          `json:"userIdentity"`
		RequestParameters map[string]string `json:"requestParameters"`
		ResponseElements  map[string]string `json:"responseElements"`
		S3                entity            `json:"s3"`
	}
	r := record{
		EventVersion: "2.1", EventSource: "aws:s3", AWSRegion: Region,
		EventTime: e.At.UTC().Format(xmlTime), EventName: e.Name,
		UserIdentity:      identity{"AWS:AIDAJDPLRKLG7UEXAMPLE"},
		RequestParameters: map[string]string{"sourceIPAddress": "127.0.0.1"},
		ResponseElements:  map[string]string{"x-amz-request-id": newID(), "x-amz-id-2": newID()},
		S3: entity{
			SchemaVersion: "1.0", ConfigurationID: e.configuration,
			Bucket: s3Bucket{Name: e.Bucket, OwnerIdentity: identity{"A3NL1KOZZKExample"}, ARN: "arn:aws:s3:::" + e.Bucket},
			Object: s3Object{Key: escapeKey(e.Key), Size: e.Size, ETag: e.ETag, VersionID: e.VersionID, Sequencer: e.Sequencer},
		},
	}
	if strings.HasPrefix(e.Name, "ObjectRemoved:") {
		r.S3.Object.Size, r.S3.Object.ETag = 0, ""
	}
	body, err := json.Marshal(map[string][]record{"Records": {r}})
	if err != nil {
		return err.Error() // strings and numbers always encode
	}
	return string(body)
}
