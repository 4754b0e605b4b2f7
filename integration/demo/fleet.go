package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

const (
	bucket = "fleet"
	key    = "npcnix/remotes/dev.npcnix"
	remote = "s3://" + bucket + "/" + key

	patience = 60 * time.Second // for each thing that the demo waits for
)

// fleet is a simulated AWS, whose bucket tells a topic of publishes, and the hosts that follow it.
type fleet struct {
	dir    string // holds every file of the run
	npcnix string
	aws    string // path of the AWS CLI; empty if there is none
	salt   string // makes every run build new systems
	cloud  *awsfake.Cloud
	s3     *s3.Client
	hosts  []*host
	out    io.Writer
}

// newFleet makes everything except the hosts' agents. The caller closes it.
func newFleet(ctx context.Context, dir, npcnix string, out io.Writer) (f *fleet, err error) {
	cloud, err := awsfake.Start("")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			cloud.Close()
		}
	}()
	cfg := awsfake.Config(cloud.URL())
	f = &fleet{
		dir: dir, npcnix: npcnix, aws: findAWS(), salt: nixtest.Salt()[:8], cloud: cloud, out: out,
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
	}
	snsClient, sqsClient := sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	topic, err := snsClient.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("npcnix-dev")})
	if err != nil {
		return nil, fmt.Errorf("create the topic: %w", err)
	}
	if err := f.makeBucket(ctx, *topic.TopicArn); err != nil {
		return nil, err
	}
	for _, name := range []string{"web1", "web2", "web3"} {
		url, arn, err := makeQueue(ctx, sqsClient, queueName(name))
		if err != nil {
			return nil, err
		}
		_, err = snsClient.Subscribe(ctx, &sns.SubscribeInput{
			TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: &arn,
			Attributes: map[string]string{"RawMessageDelivery": "true"},
		})
		if err != nil {
			return nil, fmt.Errorf("subscribe %s's queue: %w", name, err)
		}
		h := &host{fleet: f, name: name, dir: filepath.Join(dir, name)}
		if err := h.configure(ctx, url); err != nil {
			return nil, err
		}
		f.hosts = append(f.hosts, h)
	}
	return f, nil
}

// findAWS returns the path of the AWS CLI: the installed one, or the one that the tests installed.
func findAWS() string {
	for _, name := range []string{"aws", filepath.Join(".cache", "moto", "bin", "aws")} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// makeBucket makes the bucket and lets it tell the topic of publishes.
func (f *fleet) makeBucket(ctx context.Context, topic string) error {
	if _, err := f.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		return fmt.Errorf("create the bucket: %w", err)
	}
	_, err := f.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucket),
		NotificationConfiguration: &s3types.NotificationConfiguration{TopicConfigurations: []s3types.TopicConfiguration{{
			TopicArn: &topic, Events: []s3types.Event{"s3:ObjectCreated:*"},
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{
				{Name: s3types.FilterRuleNamePrefix, Value: aws.String(key)},
				{Name: s3types.FilterRuleNameSuffix, Value: aws.String(".npcnix")},
			}}},
		}}},
	})
	if err != nil {
		return fmt.Errorf("configure the bucket's notification: %w", err)
	}
	return nil
}

func queueName(host string) string { return "npcnix-" + host }
func deadName(host string) string  { return queueName(host) + "-dead" }

// makeQueue makes a queue and, behind it, its dead-letter queue.
func makeQueue(ctx context.Context, client *sqs.Client, name string) (url, arn string, err error) {
	create := func(name string, attributes map[string]string) (url, arn string, err error) {
		q, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			return "", "", fmt.Errorf("create queue %s: %w", name, err)
		}
		a, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: q.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"},
		})
		if err != nil {
			return "", "", fmt.Errorf("read the ARN of queue %s: %w", name, err)
		}
		return *q.QueueUrl, a.Attributes["QueueArn"], nil
	}
	_, dead, err := create(name+"-dead", nil)
	if err != nil {
		return "", "", err
	}
	return create(name, map[string]string{
		// More receives than the three attempts, so that a version is rejected before its message moves away.
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"4"}`, dead),
	})
}

// close ends the agents, then the cloud.
func (f *fleet) close() {
	for _, h := range f.hosts {
		h.terminate()
	}
	for _, h := range f.hosts {
		h.awaitEnd()
	}
	f.cloud.Close()
}

// env is the environment of a child process: this process's, without variables that name another AWS or data directory.
func (f *fleet) env(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AWS_") && !strings.HasPrefix(e, "NPCNIX_") {
			env = append(env, e)
		}
	}
	env = append(env, f.cloud.Env()...)
	env = append(env, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "TMPDIR="+f.dir)
	return append(env, more...)
}

// command shows a command and runs it, in the fleet's folder.
func (f *fleet) command(ctx context.Context, path string, args ...string) error {
	fmt.Fprintf(f.out, "$ %s %s\n", filepath.Base(path), strings.Join(args, " "))
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(bounded, path, args...)
	cmd.Dir, cmd.Env = f.dir, f.env()
	out, err := cmd.CombinedOutput()
	if err != nil && bounded.Err() == nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(path), err, out)
	}
	if err != nil { // killed, for another reason than its own
		err = bounded.Err()
	}
	return missing(ctx, filepath.Base(path)+" ends", err)
}

// publish packs a flake with one system for each host and puts it at the remote. It returns the time and
// the ETag of the object, as S3 tells its topic.
func (f *fleet) publish(ctx context.Context, s nixtest.System) (awsfake.Entry, error) {
	systems := map[string]nixtest.System{}
	for _, h := range f.hosts {
		systems[h.name] = s
	}
	if err := nixtest.Flake(filepath.Join(f.dir, "flake"), f.salt, systems); err != nil {
		return awsfake.Entry{}, err
	}
	began := time.Now()
	var err error
	if f.aws != "" {
		if err = f.command(ctx, f.npcnix, "pack", "--src", "flake", "--dst", "dev.npcnix"); err == nil {
			err = f.command(ctx, f.aws, "s3", "cp", "dev.npcnix", remote)
		}
	} else {
		err = f.command(ctx, f.npcnix, "push", "--src", "flake", "--remote", remote)
	}
	if err != nil {
		return awsfake.Entry{}, err
	}
	return f.await(ctx, "S3's event of the publish", func(e awsfake.Entry) bool {
		return e.What == awsfake.Published && e.At.After(began)
	})
}

// await waits, at most for patience, for an entry of the cloud's trace, past or future.
func (f *fleet) await(ctx context.Context, what string, want func(awsfake.Entry) bool) (awsfake.Entry, error) {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := f.cloud.Await(bounded, want)
	return e, missing(ctx, what, err)
}

// missing is the error for something that did not happen in time, and why.
func missing(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("this does not come about within %s: %s", patience, what)
	}
	return fmt.Errorf("%s: %w", what, err)
}
