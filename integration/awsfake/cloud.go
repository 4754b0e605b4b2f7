// Package awsfake is a small AWS inside this process: S3, SNS and SQS on one HTTP listener, wired to
// each other, for tests, the demo and benchmarks.
//
// It promises that the real aws-sdk-go-v2 and the real AWS CLI work against it unchanged for the calls
// this project makes, that it answers as AWS does where a client can tell the difference, and that what
// it does not implement is refused (501 NotImplemented, InvalidAction) rather than quietly ignored. One
// conformance suite runs against it and against moto_server, so that it stays honest.
//
// By default nothing goes wrong and nothing is late: an object's event is in its queues before the PUT is
// answered. Tests make things go wrong: [Cloud.Fault] for requests, [Cloud.Events] for events on their
// way, [Cloud.Spread] for the messages of topics, [Cloud.Limit] for the rate of requests,
// [Cloud.ExpireReceipts] and [Cloud.FreezeCounters] for queues. Everything that happens is kept in
// an ordered trace ([Cloud.Trace], [Cloud.Follow], [Cloud.Await], [Cloud.Requests]).
//
// STS is there too, and tells each caller who it is.
//
// What AWS does and this does not: signatures, policies and IAM are not checked, messages do not expire,
// KMS, FIFO, message attributes, SNS filter policies, EventBridge and cross-region calls do not exist.
package awsfake

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// The one account and region that everything lives in.
const (
	Account = "123456789012"
	Region  = "us-east-1"
)

// Cloud is one running AWS. Its methods may be called from any goroutine.
type Cloud struct {
	url    string
	server *http.Server // nil: the caller's
	ctx    context.Context
	stop   context.CancelFunc // ends ctx: every request, poll and delayed event
	done   <-chan struct{}    // closed by stop

	trace     trace
	faults    faults
	throttles throttles
	events    transforms
	spread    spread
	s3        storage
	sns       topics
	sqs       queues

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // the listener, requests and delayed events
}

// Start opens a cloud on addr ("host:port"), or on an unused port of 127.0.0.1 when addr is empty. The
// caller ends it with Close.
func Start(addr string) (*Cloud, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start awsfake: %w", err)
	}
	c := New("http://" + listener.Addr().String())
	c.server = &http.Server{Handler: c, BaseContext: func(net.Listener) context.Context { return c.ctx }}
	c.wg.Go(func() { _ = c.server.Serve(listener) }) // ends with ErrServerClosed by Close
	return c, nil
}

// New returns a cloud that listens nowhere: it is a handler, for whoever serves it under that URL. The caller ends
// it with Close, and its requests with their own contexts.
func New(url string) *Cloud {
	c := &Cloud{url: url}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.done = c.ctx.Done()
	c.trace.limit, c.trace.counts = traceLimit, map[Call]int{}
	c.s3.buckets = map[string]*bucket{}
	c.sns.topics = map[string]*topic{}
	c.sqs.byName = map[string]*queue{}
	return c
}

// URL is the endpoint of all three services, without a slash at its end.
func (c *Cloud) URL() string { return c.url }

// Close ends the cloud: parked polls and hung requests end, connections are cut, delayed events are lost.
// It returns once nothing of the cloud runs any more. A second Close does nothing.
func (c *Cloud) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	if c.server != nil {
		_ = c.server.Close() // the listener is gone either way
	}
	c.wg.Wait()
	for _, q := range c.sqs.all() {
		q.close()
	}
}

// Config is an SDK configuration for the services at endpoint, with credentials "test" and the SDK's own
// defaults; it reads no environment and no files.
func Config(endpoint string) aws.Config {
	return aws.Config{
		Region:       Region,
		BaseEndpoint: &endpoint,
		// As config.LoadDefaultConfig sets them: PUTs carry a CRC32 and GETs check it.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}
}

// Env is what a child process needs in its environment so that the SDK or the AWS CLI in it uses this
// cloud and nothing else: "NAME=value" pairs to append to the rest, which must not have an AWS_PROFILE.
// Of the AWS CLI, version 1, "aws sqs" alone needs --endpoint-url as well.
func (c *Cloud) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + c.url,
		"AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test",
		"AWS_SESSION_TOKEN=",
		"AWS_REGION=" + Region,
		"AWS_DEFAULT_REGION=" + Region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// begin counts a piece of work in, unless the cloud is closed.
func (c *Cloud) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Add(1)
	}
	return !c.closed
}

// after runs f once d has passed, unless the cloud is closed before that.
func (c *Cloud) after(d time.Duration, f func()) {
	if !c.begin() {
		return
	}
	go func() {
		defer c.wg.Done()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			f()
		case <-c.done:
		}
	}()
}

// ServeHTTP handles one HTTP request: record it, let a fault strike, else let the service answer.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	if !c.begin() {
		reset(w) // to return without an answer would be one, with status 200
		return
	}
	defer c.wg.Done()
	r, err := newRequest(hr)
	if err != nil {
		reset(w) // the client went away while it was sending
		return
	}
	c.trace.add(Entry{What: Requested, Call: r.Call})
	effect := c.faults.strike(r.Call)
	if effect.Latency > 0 {
		timer := time.NewTimer(effect.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			reset(w)
			return
		}
	}
	var ans *answer
	switch {
	case effect.Hang:
		<-r.Context().Done()
		reset(w)
		return
	case effect.Reset:
		reset(w)
		return
	case effect.Status != 0 || effect.Code != "":
		ans = effect.refusal().answer(r)
	default:
		if err = c.slowDown(r); err == nil {
			ans, err = r.handle(c, r)
		}
		if err != nil {
			ans = failure(err).answer(r)
		}
	}
	c.trace.add(Entry{What: Answered, Call: r.Call, Status: ans.status})
	ans.send(w, hr.Method, effect.Truncate)
}
