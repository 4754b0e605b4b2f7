package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
)

// chainLinks are those of a chain that is checked from elsewhere than a host.
var chainLinks = []string{"credentials", "clock", "remote", "notification", "topic", "subscription", "queue", "dead letters"}

// A fault is what is done to a chain, and what the doctor says of it.
type fault struct {
	name  string
	does  func(*world)
	link  string
	found string
	fix   string
}

// flaws leave each link working.
var flaws = []fault{
	{"the subscription is not raw", func(w *world) {
		w.unsubscribe()
		w.subscribe("false")
	}, "subscription", "wraps the bucket's messages", "RawMessageDelivery --attribute-value true"},
	{"the notification has no suffix", func(w *world) { w.notifyOf(w.key, "", "s3:ObjectCreated:*") },
		"notification", "every record of a host too", "the suffix .npcnix"},
	{"the notification's suffix is a record's too", func(w *world) {
		w.key = "remotes/dev.json"
		w.put(w.key)
		w.notifyOf(w.key, ".json", "s3:ObjectCreated:*")
	}, "notification", "every record of a host too", "the suffix .npcnix"},
}

// breaks break one link each.
var breaks = []fault{
	{"the remote was never published", func(w *world) {
		_, err := w.s3.DeleteObject(w.t.Context(), &s3.DeleteObjectInput{Bucket: &w.bucket, Key: &w.key})
		w.must(err)
	}, "remote", "has no such key", "npcnix push"},
	{"the bucket has no notification", func(w *world) { w.notify("") },
		"notification", "sends no event of a publish to remotes/dev.npcnix", "store_s3"},
	{"the notification has another prefix", func(w *world) { w.notify("remotes/prod.npcnix", "s3:ObjectCreated:*") },
		"notification", `gets only keys with the prefix "remotes/prod.npcnix" and the suffix ".npcnix"`, "prefix remotes/dev.npcnix"},
	{"the notification has only puts", func(w *world) { w.notify(w.key, "s3:ObjectCreated:Put") },
		"notification", "but not s3:ObjectCreated:Post, s3:ObjectCreated:Copy, s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectCreated:*"},
	{"the topic is gone", func(w *world) {
		_, err := w.sns.DeleteTopic(w.t.Context(), &sns.DeleteTopicInput{TopicArn: &w.topic})
		w.must(err)
	}, "topic", "there is no topic arn:aws:sns:", "fix the topic in the bucket's notification"},
	{"the topic's policy allows another bucket", func(w *world) {
		w.topicPolicy(allow("s3.amazonaws.com", "sns:Publish", w.topic, `{"ArnLike":{"aws:SourceArn":"arn:aws:s3:::other"}}`))
	}, "topic", "allows s3.amazonaws.com only for aws:SourceArn arn:aws:s3:::other", "allow s3.amazonaws.com sns:Publish"},
	{"the topic's policy allows another service", func(w *world) {
		w.topicPolicy(allow("events.amazonaws.com", "sns:Publish", w.topic, `{}`))
	}, "topic", "no statement of its policy allows s3.amazonaws.com sns:Publish", "allow s3.amazonaws.com sns:Publish"},
	{"the queue is not subscribed", func(w *world) { w.unsubscribe() },
		"subscription", "does not send to arn:aws:sqs:", "aws sns subscribe --topic-arn arn:aws:sns:"},
	{"the queue's policy allows another topic", func(w *world) {
		w.set(w.queue, map[string]string{"Policy": allow("sns.amazonaws.com", "sqs:SendMessage", w.queueARN, `{"ArnEquals":{"aws:SourceArn":"`+w.topic+`-2"}}`)})
	}, "queue", "-2, and not for arn:aws:sns:", "allow sns.amazonaws.com sqs:SendMessage"},
	{"the queue is gone", func(w *world) { w.deleteQueue(w.queue) },
		"queue", "there is no queue http", "npcnix config set queue_url URL"},
	{"there is no dead-letter queue", func(w *world) { w.set(w.queue, map[string]string{"RedrivePolicy": ""}) },
		"dead letters", "the queue has none", "maxReceiveCount 10"},
	{"messages become dead letters too early", func(w *world) {
		w.set(w.queue, map[string]string{"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":2}`, w.deadARN)})
	}, "dead letters", "maxReceiveCount is 2: messages move to the dead-letter queue before", "set it to 10"},
	{"the dead-letter queue is gone", func(w *world) { w.deleteQueue(w.dead) },
		"dead letters", "-dead does not exist", "create it"},
	{"the dead-letter queue takes from another", func(w *world) {
		w.set(w.dead, map[string]string{"RedriveAllowPolicy": `{"redrivePermission":"byQueue","sourceQueueArns":["` + w.queueARN + `-2"]}`})
	}, "dead letters", "does not take messages from arn:aws:sqs:", "RedriveAllowPolicy"},
	{"there are dead letters", func(w *world) {
		_, err := w.sqs.SendMessage(w.t.Context(), &sqs.SendMessageInput{QueueUrl: &w.dead, MessageBody: aws.String("dead")})
		w.must(err)
	}, "dead letters", "-dead holds 1 message:", "aws sqs purge-queue --queue-url http"},
	{"dead letters expire early", func(w *world) { w.set(w.dead, map[string]string{"MessageRetentionPeriod": "3600"}) },
		"dead letters", "keeps messages for 3600 s", "1209600"},
}

func TestChain(t *testing.T) {
	t.Run("awsfake", func(t *testing.T) {
		cloud := start(t)
		enter(t, cloud.URL())
		testChain(t, cloud.URL(), false)
	})
	t.Run("moto", func(t *testing.T) {
		endpoint := moto.Start(t)
		enter(t, endpoint)
		testChain(t, endpoint, true)
	})
}

func start(t *testing.T) *awsfake.Cloud {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

func testChain(t *testing.T, endpoint string, isMoto bool) {
	t.Run("healthy", func(t *testing.T) {
		w := newWorld(t, endpoint, "healthy")
		found := examine(t, w.options())
		for _, link := range chainLinks {
			if f := found[link]; f.Verdict != doctor.OK || f.Fix != "" {
				t.Errorf("%s: %+v", link, f)
			}
		}
		if len(found) != len(chainLinks) {
			t.Errorf("%d links of %d: %v", len(found), len(chainLinks), found)
		}
	})
	for i, b := range breaks {
		if isMoto && b.found == "does not take messages from arn:aws:sqs:" {
			continue // moto has no RedriveAllowPolicy
		}
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, endpoint, fmt.Sprint("broken", i))
			b.does(w)
			found := examine(t, w.options())
			f := found[b.link]
			if f.Verdict != doctor.Wrong || !strings.Contains(f.Found, b.found) || !strings.Contains(f.Fix, b.fix) {
				t.Errorf("%+v, want it wrong with %q and the fix %q", f, b.found, b.fix)
			}
			// What comes before it is ok; what depends on it is not called ok without being read.
			for _, link := range chainLinks[:slices.Index(chainLinks, b.link)] {
				if f := found[link]; f.Verdict == doctor.Wrong && b.link != "queue" {
					t.Errorf("%s is %+v", link, f)
				}
			}
		})
	}
	for i, b := range flaws {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, endpoint, fmt.Sprint("flawed", i))
			b.does(w)
			f := examine(t, w.options())[b.link]
			if f.Verdict != doctor.Warning || !strings.Contains(f.Found, b.found) || !strings.Contains(f.Fix, b.fix) {
				t.Errorf("%+v, want a warning with %q and the fix %q", f, b.found, b.fix)
			}
		})
	}
	t.Run("a probe goes through the chain and leaves nothing", func(t *testing.T) {
		w := newWorld(t, endpoint, "probe")
		o := w.options()
		o.Probe = true
		f := examine(t, o)["probe"]
		if f.Verdict != doctor.OK || len(f.Hops) != 3 || f.Hops[2].Millis <= 0 {
			t.Errorf("%+v", f)
		}
		w.leaves(1)
	})
	t.Run("a probe that is interrupted leaves nothing", func(t *testing.T) {
		w := newWorld(t, endpoint, "interrupted")
		o := w.options()
		o.Probe = true
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		var waiting sync.WaitGroup
		err := doctor.Run(ctx, o, func(f doctor.Finding) {
			if f.Link != "dead letters" { // the last that is only read
				return
			}
			w.notify("elsewhere", "s3:ObjectCreated:*") // so that the probe waits
			waiting.Go(func() {
				look := time.NewTicker(10 * time.Millisecond)
				defer look.Stop()
				for range look.C {
					objects, err := w.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &w.bucket})
					if err != nil || len(objects.Contents) > 1 {
						interrupt()
						return
					}
				}
			})
		})
		waiting.Wait()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		w.leaves(1)
	})
	t.Run("a probe that gets lost says so and leaves nothing", func(t *testing.T) {
		w := newWorld(t, endpoint, "lost")
		o := w.options()
		o.Probe, o.ProbeTimeout = true, 2*time.Second
		other, err := w.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("other")})
		w.must(err)
		right, found := w.topic, doctor.Finding{}
		err = doctor.Run(t.Context(), o, func(f doctor.Finding) {
			if found = f; f.Link == "dead letters" { // the last that is only read
				w.topic = *other.TopicArn
				w.notify(w.key, "s3:ObjectCreated:*")
			}
		})
		w.must(err)
		w.topic = right
		f := found
		if f.Link != "probe" || f.Verdict != doctor.Wrong || !strings.Contains(f.Found, "no event arrived within 2s") || !strings.Contains(f.Fix, "five minutes") {
			t.Errorf("%+v", f)
		}
		w.leaves(1)
	})
}

// leaves fails the test unless no probe's queue, subscription or object is there.
func (w *world) leaves(subscriptions int) {
	w.t.Helper()
	objects, err := w.s3.ListObjectsV2(w.t.Context(), &s3.ListObjectsV2Input{Bucket: &w.bucket})
	w.must(err)
	if len(objects.Contents) != 1 {
		w.t.Errorf("%d objects, want the remote alone", len(objects.Contents))
	}
	subscribed, err := w.sns.ListSubscriptionsByTopic(w.t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &w.topic})
	w.must(err)
	if len(subscribed.Subscriptions) != subscriptions {
		w.t.Errorf("%d subscriptions, want %d", len(subscribed.Subscriptions), subscriptions)
	}
	queues, err := w.sqs.ListQueues(w.t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: aws.String("npcnix-probe")})
	w.must(err)
	if len(queues.QueueUrls) != 0 {
		w.t.Errorf("left: %v", queues.QueueUrls)
	}
}
