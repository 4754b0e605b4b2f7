package awsfake

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// settings are the attributes of a queue that its owner sets, as text and as what they mean.
type settings struct {
	text        map[string]string
	visibility  time.Duration
	delay       time.Duration
	wait        time.Duration
	maxSize     int    // bytes of a body
	deadLetters string // ARN, empty without a redrive policy
	maxReceives int
}

// limits are the least, default and greatest values of the attributes that are numbers.
var limits = map[string][3]int{
	"VisibilityTimeout":             {0, 30, 43200},
	"DelaySeconds":                  {0, 0, 900},
	"ReceiveMessageWaitTimeSeconds": {0, 0, 20},
	"MaximumMessageSize":            {1024, 1 << 20, 1 << 20},
	"MessageRetentionPeriod":        {60, 345600, 1209600},
	"KmsDataKeyReusePeriodSeconds":  {60, 300, 86400},
}

func defaultSettings() settings {
	s := settings{text: map[string]string{"SqsManagedSseEnabled": "true"}}
	for name, limit := range limits {
		if name != "KmsDataKeyReusePeriodSeconds" {
			s.text[name] = strconv.Itoa(limit[1])
		}
	}
	return s
}

// with returns the settings changed by attributes.
func (s settings) with(attributes map[string]string) (settings, error) {
	s.text = maps.Clone(s.text)
	for name, value := range attributes {
		limit, number := limits[name]
		switch {
		case number:
			if n, err := strconv.Atoi(value); err != nil || n < limit[0] || n > limit[2] {
				return s, refuse(http.StatusBadRequest, "InvalidAttributeValue", "Invalid value for the parameter %s.", name)
			}
		case name == "Policy" || name == "RedrivePolicy" || name == "RedriveAllowPolicy" ||
			name == "KmsMasterKeyId" || name == "SqsManagedSseEnabled":
		default:
			return s, unknownAttribute(name)
		}
		s.text[name] = value
		if value == "" {
			delete(s.text, name)
		}
	}
	seconds := func(name string) time.Duration {
		n, _ := strconv.Atoi(s.text[name]) // checked above
		return time.Duration(n) * time.Second
	}
	s.visibility, s.delay = seconds("VisibilityTimeout"), seconds("DelaySeconds")
	s.wait = seconds("ReceiveMessageWaitTimeSeconds")
	s.maxSize, _ = strconv.Atoi(s.text["MaximumMessageSize"])

	s.deadLetters, s.maxReceives = "", 0
	if text := s.text["RedrivePolicy"]; text != "" {
		var policy struct {
			DeadLetterTargetArn string `json:"deadLetterTargetArn"`
			MaxReceiveCount     any    `json:"maxReceiveCount"` // AWS takes a number and its text
		}
		err := json.Unmarshal([]byte(text), &policy)
		n, bad := strconv.Atoi(fmt.Sprint(policy.MaxReceiveCount))
		if err != nil || bad != nil || n < 1 || n > 1000 || policy.DeadLetterTargetArn == "" {
			return s, invalid("Value %s for parameter RedrivePolicy is invalid. Reason: Redrive policy is not a "+
				"valid JSON map with deadLetterTargetArn and maxReceiveCount.", text)
		}
		s.deadLetters, s.maxReceives = policy.DeadLetterTargetArn, n
	}
	return s, nil
}

// attributes returns those of the queue's attributes that are named, or all for "All".
func (q *queue) attributes(names []string) (map[string]string, error) {
	n := q.count()
	q.mu.Lock()
	defer q.unlock()
	if q.frozen != nil {
		n = *q.frozen
	}
	all := maps.Clone(q.settings.text)
	all["QueueArn"] = arn("sqs", q.name)
	all["ApproximateNumberOfMessages"] = strconv.Itoa(n.visible)
	all["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(n.inFlight)
	all["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(n.delayed)
	all["CreatedTimestamp"] = strconv.FormatInt(q.created.Unix(), 10)
	all["LastModifiedTimestamp"] = strconv.FormatInt(q.modified.Unix(), 10)
	some := map[string]string{}
	for _, name := range names {
		if name == "All" {
			return all, nil
		}
		value, found := all[name]
		switch {
		case found:
			some[name] = value
		case name == "Policy" || strings.HasPrefix(name, "Redrive") || strings.HasPrefix(name, "Kms"):
		default:
			return nil, unknownAttribute(name)
		}
	}
	return some, nil
}

func unknownAttribute(name string) error {
	return refuse(http.StatusBadRequest, "InvalidAttributeName", "Unknown Attribute %s.", name)
}

func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidParameterValue", format, args...)
}

func noSuchQueue() error {
	return refuse(http.StatusBadRequest, "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
}

func arn(service, name string) string {
	return "arn:aws:" + service + ":" + Region + ":" + Account + ":" + name
}
