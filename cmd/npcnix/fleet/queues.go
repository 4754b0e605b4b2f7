package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// HostTag is the tag of a queue that names its host; the Terraform module host_queue sets it.
const HostTag = "npcnix:host"

// errQueue marks errors of topics and queues that last.
var errQueue = errors.New("topic or queue")

// Topics is what is asked of SNS. *sns.Client serves.
type Topics interface {
	ListSubscriptionsByTopic(context.Context, *sns.ListSubscriptionsByTopicInput, ...func(*sns.Options)) (*sns.ListSubscriptionsByTopicOutput, error)
}

// QueueAPI is what is asked of SQS. *sqs.Client serves.
type QueueAPI interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	ListQueueTags(context.Context, *sqs.ListQueueTagsInput, ...func(*sqs.Options)) (*sqs.ListQueueTagsOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// Queue is what a host's queue holds, by SQS's approximate counters, which lag by a minute or
// more. A host with several queues has their sums.
type Queue struct {
	Visible  int  `json:"visible"`
	InFlight int  `json:"in_flight"`
	Delayed  int  `json:"delayed"`
	Dead     int  `json:"dead_letters"`
	Gone     bool `json:"gone,omitempty"`
}

func (q Queue) messages() int { return q.Visible + q.InFlight + q.Delayed }

// Queues are the queues that a topic delivers to, by the host that each is for.
type Queues struct {
	api    QueueAPI
	owner  string // the topic's account
	byHost map[string][]queueAt

	mu      sync.Mutex
	foreign map[string]int     // by account, its queues that cannot be read
	dead    map[string]queueAt // dead-letter queues, by ARN
}

// queueAt is where a queue is asked about.
type queueAt struct{ url, region string }

func (q queueAt) in(o *sqs.Options) {
	if q.region != "" {
		o.Region = q.region
	}
}

const requestLimit = 10 * time.Second // for one attempt at a request

// OpenQueues finds a topic's queues as AWS's own settings in the environment say.
func OpenQueues(ctx context.Context, topicARN string, warn func(string)) (*Queues, error) {
	return openQueues(ctx, topicARN, requestLimit, warn)
}

// openQueues limits each attempt at a request: the SDK sets no limit, and a server that takes a
// request and never answers would hold up the wait for ever.
func openQueues(ctx context.Context, topicARN string, limit time.Duration, warn func(string)) (*Queues, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(2),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(limit)))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration for the topic: %w", err)
	}
	return FindQueues(ctx, sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg), topicARN, warn)
}

// CheckTopicARN returns an error that says what is wrong with a topic's ARN.
func CheckTopicARN(topicARN string) error {
	arn := strings.Split(topicARN, ":")
	if len(arn) != 6 || arn[0] != "arn" || arn[2] != "sns" {
		return fmt.Errorf("%q is no topic's ARN: want arn:aws:sns:REGION:ACCOUNT:NAME", topicARN)
	}
	return nil
}

// FindQueues reads from the topic's subscriptions which queues there are, and from their tags
// which hosts they are for. It warns of queues without the tag, of queues that are gone and of queues of
// other accounts, and omits them. If no queue remains the error is ErrHosts.
func FindQueues(ctx context.Context, topics Topics, api QueueAPI, topicARN string, warn func(string)) (*Queues, error) {
	if err := CheckTopicARN(topicARN); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHosts, err)
	}
	region := strings.Split(topicARN, ":")[3]
	var found []string
	pages := sns.NewListSubscriptionsByTopicPaginator(topics, &sns.ListSubscriptionsByTopicInput{TopicArn: &topicARN})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx, func(o *sns.Options) { o.Region = region })
		if err != nil {
			return nil, explainQueue(fmt.Errorf("list subscriptions of %s: %w", topicARN, err), "sns:ListSubscriptionsByTopic")
		}
		for _, s := range out.Subscriptions {
			if aws.ToString(s.Protocol) == "sqs" {
				found = append(found, aws.ToString(s.Endpoint))
			}
		}
	}
	q := &Queues{api: api, owner: accountOf(topicARN), byHost: map[string][]queueAt{}, foreign: map[string]int{}, dead: map[string]queueAt{}}
	err := each(ctx, readers, found, func(ctx context.Context, arn string) error { return q.add(ctx, arn, warn) })
	if err != nil {
		return nil, err
	}
	if others := q.others(); others != "" && len(q.byHost) == 0 {
		return nil, fmt.Errorf("%w: of the %d queues subscribed to %s, %s", ErrHosts, len(found), topicARN, others)
	} else if others != "" {
		warn("of the queues subscribed to " + topicARN + ", " + others)
	}
	if len(q.byHost) == 0 {
		return nil, fmt.Errorf("%w: none of the %d queues subscribed to %s has the tag %s: subscribe the hosts' queues and tag them, or name the hosts with --host",
			ErrHosts, len(found), topicARN, HostTag)
	}
	return q, nil
}

// add finds out which host a queue is for.
func (q *Queues) add(ctx context.Context, arn string, warn func(string)) error {
	at, err := q.find(ctx, arn)
	var tags *sqs.ListQueueTagsOutput
	if err == nil {
		tags, err = q.api.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: &at.url}, at.in)
	}
	gone := errors.As(err, new(*types.QueueDoesNotExist))
	if account := accountOf(arn); account != q.owner && (gone || denied(err)) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.foreign[account]++
		return nil
	}
	if gone {
		q.mu.Lock()
		defer q.mu.Unlock()
		warn(fmt.Sprintf("the subscribed queue %s does not exist, so no host is expected for it", arn))
		return nil
	}
	if err != nil {
		return explainQueue(fmt.Errorf("read queue %s: %w", arn, err), "sqs:GetQueueUrl and sqs:ListQueueTags")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	host := tags.Tags[HostTag]
	if host == "" {
		warn(fmt.Sprintf("the subscribed queue %s has no tag %s, so no host is expected for it", arn, HostTag))
		return nil
	}
	q.byHost[host] = append(q.byHost[host], at)
	return nil
}

// others says which queues of other accounts cannot be read; "" if there are none. No policy of a queue can allow
// another account to read its tags (Amazon SQS API Reference, ListQueueTags).
func (q *Queues) others() string {
	if len(q.foreign) == 0 {
		return ""
	}
	count := 0
	for _, n := range q.foreign {
		count += n
	}
	return fmt.Sprintf("%d belong to other accounts (%s), which do not show whose they are: no host is expected for them; wait by records, without --topic-arn, or name their hosts with --host",
		count, strings.Join(slices.Sorted(maps.Keys(q.foreign)), ", "))
}

func accountOf(arn string) string {
	part := strings.Split(arn, ":")
	if len(part) != 6 {
		return ""
	}
	return part[4]
}

// find returns the URL of the queue that an ARN names.
func (q *Queues) find(ctx context.Context, arn string) (queueAt, error) {
	part := strings.Split(arn, ":")
	if len(part) != 6 || part[2] != "sqs" {
		return queueAt{}, fmt.Errorf("%w: %q is no queue's ARN", errQueue, arn)
	}
	at := queueAt{region: part[3]}
	out, err := q.api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &part[5], QueueOwnerAWSAccountId: &part[4]}, at.in)
	if err != nil {
		return queueAt{}, err
	}
	at.url = aws.ToString(out.QueueUrl)
	return at, nil
}

// Hosts returns the hosts that have queues, in order.
func (q *Queues) Hosts() []string {
	var hosts []string
	for host := range q.byHost {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return hosts
}

// depth asks what a host's queues and their dead-letter queues hold.
func (q *Queues) depth(ctx context.Context, host string) (Queue, error) {
	var sum Queue
	for _, at := range q.byHost[host] {
		a, err := q.attributes(ctx, at, "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
			"ApproximateNumberOfMessagesDelayed", "RedrivePolicy")
		if errors.As(err, new(*types.QueueDoesNotExist)) {
			sum.Gone = true
			continue
		}
		if err != nil {
			return Queue{}, err
		}
		sum.Visible += a.number("ApproximateNumberOfMessages")
		sum.InFlight += a.number("ApproximateNumberOfMessagesNotVisible")
		sum.Delayed += a.number("ApproximateNumberOfMessagesDelayed")
		dead, err := q.deadLetters(ctx, a["RedrivePolicy"])
		if err != nil {
			return Queue{}, fmt.Errorf("its dead-letter queue: %w", err)
		}
		sum.Dead += dead
	}
	return sum, nil
}

// deadLetters counts what a redrive policy's dead-letter queue holds; it may be shared by hosts.
func (q *Queues) deadLetters(ctx context.Context, policy string) (int, error) {
	var p struct {
		Target string `json:"deadLetterTargetArn"`
	}
	if policy == "" || json.Unmarshal([]byte(policy), &p) != nil || p.Target == "" {
		return 0, nil
	}
	q.mu.Lock()
	at, known := q.dead[p.Target]
	q.mu.Unlock()
	if !known {
		var err error
		if at, err = q.find(ctx, p.Target); err != nil {
			return 0, explainQueue(err, "sqs:GetQueueUrl")
		}
		q.mu.Lock()
		q.dead[p.Target] = at
		q.mu.Unlock()
	}
	a, err := q.attributes(ctx, at, "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
	return a.number("ApproximateNumberOfMessages") + a.number("ApproximateNumberOfMessagesNotVisible"), err
}

type attributes map[string]string

func (a attributes) number(name string) int {
	n, _ := strconv.Atoi(a[name]) // absent: 0
	return n
}

func (q *Queues) attributes(ctx context.Context, at queueAt, names ...types.QueueAttributeName) (attributes, error) {
	out, err := q.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &at.url, AttributeNames: names}, at.in)
	if err != nil {
		return nil, explainQueue(err, "sqs:GetQueueAttributes")
	}
	return out.Attributes, nil
}

func denied(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (strings.Contains(api.ErrorCode(), "AccessDenied") || strings.Contains(api.ErrorCode(), "AuthorizationError"))
}

// explainQueue marks errors that last.
func explainQueue(err error, needs string) error {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return err
	}
	code := api.ErrorCode()
	switch {
	case denied(err) || strings.Contains(code, "InvalidClientTokenId"):
		return fmt.Errorf("%w: these credentials lack %s: %w", errQueue, needs, err)
	case strings.Contains(code, "NotFound"):
		return fmt.Errorf("%w: there is no such topic: check the ARN: %w", errQueue, err)
	case strings.Contains(code, "NonExistentQueue") || strings.Contains(code, "QueueDoesNotExist"):
		return fmt.Errorf("%w: %w", errQueue, err)
	case strings.HasPrefix(code, "Invalid"):
		return fmt.Errorf("%w: %w", errQueue, err)
	}
	return err
}
