package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/integration/awsfake"
)

// queueOfWeb1 makes a topic with the queue of one host, and returns the topic's ARN.
func queueOfWeb1(t *testing.T, cloud *awsfake.Cloud) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := awsfake.Config(cloud.URL())
	topics, queues := sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	topic, err := topics.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("dev")})
	must(err)
	queue, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("web1"), Tags: map[string]string{fleet.HostTag: "web1"}})
	must(err)
	about, err := queues.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: queue.QueueUrl, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
	must(err)
	_, err = topics.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String(about.Attributes["QueueArn"])})
	must(err)

	return *topic.TopicArn
}

// A push that waits by the queues notes what they hold just before the publish: what comes while the systems are built is
// no event of it. If nothing is published, it waits for none.
func TestAPushWaitsForItsOwnEvent(t *testing.T) {
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	for _, pair := range cloud.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	client := s3.NewFromConfig(awsfake.Config(cloud.URL()), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fleet")}); err != nil {
		t.Fatal(err)
	}
	src, key := t.TempDir(), sshKey(t)
	write(t, filepath.Join(src, "flake.nix"), "one")
	push := []string{"push", "--src", src, "--remote", "s3://fleet/dev.npcnix", "--check=none", "--sign-key", key,
		"--wait", "--by-queue", "--topic-arn", queueOfWeb1(t, cloud), "--timeout", "2s", "--interval", "10ms"}
	began := len(cloud.Trace())
	command(t, errAny, push...)
	var since []string // requests since the queue was looked at
	for _, e := range cloud.Trace()[began:] {
		switch {
		case e.What != awsfake.Requested:
		case e.Action == "GetQueueAttributes":
			since = nil
		case e.Action == "PutObject" && len(since) > 1: // a publish looks at the object first
			t.Errorf("%q come between the look at the queues and the publish", since)
		default:
			since = append(since, e.Action)
		}
	}
	if out := command(t, nil, push...); !strings.Contains(out, "there is nothing to wait for") {
		t.Error(out)
	}
}

// A rollout of what all hosts were to take already has nothing to do.
func TestARolloutOfWhatIsHeldIsDone(t *testing.T) {
	p, key := newPushed(t), sshKey(t)
	p.record(record.Record{Host: "web1", Remote: p.remote.URL()})
	p.push(nil, "--sign-key", key)
	if out := p.push(nil, "--sign-key", key, "--wave", "web1", "--wave", "100%"); !strings.Contains(out, "it has no rollout") {
		t.Error(out)
	}
}
