package integration

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// TestOwnQueue follows hosts that make their queue themselves.
func TestOwnQueue(t *testing.T) {
	t.Parallel()
	t.Run("on moto", func(t *testing.T) {
		t.Parallel()
		ownQueue(t, moto.Start(t))
	})
	t.Run("on awsfake", func(t *testing.T) {
		t.Parallel()
		ownQueue(t, newCloud(t).URL())
	})
}

func ownQueue(t *testing.T, endpoint string) {
	w := newWorld(t, endpoint)
	h := newHost(w, "web1")
	h.configure(map[string]any{"remote": remote, "configuration": "web1", "host": "web1", "queue_url": "auto", "topic_arn": w.topic, "lease_secs": 3, "poll_interval_secs": 3600})
	name := events.OwnQueueName(w.topic, remote, "web1")
	h.publish(nixtest.System{Version: "zero"}) // before there is a queue
	h.start()
	h.await("the record", func() bool { return h.record().Status == record.Applied })
	h.await("the subscription", func() bool { return len(w.subscriptions()) == 1 })
	tags, err := w.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: aws.String(w.queueURL(name))})
	w.must(err)
	if tags.Tags["npcnix:host"] != "web1" || tags.Tags["npcnix:remote"] != remote {
		t.Errorf("tags %v", tags.Tags)
	}
	for _, name := range w.queues() { // the dead-letter queue too
		w.onlyTheTopicSends(name)
	}

	h.publish(nixtest.System{Version: "one"})
	h.await("the event reconciled", func() bool { return h.marker() == "one" && h.record().Trigger == record.Event })
	h.await("the message deleted", func() bool { v, f := w.depth(w.queueURL(name)); return v == "0" && f == "0" })

	// The queue is deleted: what is published meanwhile is found when it is there again.
	before := h.log.count("this host has a queue of its own")
	_, err = w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: aws.String(w.queueURL(name))})
	w.must(err)
	h.publish(nixtest.System{Version: "two"})
	h.await("the queue made again", func() bool { return h.log.count("this host has a queue of its own") > before })
	h.await("what was published meanwhile", func() bool { return h.marker() == "two" })
	h.publish(nixtest.System{Version: "three"})
	h.await("the next version", func() bool { return h.marker() == "three" })

	// While the agent runs, it would only make the queue again.
	if out, code := h.command("leave"); code != 1 || !strings.Contains(out, "systemctl stop npcnix") {
		t.Errorf("leave beside an agent: exit code %d: %s", code, out)
	}
	if out, code := h.command("doctor"); !strings.Contains(out, name) {
		t.Errorf("doctor does not know the queue: exit code %d: %s", code, out)
	}
	h.terminate()
	for range 2 { // the second time there is nothing to delete
		if out, code := h.command("leave"); code != 0 {
			t.Errorf("leave: exit code %d: %s", code, out)
		}
	}
	if left := w.subscriptions(); len(left) != 0 {
		t.Errorf("subscriptions are left: %v", left)
	}
	if left := w.queues(); len(left) != 0 {
		t.Errorf("queues are left: %v", left)
	}

	// A queue of that name that is another's is not taken.
	_, err = w.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Tags: map[string]string{"npcnix:host": "web2"}})
	w.must(err)
	h.start()
	h.await("the refusal", func() bool { return h.log.count("is not this host's") > 0 })
	h.publish(nixtest.System{Version: "four"})
	h.await("a poll", func() bool { return h.marker() == "four" })
	if code := h.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestOwnQueueHealsByItself has AWS refuse the host its queue or subscription for a while: the agent says so once, polls,
// and subscribes as soon as it can.
func TestOwnQueueHealsByItself(t *testing.T) {
	t.Parallel()
	denied := func(call awsfake.Call, code string) func(*world, *awsfake.Cloud) func() {
		return func(_ *world, cloud *awsfake.Cloud) func() {
			return cloud.Fault(call, awsfake.Effect{Status: http.StatusForbidden, Code: code}).Remove
		}
	}
	queue, subscribe := awsfake.Call{Service: "sqs", Action: "CreateQueue"}, awsfake.Call{Service: "sns", Action: "Subscribe"}
	for _, c := range []struct {
		name  string
		tries awsfake.Call
		begin func(*world, *awsfake.Cloud) (heal func())
		says  string
	}{
		{"the topic is gone", subscribe, func(w *world, _ *awsfake.Cloud) func() {
			_, err := w.sns.DeleteTopic(w.t.Context(), &sns.DeleteTopicInput{TopicArn: &w.topic})
			w.must(err)
			return func() {
				_, err := w.sns.CreateTopic(w.t.Context(), &sns.CreateTopicInput{Name: aws.String("npcnix-dev")})
				w.must(err)
			}
		}, "NotFound"},
		{"the subscription is pending", subscribe, func(_ *world, cloud *awsfake.Cloud) func() {
			cloud.PendSubscriptions(true)
			return func() { cloud.PendSubscriptions(false) }
		}, "the subscription is pending"},
		{"it lacks the permission to make a queue", queue, denied(queue, "AccessDenied"), "CreateQueue.*" + lacksPermission},
		{"it lacks the permission to subscribe", subscribe, denied(subscribe, "AuthorizationError"), "Subscribe.*" + lacksPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(t)
			w := newWorld(t, cloud.URL())
			h := newHost(w, "web1")
			h.configure(map[string]any{"remote": remote, "configuration": "web1", "host": "web1", "queue_url": "auto", "topic_arn": w.topic, "poll_interval_secs": 3600, "min_sleep_secs": 1, "max_sleep_secs": 1})
			heal := c.begin(w, cloud)
			h.publish(nixtest.System{Version: "one"})
			h.start("--log-level", "info")
			h.await("a poll", func() bool { return h.marker() == "one" })
			tries := func() int { return cloud.Requests(c.tries.Service, c.tries.Action) }
			before := tries()
			h.await("more tries", func() bool { return tries() >= before+3 })
			h.publish(nixtest.System{Version: "two"})
			h.await("the next poll", func() bool { return h.marker() == "two" && h.record().Status == record.Applied })
			if said := regexp.MustCompile(c.says).FindAllString(h.log.String(), -1); len(said) != 1 {
				t.Errorf("it says %d times %q", len(said), c.says)
			}

			heal()
			h.await("the subscription", func() bool { return h.log.count("this host has a queue of its own") == 1 })
			h.publish(nixtest.System{Version: "three"})
			h.await("the event", func() bool { return h.marker() == "three" && h.record().Trigger == record.Event })
			if code := h.terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if out, code := h.command("leave"); code != 0 || len(w.queues()) != 0 {
				t.Errorf("leave: exit code %d: %s", code, out)
			}
		})
	}
}

// lacksPermission is what an agent says that cannot make its queue. Regular expression.
const lacksPermission = `docs/aws\.md lists`

// command runs npcnix with the host's folders, and returns what it printed and its exit code.
func (h *host) command(args ...string) (string, int) {
	h.t.Helper()
	return h.commandIn(h.env(), args...)
}

// commandIn is command in an environment, such as an actor's.
func (h *host) commandIn(env []string, args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.Command(npcnix, append(h.flags(), args...)...)
	cmd.Env = append(env, nixtest.Env()...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// onlyTheTopicSends evaluates the policy of a queue that a host has made. awsfake looks at none.
func (w *world) onlyTheTopicSends(name string) {
	w.t.Helper()
	out, err := w.sqs.GetQueueAttributes(w.t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(w.queueURL(name)), AttributeNames: []sqstypes.QueueAttributeName{"Policy", "QueueArn"},
	})
	w.must(err)
	p, queue := parsePolicy(w.t, out.Attributes["Policy"]), out.Attributes["QueueArn"]
	from := func(topic string) map[string]string { return map[string]string{"aws:SourceArn": topic} }
	const send, service = "sqs:SendMessage", "Service sns.amazonaws.com"
	account := strings.Split(w.topic, ":")[4]
	for _, c := range []struct {
		who     string
		request request
		allowed bool
	}{
		{"the remote's topic", request{service, send, queue, from(w.topic)}, true},
		{"another topic", request{service, send, queue, from(w.topic + "2")}, false},
		{"the topic of that name of another account", request{service, send, queue, from(strings.Replace(w.topic, account, "999999999999", 1))}, false},
		{"a topic that is not named", request{service, send, queue, nil}, false},
		{"another service", request{"Service s3.amazonaws.com", send, queue, from(w.topic)}, false},
		{"a role of the account", request{"AWS arn:aws:iam::" + account + ":role/web2", send, queue, nil}, false},
		{"a role that names the topic", request{"AWS arn:aws:iam::" + account + ":role/web2", send, queue, from(w.topic)}, false},
		{"the topic, as a receiver", request{service, "sqs:ReceiveMessage", queue, from(w.topic)}, false},
		{"the topic, to another queue", request{service, send, queue + "2", from(w.topic)}, false},
	} {
		if got := p.allows(c.request); got != c.allowed {
			w.t.Errorf("%s: %s is allowed: %v", name, c.who, got)
		}
	}
}

func (w *world) subscriptions() (endpoints []string) {
	w.t.Helper()
	out, err := w.sns.ListSubscriptionsByTopic(w.t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &w.topic})
	w.must(err)
	for _, s := range out.Subscriptions {
		endpoints = append(endpoints, *s.Endpoint)
	}
	return endpoints
}

// queues are the names of all queues.
func (w *world) queues() (names []string) {
	w.t.Helper()
	out, err := w.sqs.ListQueues(w.t.Context(), &sqs.ListQueuesInput{})
	w.must(err)
	for _, url := range out.QueueUrls {
		names = append(names, filepath.Base(url))
	}
	return slices.Sorted(slices.Values(names))
}

func (w *world) queueURL(name string) string {
	w.t.Helper()
	out, err := w.sqs.GetQueueUrl(w.t.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
	w.must(err)
	return *out.QueueUrl
}
