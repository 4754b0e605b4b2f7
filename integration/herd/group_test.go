package herd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

// members is how many hosts a group grows to, and staying how many it shrinks to.
const members, staying = 50, 4

// TestAGroupComesAndGoes grows a group whose hosts make their queues themselves, publishes to it, kills some of its
// agents, and shrinks it. Each host applies what is published or is gone, and nothing is left of those that are gone.
func TestAGroupComesAndGoes(t *testing.T) {
	environment(t)
	t.Setenv("AWS_ENDPOINT_URL", endpoint)
	dir := files(t)
	synctest.Test(t, func(t *testing.T) {
		g := &group{herd: start(t, dir, 0, limits{awsfake.S3Reads, awsfake.S3Writes}), end: map[string]func(){}}
		// The first hosts are throttled when they subscribe.
		throttled := g.cloud.Fault(awsfake.Call{Service: "sns", Action: "Subscribe"}, awsfake.Effect{Next: members / 10, Status: 400, Code: "Throttled"})
		for i := range members {
			g.hosts = append(g.hosts, &host{name: fmt.Sprintf("i-%017x", i), own: true, verifies: 5 * time.Second})
			g.begin(g.hosts[i])
			time.Sleep(100 * time.Millisecond)
		}
		g.applied("grown", "first")
		g.left("grown", members)
		if throttled.Hits() != members/10 {
			t.Errorf("%d requests were throttled", throttled.Hits())
		}

		g.publish("second", 0)
		for _, one := range g.hosts[:members/5] { // killed on the way, and begun again
			g.kill(one)
			g.begin(one)
		}
		g.applied("published to", "second")

		for _, one := range g.hosts[staying:] {
			g.kill(one)
		}
		g.hosts = g.hosts[:staying]
		g.publish("third", 0)
		g.applied("shrunk", "third")
		if sum := g.collect(); sum != (fleet.Collected{Kept: members}) {
			t.Errorf("at once, %+v", sum)
		}
		g.left("shrunk", members)
		time.Sleep(25 * time.Hour)
		if sum := g.collect(); sum != (fleet.Collected{Removed: members - staying, Kept: staying}) {
			t.Errorf("after a day, %+v", sum)
		}
		g.left("collected", staying)
		g.publish("fourth", 0)
		g.applied("after the collection", "fourth")

		for _, one := range g.hosts {
			g.kill(one)
		}
		g.hosts = nil
		time.Sleep(25 * time.Hour)
		if sum := g.collect(); sum != (fleet.Collected{Removed: staying}) {
			t.Errorf("in the end, %+v", sum)
		}
		g.left("ended", 0)
	})
}

// group is a herd whose hosts come and go.
type group struct {
	*herd
	end map[string]func() // ends the agent of a host, and waits for that
}

// begin starts a host's agent.
func (g *group) begin(one *host) {
	ctx, cancel := context.WithCancel(g.t.Context())
	var agent sync.WaitGroup
	agent.Go(func() { g.follow(ctx, one) })
	end := sync.OnceFunc(func() { cancel(); agent.Wait() })
	g.end[one.name] = end
	g.t.Cleanup(end)
}

// kill ends a host's agent, which leaves queue, subscription and record behind.
func (g *group) kill(one *host) { g.end[one.name]() }

// applied waits until the hosts run a version, and nothing waits in their queues.
func (g *group) applied(when, version string) {
	g.t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Second) {
		waiting := slices.IndexFunc(g.hosts, func(one *host) bool {
			visible, inFlight, delayed := g.cloud.Depth("/" + events.OwnQueueName(g.topic, remote, one.name))
			running, _ := one.Current(g.t.Context())
			return running.Path != storePath+version || visible+inFlight+delayed > 0
		})
		if waiting == -1 {
			time.Sleep(10 * time.Second) // the last records are written
			return
		}
		if time.Since(begun) > time.Hour {
			g.t.Fatalf("%s: %s does not apply %s within an hour", when, g.hosts[waiting].name, version)
		}
	}
}

// left counts what there is: of each host a record, a queue with its dead-letter queue, and a subscription.
func (g *group) left(when string, hosts int) {
	g.t.Helper()
	records, err := g.s3.ListObjectsV2(g.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(key + ".acks/")})
	g.must(err)
	queues, err := g.sqs.ListQueues(g.t.Context(), &sqs.ListQueuesInput{})
	g.must(err)
	subscriptions, err := g.sns.ListSubscriptionsByTopic(g.t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &g.topic})
	g.must(err)
	if len(records.Contents) != hosts || len(queues.QueueUrls) != 2*hosts || len(subscriptions.Subscriptions) != hosts {
		g.t.Errorf("%s: of %d hosts there are %d records, %d queues and %d subscriptions", when, hosts,
			len(records.Contents), len(queues.QueueUrls), len(subscriptions.Subscriptions))
	}
}

// collect removes what is left of hosts that are not in the group.
func (g *group) collect() fleet.Collected {
	g.t.Helper()
	dial := g.wire.dial(&client{})
	r, err := store.Open(g.t.Context(), remoteURL, store.Options{Dial: dial})
	g.must(err)
	queues, err := events.OpenOwnQueues(g.t.Context(), events.OwnQueueOptions{Topic: g.topic, Remote: remote, Dial: dial})
	g.must(err)
	alive := map[string]bool{}
	for _, one := range g.hosts {
		alive[one.name] = true
	}
	sum, err := (&fleet.Collection{
		Store: r, Queues: queues, OlderThan: fleet.CollectAfter, Alive: alive, Say: func(string) {},
	}).Run(g.t.Context())
	g.must(err)

	return sum
}
