package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/npcnix/npcnix/store/credentials"
)

const (
	batchSize    = 10   // SQS's limit for every call on messages
	maxReceived  = 1000 // deliveries in one Receive, a multiple of batchSize
	drainWait    = 1 * time.Second
	maxWait      = 20 * time.Second
	maxHeld      = 12 * time.Hour // SQS's limit of visibility, from the receive
	attemptLimit = 35 * time.Second
)

// QueueOptions says which queue to read and how.
type QueueOptions struct {
	// URL of the queue, as AWS gives it, or under any endpoint that speaks SQS's JSON
	// protocol; then scheme and host are the endpoint, unless the SDK's settings
	// (AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, endpoint_url) name another. Required.
	URL string
	// Region to sign for. Default: the one in the URL's host, else what the SDK finds, else
	// us-east-1.
	Region string
	// Lease is how long a received message stays invisible to others unless it is extended;
	// whole seconds, rounded up. Default 2 min, at most 12 h.
	Lease time.Duration
	// Wait is how long the server holds a long poll; whole seconds, rounded up. Default and
	// maximum 20 s.
	Wait time.Duration
	// Dial makes the connections, as net.Dialer's DialContext does. Nil: that does.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Warn is told what the SDK warns of. Nil: nobody.
	Warn func(message string)

	attempt time.Duration // limit of one attempt at a request
	pace    time.Duration // an empty answer sooner than this is waited out
}

// validate fills in the defaults and returns what the URL says.
func (o *QueueOptions) validate() (endpoint, error) {
	setDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	setDefault(&o.Lease, 2*time.Minute)
	setDefault(&o.Wait, maxWait)
	setDefault(&o.attempt, attemptLimit)
	setDefault(&o.pace, time.Second)
	if o.Lease < 0 || o.Lease > maxHeld {
		return endpoint{}, fmt.Errorf("queue lease %s is not between 1s and %s", o.Lease, maxHeld)
	}
	if o.Wait < 0 || o.Wait > maxWait {
		return endpoint{}, fmt.Errorf("queue wait %s is not between 1s and %s", o.Wait, maxWait)
	}
	e, err := parseQueueURL(o.URL)
	if err != nil {
		return endpoint{}, err
	}
	if e.base == "" && o.Region != "" && o.Region != e.region {
		return endpoint{}, fmt.Errorf("queue URL %q is in region %s, not %s: leave the region out", o.URL, e.region, o.Region)
	}
	if o.Region == "" {
		o.Region = e.region
	}
	return e, nil
}

// api is what a Queue uses of the SDK.
type api interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// Queue is an SQS queue. Its methods may be called from several goroutines.
type Queue struct {
	sqs     api
	options QueueOptions
	pacer   pacer
}

// OpenQueue returns the queue without asking for it: that it is missing or forbidden shows
// when it is used, and heals without opening it again. Errors are those of the options and
// of the SDK's own configuration.
func OpenQueue(ctx context.Context, o QueueOptions) (*Queue, error) {
	where, err := o.validate()
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(ctx, o)
	if err != nil {
		return nil, err
	}
	client := sqs.NewFromConfig(cfg, func(s *sqs.Options) {
		if s.BaseEndpoint == nil && where.base != "" {
			s.BaseEndpoint = &where.base
			s.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
			s.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
		}
	})
	return &Queue{sqs: client, options: o}, nil
}

// loadConfig loads the SDK's configuration for requests whose attempts have a limit. Region "": the SDK's.
func loadConfig(ctx context.Context, o QueueOptions) (aws.Config, error) {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(newHTTPClient(o)), config.WithLogger(credentials.Logger(o.Warn)),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := credentials.Load(ctx, load...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration for the queue: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1" // any will do: an endpoint that names none checks none
	}
	cfg.APIOptions = append(cfg.APIOptions, boundAnswers)
	return cfg, nil
}

// newHTTPClient returns a client whose every attempt, to the last byte of the answer, is
// limited: the SDK sets no limit, and a half-open connection would hang a long poll for
// ever. It keeps to HTTP/1.1, where a timeout drops the connection, so that the next attempt
// makes a new one; over HTTP/2 the dead one would be used again.
func newHTTPClient(o QueueOptions) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(o.attempt).WithTransportOptions(func(t *http.Transport) {
		if o.Dial != nil {
			t.DialContext = o.Dial
		}
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		t.TLSClientConfig.NextProtos = []string{"http/1.1"} // the SDK's transport has offered h2 by now
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 2, 2        // a poll, and what extends and deletes beside it
	})
}

// Receive waits for messages and returns them with the lease running. It returns none, and
// no error, when none came within Wait. When they come by full tens it goes on until they do
// not, up to 1,000 or a quarter of the lease, so that a burst arrives as one; an error on
// the way is then left for the next call to meet.
//
// After an error of a single request, messages may be hidden until their lease ends: the server has handed them out,
// and the answer was lost.
//
// Cancelling ctx ends a waiting Receive at once with ctx's error. SQS may have handed out
// messages at that moment; they come back when the lease ends.
func (q *Queue) Receive(ctx context.Context) ([]Delivery, error) {
	start := time.Now()
	batch, err := q.poll(ctx, q.options.Wait)
	if err != nil {
		return nil, explain(ctx, "receive from queue", err)
	}
	if len(batch) == 0 {
		// A server or proxy that does not hold the poll must not make the caller spin.
		return nil, pause(ctx, q.options.pace-time.Since(start))
	}
	all, leased := batch, time.Now()
	for len(batch) == batchSize && len(all) < maxReceived && time.Since(leased) < q.options.Lease/4 {
		if batch, err = q.poll(ctx, drainWait); err != nil {
			break
		}
		all = append(all, batch...)
	}
	return all, nil
}

// Reach asks the queue for its name, which disturbs no message, and returns why it does not answer.
// Known credentials that are not allowed to ask are as good an answer.
func (q *Queue) Reach(ctx context.Context) error {
	_, err := q.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.options.URL, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
	})
	var refused smithy.APIError
	if errors.As(err, &refused) && strings.Contains(refused.ErrorCode(), "AccessDenied") {
		return nil
	}
	if err != nil {
		return explain(ctx, "reach the queue", err)
	}
	return nil
}

// poll makes one request for messages. The wait is never 0: the SDK leaves a 0 out, and the
// queue's own default, which may be 20 s, would rule. A poll that waits also asks all of
// SQS's servers, where one that does not can miss messages.
func (q *Queue) poll(ctx context.Context, wait time.Duration) ([]Delivery, error) {
	if err := q.pacer.wait(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait+q.options.attempt)
	defer cancel()
	start := time.Now()
	// The SDK does not retry it: a poll that breaks may have taken messages along, which the caller must know.
	once := func(o *sqs.Options) { o.Retryer = aws.NopRetryer{} }
	out, err := q.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    &q.options.URL,
		MaxNumberOfMessages:         batchSize,
		WaitTimeSeconds:             seconds(wait),
		VisibilityTimeout:           seconds(q.options.Lease),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount},
	}, once)
	if err != nil {
		return nil, err
	}
	deliveries := make([]Delivery, len(out.Messages))
	for i, m := range out.Messages {
		d := Delivery{
			ID:       aws.ToString(m.MessageId),
			Receives: 1,
			Received: start,
			receipt:  aws.ToString(m.ReceiptHandle),
		}
		d.Notices, d.Err = Parse([]byte(aws.ToString(m.Body)))
		if n, err := strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]); err == nil {
			d.Receives = n
		}
		deliveries[i] = d
	}
	return deliveries, nil
}

// seconds rounds up to whole seconds, as SQS counts.
func seconds(d time.Duration) int32 {
	return int32((d + time.Second - 1) / time.Second)
}

// pause waits for d or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
