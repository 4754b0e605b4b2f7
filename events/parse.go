package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

var (
	// ErrMalformed means that a body is not JSON, or has a known shape gone wrong.
	ErrMalformed = errors.New("malformed message")
	// ErrUnknown means that a body is JSON of a shape this package does not know.
	ErrUnknown = errors.New("message of an unknown kind")
)

const (
	maxBody      = 1 << 20 // what SQS carries at most
	maxEnvelopes = 3       // SNS envelopes within each other; AWS makes one
)

// Parse returns the notices in the body of a queue's message: an S3 event (as S3, or SNS
// with raw delivery, sends it), an EventBridge event of S3, or either in an SNS envelope.
// Only writes (ObjectCreated) give notices; deletions, other events of S3 and its
// s3:TestEvent give none, and no error.
//
// It is lenient where a difference cannot mislead: fields it does not use may be missing or
// new, and a time it cannot read is the zero time. The error is [ErrMalformed] or
// [ErrUnknown] with the reason; then there are no notices, even if part of the body was
// understood.
func Parse(body []byte) ([]Notice, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("%w: %d bytes, more than a queue carries", ErrMalformed, len(body))
	}
	return parse(body, 0)
}

// parse tells the shapes apart by their outermost fields.
func parse(body []byte, envelopes int) ([]Notice, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff")))
	if !json.Valid(body) {
		return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
	}
	var fields map[string]json.RawMessage
	if body[0] != '{' || json.Unmarshal(body, &fields) != nil {
		return nil, fmt.Errorf("%w: JSON, but not an object", ErrUnknown)
	}
	has := func(name string) bool { _, ok := fields[name]; return ok }
	text := func(name string) string {
		var s string
		if json.Unmarshal(fields[name], &s) != nil {
			return ""
		}
		return s
	}
	switch {
	case has("Records"):
		return parseRecords(fields["Records"])
	case text("Event") == "s3:TestEvent":
		return nil, nil
	case has("detail-type"):
		return parseEventBridge(text("source"), text("detail-type"), text("time"), fields["detail"])
	case has("TopicArn") || text("Type") == "Notification":
		if kind := text("Type"); kind != "Notification" {
			return nil, fmt.Errorf("%w: SNS %q, not a notification", ErrUnknown, abridge(kind))
		}
		var message string
		if err := json.Unmarshal(fields["Message"], &message); err != nil {
			return nil, fmt.Errorf("%w: SNS envelope without a Message text", ErrMalformed)
		}
		if envelopes++; envelopes > maxEnvelopes {
			return nil, fmt.Errorf("%w: more than %d SNS envelopes within each other", ErrMalformed, maxEnvelopes)
		}
		notices, err := parse([]byte(message), envelopes)
		if err != nil {
			return nil, fmt.Errorf("in an SNS envelope: %w", err)
		}
		return notices, nil
	}
	return nil, fmt.Errorf("%w: neither S3, SNS nor EventBridge", ErrUnknown)
}

// record is one entry of an S3 event. Fields that may be odd without harm are any.
type record struct {
	EventVersion string `json:"eventVersion"`
	EventSource  string `json:"eventSource"`
	EventTime    any    `json:"eventTime"`
	EventName    string `json:"eventName"`
	S3           struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"` // form-encoded
			ETag      string `json:"eTag"`
			VersionID string `json:"versionId"`
		} `json:"object"`
	} `json:"s3"`
}

func parseRecords(raw json.RawMessage) ([]Notice, error) {
	var records []record
	if err := json.Unmarshal(raw, &records); err != nil {
		return nil, fmt.Errorf("%w: S3 event: %w", ErrMalformed, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: S3 event without records", ErrMalformed)
	}
	var notices []Notice
	for _, r := range records {
		if r.EventSource == "" || r.EventName == "" {
			return nil, fmt.Errorf("%w: S3 record without source or event name", ErrMalformed)
		}
		// Other stores write minio:s3, ceph:s3 and the like.
		if !strings.HasSuffix(r.EventSource, ":s3") {
			return nil, fmt.Errorf("%w: record of %q, not of S3", ErrUnknown, abridge(r.EventSource))
		}
		if major, _, _ := strings.Cut(r.EventVersion, "."); major != "2" {
			return nil, fmt.Errorf("%w: S3 event of version %q, not 2", ErrUnknown, abridge(r.EventVersion))
		}
		if !strings.HasPrefix(strings.TrimPrefix(r.EventName, "s3:"), "ObjectCreated:") {
			continue
		}
		key, err := url.QueryUnescape(r.S3.Object.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: S3 key is not URL-encoded", ErrMalformed)
		}
		if r.S3.Bucket.Name == "" || key == "" {
			return nil, fmt.Errorf("%w: S3 record without bucket or key", ErrMalformed)
		}
		at, _ := r.EventTime.(string)
		notices = append(notices, Notice{
			Bucket:    r.S3.Bucket.Name,
			Key:       key,
			ETag:      strings.Trim(r.S3.Object.ETag, `"`),
			VersionID: r.S3.Object.VersionID,
			At:        parseTime(at),
		})
	}
	return notices, nil
}

func parseEventBridge(source, kind, at string, raw json.RawMessage) ([]Notice, error) {
	if source != "aws.s3" {
		return nil, fmt.Errorf("%w: EventBridge event of %q, not of S3", ErrUnknown, abridge(source))
	}
	if kind != "Object Created" {
		return nil, nil
	}
	var detail struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"` // as it is
			ETag      string `json:"etag"`
			VersionID string `json:"version-id"`
		} `json:"object"`
	}
	if err := json.Unmarshal(raw, &detail); err != nil {
		return nil, fmt.Errorf("%w: EventBridge detail: %w", ErrMalformed, err)
	}
	if detail.Bucket.Name == "" || detail.Object.Key == "" {
		return nil, fmt.Errorf("%w: EventBridge event without bucket or key", ErrMalformed)
	}
	return []Notice{{
		Bucket:    detail.Bucket.Name,
		Key:       detail.Object.Key,
		ETag:      strings.Trim(detail.Object.ETag, `"`),
		VersionID: detail.Object.VersionID,
		At:        parseTime(at),
	}}, nil
}

// parseTime reads a time with or without a zone (then it is UTC); anything else is the zero
// time.
func parseTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} { // both take fractions
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// abridge keeps what others wrote from flooding an error text.
func abridge(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
