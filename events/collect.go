package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// lookers is how many queues are asked about at a time.
const lookers = 16

// OwnQueues are the queues that the hosts of a remote have made for themselves. Of others it deletes none: the hash in
// a queue's name tells that the host of its tags made it.
type OwnQueues struct {
	topic, remote string
	sqs           *sqs.Client
	sns           *sns.Client
}

// FoundQueue is a queue of a remote's host, or what is left of one.
type FoundQueue struct {
	Name     string
	Host     string // "" if only a subscription is left, and no host is known that would have made such a queue
	Instance string // of EC2; "" elsewhere
	Own      bool   // the host made it, in this account

	url, dead    string // URLs of it and of its dead-letter queue; "" if that is not there
	subscription string // ARN; "" if there is none
}

// OpenOwnQueues finds the queues of a remote as AWS's own settings in the environment say, and asks AWS nothing. The
// options are those of its hosts; what concerns one host counts for nothing.
func OpenOwnQueues(ctx context.Context, o OwnQueueOptions) (*OwnQueues, error) {
	region, err := topicRegion(o.Topic)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(ctx, QueueOptions{Region: region, Warn: o.Warn, Dial: o.Dial, attempt: attemptLimit})
	if err != nil {
		return nil, err
	}

	return &OwnQueues{topic: o.Topic, remote: o.Remote, sqs: sqs.NewFromConfig(cfg), sns: sns.NewFromConfig(cfg)}, nil
}

// Find returns the queues whose names and tags are those of the remote's hosts, and subscriptions of the topic to
// queues of such names that are not there. The hosts are those that may have made the latter.
func (o *OwnQueues) Find(ctx context.Context, hosts []string) ([]FoundQueue, error) {
	subscriptions, err := o.subscriptions(ctx) // first: whoever subscribes has made its queue before
	if err != nil {
		return nil, err
	}
	urls, err := o.list(ctx)
	if err != nil {
		return nil, err
	}
	var ask []string
	for name := range urls {
		if base, dead := strings.CutSuffix(name, deadSuffix); !dead || urls[base] == "" {
			ask = append(ask, name) // a dead-letter queue is found with its queue, unless that is gone
		}
	}
	found := make([]FoundQueue, len(ask))
	err = inParallel(ctx, lookers, len(ask), func(ctx context.Context, i int) (err error) {
		found[i], err = o.look(ctx, ask[i], urls)
		return err
	})
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(q FoundQueue) bool { return q.Host == "" })
	for i, q := range found {
		found[i].subscription = subscriptions[q.Name].arn
	}
	for _, host := range hosts {
		if name := OwnQueueName(o.topic, o.remote, host); urls[name] == "" && urls[name+deadSuffix] == "" && subscriptions[name].arn != "" {
			found = append(found, FoundQueue{Name: name, Host: host, Own: subscriptions[name].here, subscription: subscriptions[name].arn})
			delete(subscriptions, name)
		}
	}
	for name, s := range subscriptions {
		if urls[name] == "" && urls[name+deadSuffix] == "" {
			found = append(found, FoundQueue{Name: name, subscription: s.arn})
		}
	}
	slices.SortFunc(found, func(a, b FoundQueue) int { return cmp.Compare(a.Name, b.Name) })

	return found, nil
}

// list returns the URLs of the queues with the remote's name in theirs, by name.
func (o *OwnQueues) list(ctx context.Context) (map[string]string, error) {
	urls := map[string]string{}
	pages := sqs.NewListQueuesPaginator(o.sqs, &sqs.ListQueuesInput{QueueNamePrefix: aws.String(ownPrefix(o.remote)), MaxResults: aws.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, o.explain(ctx, "list the queues "+ownPrefix(o.remote)+"*", err)
		}
		for _, url := range page.QueueUrls {
			urls[url[strings.LastIndex(url, "/")+1:]] = url
		}
	}

	return urls, nil
}

// subscribed is a subscription of the topic.
type subscribed struct {
	arn  string
	here bool // it leads to the topic's own account and region
}

// subscriptions returns the topic's subscriptions to queues of the remote's hosts, by the queue's name. That the topic
// is gone is no error: its subscriptions are gone with it.
func (o *OwnQueues) subscriptions(ctx context.Context) (map[string]subscribed, error) {
	found, home := map[string]subscribed{}, strings.Split(o.topic, ":")
	pages := sns.NewListSubscriptionsByTopicPaginator(o.sns, &sns.ListSubscriptionsByTopicInput{TopicArn: &o.topic})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if _, gone := errors.AsType[*snstypes.NotFoundException](err); gone {
			return nil, nil
		}
		if err != nil {
			return nil, o.explain(ctx, "list the subscriptions of "+o.topic, err)
		}
		for _, s := range page.Subscriptions {
			part := strings.Split(aws.ToString(s.Endpoint), ":")
			if !strings.HasPrefix(aws.ToString(s.SubscriptionArn), "arn:") {
				continue // pending: it cannot be deleted, and SNS does that itself after some days
			}
			if len(part) == 6 && part[2] == "sqs" && strings.HasPrefix(part[5], ownPrefix(o.remote)) {
				found[part[5]] = subscribed{aws.ToString(s.SubscriptionArn), part[3] == home[3] && part[4] == home[4]}
			}
		}
	}

	return found, nil
}

// look reads whose queue it is. One of another remote, or without a host, has no Host.
func (o *OwnQueues) look(ctx context.Context, name string, urls map[string]string) (FoundQueue, error) {
	out, err := o.sqs.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: aws.String(urls[name])})
	if isMissing(err) {
		return FoundQueue{}, nil // deleted since it was listed
	}
	if err != nil {
		return FoundQueue{}, o.explain(ctx, "read the tags of the queue "+name, err)
	}
	if out.Tags[remoteTag] != o.remote || out.Tags[hostTag] == "" {
		return FoundQueue{}, nil
	}
	q := FoundQueue{Name: strings.TrimSuffix(name, deadSuffix), Host: out.Tags[hostTag], Instance: out.Tags[instanceTag]}
	q.url, q.dead = urls[q.Name], urls[q.Name+deadSuffix]
	q.Own = q.Name == OwnQueueName(o.topic, o.remote, q.Host)

	return q, nil
}

// Created returns when the queue was made, by the clock of SQS; zero if it is gone.
func (o *OwnQueues) Created(ctx context.Context, q FoundQueue) (time.Time, error) {
	url := q.url
	if url == "" {
		url = q.dead
	}
	out, err := o.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameCreatedTimestamp},
	})
	if isMissing(err) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, o.explain(ctx, "read when the queue "+q.Name+" was made", err)
	}
	created, err := strconv.ParseFloat(out.Attributes["CreatedTimestamp"], 64) // seconds
	if err != nil {
		return time.Time{}, fmt.Errorf("the queue %s has no time at which it was made: %w", q.Name, err)
	}

	return time.Unix(int64(created), 0), nil
}

// Delete deletes the subscription, the queue and its dead-letter queue, in this order, as far as they are there. A
// queue that the host did not make is an error.
func (o *OwnQueues) Delete(ctx context.Context, q FoundQueue) error {
	if !q.Own {
		return fmt.Errorf("the queue %s was not made by its host", q.Name)
	}
	if q.subscription != "" {
		if _, err := o.sns.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: &q.subscription}); err != nil {
			return o.explain(ctx, "unsubscribe the queue "+q.Name, err)
		}
	}
	for _, url := range []string{q.url, q.dead} {
		if url == "" {
			continue
		}
		if _, err := o.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &url}); err != nil && !isMissing(err) {
			return o.explain(ctx, "delete the queue "+url[strings.LastIndex(url, "/")+1:], err)
		}
	}

	return nil
}

// explain is for an operator's credentials what the package's own is for a host's.
func (o *OwnQueues) explain(ctx context.Context, op string, err error) error {
	return explainDenied(ctx, op, err, "these credentials lack a permission that docs/aws.md lists for npcnix hosts gc")
}

// inParallel calls do for 0 to n-1, some at a time, and returns the first error once all have ended.
func inParallel(ctx context.Context, atOnce, n int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, n) {
		wg.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()

	return context.Cause(ctx)
}
