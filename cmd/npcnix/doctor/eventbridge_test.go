package doctor_test

import (
	"cmp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
)

// The doctor tells a bucket whose events come by EventBridge from one whose notification was overwritten. On awsfake,
// because moto does not show the switch of EventBridge.
func TestEventBridge(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	for _, c := range []struct {
		name            string
		on, rule, other bool // EventBridge is on; the topic's policy admits it; the bucket has a notification of others
		notification    doctor.Verdict
		found           string
		topic           doctor.Verdict
		condition       string // of the topic's policy for EventBridge
	}{
		{"by a rule", true, true, false, doctor.Unknown, "whose rules are not read", doctor.OK, ""},
		{"by a rule, beside others", true, true, true, doctor.Unknown, "whose rules are not read", doctor.OK, ""},
		{"the switch was overwritten", false, true, true, doctor.Wrong, "sends no events to EventBridge, although EventBridge can publish to arn:aws:sns:", doctor.OK, ""},
		{"the notification was overwritten", false, false, true, doctor.Wrong, "sends no event of a publish", doctor.OK, ""},
		{"it was, and EventBridge tells others", true, false, true, doctor.Wrong, "sends no event of a publish", doctor.OK, ""},
		{"by a rule that a condition names", true, true, false, doctor.Unknown, "whose rules are not read", doctor.Unknown,
			`{"ArnEquals":{"aws:SourceArn":"arn:aws:events:us-east-1:123456789012:rule/npcnix-dev-01234567"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, cloud.URL(), strings.ReplaceAll(strings.ReplaceAll(c.name, " ", "-"), ",", ""))
			n := &s3types.NotificationConfiguration{}
			if c.on {
				n.EventBridgeConfiguration = &s3types.EventBridgeConfiguration{}
			}
			if c.other {
				prefix := "pictures/"
				n.TopicConfigurations = []s3types.TopicConfiguration{{TopicArn: &w.topic, Events: []s3types.Event{"s3:ObjectCreated:*"},
					Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{{Name: "prefix", Value: &prefix}}}}}}
			}
			_, err := w.s3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: &w.bucket, NotificationConfiguration: n})
			w.must(err)
			if c.rule {
				w.topicPolicy(allow("events.amazonaws.com", "sns:Publish", w.topic, cmp.Or(c.condition, "{}")))
			}
			o := w.options()
			o.TopicARN = "" // it is known from the queue's policy
			found := examine(t, o)
			if f := found["notification"]; f.Verdict != c.notification || !strings.Contains(f.Found, c.found) || f.Fix == "" {
				t.Errorf("notification: %+v", f)
			}
			if f := found["topic"]; f.Verdict != c.topic || c.rule && !strings.Contains(f.Found, "EventBridge can publish to "+w.topic) ||
				c.condition != "" && !strings.Contains(f.Fix, "without a condition") {
				t.Errorf("topic: %+v", f)
			}
			if f := found["subscription"]; f.Verdict != doctor.OK {
				t.Errorf("subscription: %+v", f)
			}
		})
	}
}
