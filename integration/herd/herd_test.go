package herd

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

const (
	endpoint    = "http://cloud.test"
	bucket      = "fleet"
	key         = "npcnix/remotes/dev.npcnix"
	remote      = "s3://" + bucket + "/" + key
	remoteURL   = remote + "?path-style=true&region=" + awsfake.Region + "&endpoint=" + endpoint
	versionFile = "version" // of a flake: what it builds
)

// herd is a cloud with S3's limits, and hosts whose queues are subscribed to its topic.
type herd struct {
	t     *testing.T
	dir   string // that the agents have their files in
	cloud *awsfake.Cloud
	wire  *wire
	hosts []*host

	s3     *s3.Client
	sns    *sns.Client
	sqs    *sqs.Client
	topic  string
	limits limits
}

// limits are how many requests S3 takes in a second.
type limits struct{ reads, writes int }

// start starts a herd in a bubble. The agents begin one after the other, and hold the first version when it returns.
// It ends with the test.
func start(t *testing.T, dir string, hosts int, l limits) *herd {
	t.Helper()
	h := &herd{t: t, dir: dir, cloud: awsfake.New(endpoint), wire: newWire()}
	closeWire := h.wire.serve(h.cloud)
	ctx, cancel := context.WithCancel(t.Context())
	var agents sync.WaitGroup
	operator := &http.Client{Transport: &http.Transport{DialContext: h.wire.dial(&client{}), MaxIdleConnsPerHost: 32}}
	t.Cleanup(func() {
		cancel()
		agents.Wait()
		operator.CloseIdleConnections()
		h.cloud.Close()
		closeWire()
	})
	conf := awsfake.Config(endpoint)
	conf.HTTPClient = operator
	h.s3 = s3.NewFromConfig(conf, func(o *s3.Options) { o.UsePathStyle = true })
	h.sns, h.sqs = sns.NewFromConfig(conf), sqs.NewFromConfig(conf)
	h.setUp(hosts)
	h.publish("first", 0)
	for i, one := range h.hosts {
		agents.Go(func() {
			time.Sleep(time.Duration(i) * 6 * time.Millisecond)
			h.follow(ctx, one)
		})
	}
	h.until("all hold the first version", "first")
	time.Sleep(2 * time.Second) // an agent takes a breath after an event that brought nothing new
	h.limits = l
	h.cloud.Limit(l.reads, l.writes)
	h.cloud.Spread(spread(hosts))
	return h
}

// setUp makes bucket, topic, and a queue for each host.
func (h *herd) setUp(hosts int) {
	h.t.Helper()
	ctx := h.t.Context()
	_, err := h.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	h.must(err)
	topic, err := h.sns.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("dev")})
	h.must(err)
	h.topic = *topic.TopicArn
	_, err = h.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucket), NotificationConfiguration: &s3types.NotificationConfiguration{
			TopicConfigurations: []s3types.TopicConfiguration{{
				TopicArn: topic.TopicArn, Events: []s3types.Event{"s3:ObjectCreated:*"},
				Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{
					{Name: s3types.FilterRuleNameSuffix, Value: aws.String(".npcnix")},
				}}},
			}},
		},
	})
	h.must(err)
	for i := range hosts {
		one := &host{name: fmt.Sprintf("web%05d", i), verifies: 5 * time.Second} // as settle_secs has it
		h.hosts = append(h.hosts, one)
		_, err := h.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &one.name})
		h.must(err)
		_, err = h.sns.Subscribe(ctx, &sns.SubscribeInput{
			TopicArn: topic.TopicArn, Protocol: aws.String("sqs"),
			Endpoint:   aws.String(fmt.Sprintf("arn:aws:sqs:%s:%s:%s", awsfake.Region, awsfake.Account, one.name)),
			Attributes: map[string]string{"RawMessageDelivery": "true"},
		})
		h.must(err)
	}
}

// unlucky hosts lose each message: one in a thousand.
func unlucky(host string) bool { return strings.HasSuffix(host, "042") }

// spread delivers as AWS does: most messages within some hundreds of milliseconds, one in fifty within half a minute,
// one in a hundred twice, and a few never.
func spread(hosts int) func(string) []time.Duration {
	var mu sync.Mutex
	random := mathrand.New(mathrand.NewPCG(uint64(hosts), 1))
	return func(queue string) []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		usual := 100*time.Millisecond + time.Duration(random.ExpFloat64()*float64(150*time.Millisecond))
		switch n := random.IntN(100); {
		case unlucky(queue):
			return nil
		case n < 1:
			return []time.Duration{usual, usual + time.Duration(random.Int64N(int64(20*time.Second)))}
		case n < 3:
			return []time.Duration{time.Duration(random.Int64N(int64(30 * time.Second)))}
		}
		return []time.Duration{usual}
	}
}

// follow runs a host's agent until ctx ends.
func (h *herd) follow(ctx context.Context, one *host) {
	dial := h.wire.dial(&one.client)
	r, err := store.Open(ctx, remoteURL, store.Options{Dial: dial})
	if err != nil {
		h.t.Error(err)
		return
	}
	queue, err := h.queue(ctx, one, dial)
	if err != nil {
		h.t.Error(err)
		return
	}
	dir := config.Dir(filepath.Join(h.dir, one.name))
	conf := config.Config{Remote: remote, Configuration: "c"}
	if unlucky(one.name) {
		conf.PollIntervalSecs = 30 // in place of 600: minutes of 10,000 idle hosts are a long time in this test
	}
	if err := dir.UpdateConfig(ctx, func(c *config.Config) error { *c = conf; return nil }); err != nil {
		h.t.Error(err)
		return
	}
	if conf, err = dir.LoadConfig(); err != nil {
		h.t.Error(err)
		return
	}
	a, err := agent.New(agent.Options{
		Dir: dir, Config: conf, Name: one.name, RemoteName: r.Name(), Store: r, Host: one, Queue: queue, Version: "herd",
		Ours: func(n events.Notice) bool { return n.Bucket == bucket && n.Key == key }, Log: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		err = a.Run(ctx)
	}
	if err != nil {
		h.t.Errorf("agent of %s: %v", one.name, err)
	}
}

// queue opens a host's queue.
func (h *herd) queue(ctx context.Context, one *host, dial func(context.Context, string, string) (net.Conn, error)) (inbox.Queue, error) {
	if one.own {
		return events.OpenOwnQueue(ctx, events.OwnQueueOptions{
			Topic: h.topic, Remote: remote, Host: one.name, Instance: one.name, Look: events.Notice{Bucket: bucket, Key: key}, Dial: dial,
		})
	}
	return events.OpenQueue(ctx, events.QueueOptions{
		URL: endpoint + "/" + awsfake.Account + "/" + one.name, Region: awsfake.Region, Dial: dial,
	})
}

// publish puts a version that was not there before.
func (h *herd) publish(version string, noise int) store.Version {
	h.t.Helper()
	dir := h.t.TempDir()
	random := make([]byte, noise)
	_, _ = rand.Read(random)
	for name, content := range map[string][]byte{"flake.nix": []byte("{ outputs = _: { }; }\n"), versionFile: []byte(version), "noise": random} {
		h.must(os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	var packed bytes.Buffer
	h.must(store.Pack(h.t.Context(), dir, &packed, store.PackOptions{}))
	for _, one := range h.hosts {
		one.forget()
	}
	out, err := h.s3.PutObject(h.t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(packed.Bytes())})
	h.must(err)
	return store.Version{ETag: strings.Trim(*out.ETag, `"`)}
}

// until waits until all hosts run the version and their queues are empty.
func (h *herd) until(what, version string) {
	h.t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Second) {
		if time.Since(begun) > time.Hour {
			h.t.Fatalf("not within an hour: %s", what)
		}
		left := 0
		for _, one := range h.hosts {
			visible, inFlight, delayed := h.cloud.Depth("/" + one.name)
			if running, _ := one.Current(h.t.Context()); running.Path != storePath+version || visible+inFlight+delayed > 0 {
				left++
			}
		}
		if left == 0 {
			return
		}
	}
}

func (h *herd) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}
