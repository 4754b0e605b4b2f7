package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

const (
	bucket    = "fleet"
	key       = "npcnix/remotes/dev.npcnix"
	recordKey = key + ".acks/web1.json"
	queueName = "npcnix-web1"
	endpoint  = "http://127.0.0.1"
	publisher = "PUBLISHER" // access key ids
	hostKey   = "HOST"
)

// world is a cloud, a network, and a host with its agent. It lives in a bubble.
type world struct {
	*testing.T
	cloud *awsfake.Cloud
	proxy *proxy
	net   *network
	host  *host
	dir   config.Dir
	logs  logs

	credentials string // file of the host's

	s3       *s3.Client // of the publisher
	sqs      *sqs.Client
	queueURL string

	ctx     context.Context
	cancel  context.CancelFunc
	agents  sync.WaitGroup
	restart func() // stops the agent and starts another
	ended   error  // why the agent has, if nobody asked it to
}

// newWorld makes a world whose host has not begun yet. Its data directory is dir.
func newWorld(t *testing.T, dir string) *world {
	w := &world{T: t, net: newNetwork(), host: &host{running: "/nix/store/system-0"}, dir: config.Dir(dir)}
	w.credentials = filepath.Join(t.TempDir(), "credentials")
	w.identify(hostKey)
	w.cloud = awsfake.New(endpoint)
	w.proxy = &proxy{cloud: w.cloud}
	w.ctx, w.cancel = context.WithCancel(t.Context())
	server := &http.Server{Handler: w.proxy, ErrorLog: nil, BaseContext: func(net.Listener) context.Context { return w.ctx }}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(w.net) }()
	t.Cleanup(func() {
		w.cancel()
		w.agents.Wait()
		w.net.cut()
		_ = server.Close()
		<-served
		w.cloud.Close()
	})
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
		"AWS_REGION": awsfake.Region, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE": w.credentials, "AWS_PROFILE": "", "RUNTIME_DIRECTORY": t.TempDir(),
	} {
		t.Setenv(name, value)
	}
	w.makeCloud()
	err := w.dir.UpdateConfig(t.Context(), func(c *config.Config) error {
		c.Remote, c.Configuration, c.Host, c.QueueURL = "s3://"+bucket+"/"+key, "web1", "web1", w.queueURL
		c.LastReconfiguration = time.Now().Add(-48 * time.Hour)
		return nil
	})
	w.must(err)

	return w
}

// identify gives the host credentials.
func (w *world) identify(key string) {
	w.Helper()
	w.must(os.WriteFile(w.credentials, []byte("[default]\naws_access_key_id="+key+"\naws_secret_access_key=secret\n"), 0o600))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// makeCloud makes the bucket and the queue that it tells of publishes.
func (w *world) makeCloud() {
	cfg := awsfake.Config(endpoint)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: publisher, SecretAccessKey: "secret"}, nil
	})
	cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return w.net.connect(ctx) }
	})
	w.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	w.sqs = sqs.NewFromConfig(cfg)
	ctx := w.Context()
	_, err := w.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	w.must(err)
	q, err := w.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(queueName)})
	w.must(err)
	w.queueURL = *q.QueueUrl
	a, err := w.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: q.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"},
	})
	w.must(err)
	_, err = w.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucket),
		NotificationConfiguration: &s3types.NotificationConfiguration{QueueConfigurations: []s3types.QueueConfiguration{{
			QueueArn: aws.String(a.Attributes["QueueArn"]), Events: []s3types.Event{"s3:ObjectCreated:*"},
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{FilterRules: []s3types.FilterRule{
				{Name: s3types.FilterRuleNameSuffix, Value: aws.String(".npcnix")},
			}}},
		}}},
	})
	w.must(err)
}

// flakes are packed once: they are large enough for a transfer of their own.
var flakes = func() func(version int) []byte {
	var mu sync.Mutex
	packed := map[int][]byte{}

	return func(version int) []byte {
		mu.Lock()
		defer mu.Unlock()
		if packed[version] == nil {
			packed[version] = packFlake(version)
		}
		return packed[version]
	}
}()

func packFlake(version int) []byte {
	dir, err := os.MkdirTemp("", "flake-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	noise := make([]byte, 200<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(version)}).Read(noise)
	for name, content := range map[string][]byte{"flake.nix": []byte("{ }"), "version": fmt.Appendf(nil, "%d\n", version), "noise": noise} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			panic(err)
		}
	}
	var archive bytes.Buffer
	if err := store.Pack(context.Background(), dir, &archive, store.PackOptions{}); err != nil {
		panic(err)
	}

	return archive.Bytes()
}

func (w *world) publish(version int) {
	w.Helper()
	_, err := w.s3.PutObject(w.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(flakes(version)),
	})
	w.must(err)
}

// record is what the store has of the host; zero if nothing.
func (w *world) record() (r record.Record) {
	w.Helper()
	out, err := w.s3.GetObject(w.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(recordKey)})
	if err != nil {
		return r
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	w.must(err)
	w.must(json.Unmarshal(data, &r))

	return r
}

func (w *world) health() health.Health {
	h, _, err := health.Read(w.dir)
	if err != nil {
		return health.Health{}
	}
	return h
}

// start starts an agent, which runs until stop is called or the world ends.
func (w *world) start(dir config.Dir, host agent.Host) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	w.agents.Go(func() {
		defer close(done)
		if err := w.follow(ctx, dir, host); ctx.Err() == nil {
			w.ended = cmpError(err)
		}
	})

	return func() { cancel(); <-done }
}

// begin starts the host's agent.
func (w *world) begin() {
	stop := w.start(w.dir, w.host)
	w.restart = func() {
		stop()
		stop = w.start(w.dir, w.host)
	}
}

// requests counts those of the host, connections that failed included.
func (w *world) requests() int {
	w.proxy.mu.Lock()
	defer w.proxy.mu.Unlock()
	w.net.mu.Lock()
	defer w.net.mu.Unlock()

	return w.proxy.requests + w.net.failed
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("it has ended")
	}
	return err
}

// follow runs agents as the command does: another one when it is to connect again.
func (w *world) follow(ctx context.Context, dir config.Dir, host agent.Host) error {
	for {
		conf, _, err := dir.InForce()
		if err != nil {
			return err
		}
		remote, queue, err := w.open(ctx, conf)
		if err != nil {
			return err
		}
		a, err := agent.New(agent.Options{
			Dir: dir, Name: "web1", RemoteName: remote.Name(), Store: remote, Queue: queue, Host: host, Config: conf,
			Ours:  func(n events.Notice) bool { return n.Bucket == bucket && n.Key == key },
			Reach: w.reach, Version: "test", Log: slog.New(slog.NewTextHandler(&w.logs, nil)),
		})
		if err != nil {
			return err
		}
		if err := a.Run(ctx); !errors.Is(err, agent.ErrReconnect) {
			return err
		}
	}
}

func (w *world) open(ctx context.Context, conf config.Config) (*store.Remote, *events.Queue, error) {
	warn := func(message string) { slog.New(slog.NewTextHandler(&w.logs, nil)).Warn(message) }
	remote, err := store.Open(ctx, conf.Remote, store.Options{Warn: warn, Dial: w.net.dial})
	if err != nil {
		return nil, nil, err
	}
	queue, err := events.OpenQueue(ctx, events.QueueOptions{URL: conf.QueueURL, Lease: conf.Lease(), Warn: warn, Dial: w.net.dial})

	return remote, queue, err
}

// reach is what verification asks for, with connections of its own.
func (w *world) reach(ctx context.Context, conf config.Config, withQueue bool) error {
	remote, queue, err := w.open(ctx, conf)
	if err != nil {
		return err
	}
	_, err = remote.Latest(ctx, store.Version{})
	if !withQueue {
		return err
	}

	return errors.Join(err, queue.Reach(ctx))
}

// logs counts the agent's lines.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) lines() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte("\n"))
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
