package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/store"
)

// A step of a queue's life: at a time in seconds it comes to hold so much.
type step struct {
	at             int
	visible, lease int // visible -1: the queue is gone
	dead           int
}

func TestQueues(t *testing.T) {
	t.Run("are done only after they had the event", queueDone)
	t.Run("name the hosts by their tags", queueHosts)
	t.Run("of other accounts are omitted", queueOfOthers)
	t.Run("of a missing or forbidden topic are an error", queueTopic)
	t.Run("that never answer end the wait", queueSilence)
	t.Run("decide a wait on awsfake", queueOnAWSFake)
}

func queueDone(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  Queue // at the baseline
		steps   []step
		verdict Verdict
		state   string
		after   int // seconds
	}{
		{"zero says nothing", Queue{}, nil, Missing, "waiting", 3600},
		{"the event is visible", Queue{}, []step{{5, 1, 0, 0}}, Missing, "working", 3600},
		{"the event is in flight", Queue{}, []step{{5, 0, 1, 0}}, Missing, "working", 3600},
		{"it came and was deleted just now", Queue{}, []step{{5, 0, 1, 0}, {60, 0, 0, 0}}, Missing, "draining", 60 + 179},
		{"it came and was deleted a while ago", Queue{}, []step{{5, 0, 1, 0}, {60, 0, 0, 0}}, Done, "drained", 60 + 180},
		{"the counters flicker", Queue{}, []step{{5, 0, 1, 0}, {60, 0, 0, 0}, {200, 1, 0, 0}, {201, 0, 0, 0}}, Missing, "draining", 201 + 179},
		{"an older message is left before the event comes", Queue{InFlight: 1}, []step{{0, 0, 1, 0}, {60, 0, 0, 0}}, Missing, "waiting", 3600},
		{"the event joins an older message", Queue{InFlight: 1}, []step{{0, 0, 1, 0}, {5, 1, 1, 0}, {60, 0, 0, 0}}, Done, "drained", 240},
		{"given up", Queue{}, []step{{5, 0, 1, 0}, {60, 0, 0, 1}}, Failed, "dead-letter", 60},
		{"given up while one of old expires", Queue{Dead: 7}, []step{{5, 0, 1, 7}, {20, 0, 1, 6}, {60, 0, 0, 7}}, Failed, "dead-letter", 60},
		{"a queue with dead letters is gone for a while", Queue{Dead: 7}, []step{{5, 0, 1, 7}, {20, -1, 0, 0}, {30, 0, 1, 7}, {60, 0, 0, 7}}, Done, "drained", 240},
		{"dead letters of old", Queue{Dead: 7}, []step{{5, 0, 1, 7}, {60, 0, 0, 7}}, Done, "drained", 240},
	} {
		d := drain{before: c.before}
		start := time.Now()
		now := Queue{Dead: c.before.Dead}
		steps := c.steps
		for s := 0; s <= c.after; s++ {
			if len(steps) > 0 && steps[0].at == s {
				now = Queue{Visible: max(0, steps[0].visible), InFlight: steps[0].lease, Dead: steps[0].dead, Gone: steps[0].visible < 0}
				steps = steps[1:]
			}
			moment := start.Add(time.Duration(s) * time.Second)
			d.look(now, moment)
			verdict, state, _ := d.judge(moment, DefaultEmptyFor)
			if s == c.after && (verdict != c.verdict || state != c.state) {
				t.Errorf("%s: %s, %s; want %s, %s", c.name, verdict, state, c.verdict, c.state)
			}
			if s < c.after && c.verdict == Done && verdict == Done {
				t.Errorf("%s: done after %d s already", c.name, s)
				break
			}
		}
	}
}

func startCloud(t *testing.T) *awsfake.Cloud {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

// topicWorld is a topic with queues, in awsfake or moto.
type topicWorld struct {
	t     *testing.T
	sns   *sns.Client
	sqs   *sqs.Client
	topic string
	urls  map[string]string // by queue
	dead  map[string]string
}

func newTopic(t *testing.T, endpoint string) *topicWorld {
	t.Helper()
	cfg := awsfake.Config(endpoint)
	w := &topicWorld{t: t, sns: sns.NewFromConfig(cfg), sqs: sqs.NewFromConfig(cfg), urls: map[string]string{}, dead: map[string]string{}}
	out, err := w.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("npcnix-dev")})
	w.must(err)
	w.topic = *out.TopicArn
	return w
}

func (w *topicWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// queue subscribes a queue with a dead-letter queue; it is tagged unless host is empty.
func (w *topicWorld) queue(name, host string) {
	w.t.Helper()
	create := func(name string, attributes map[string]string) (url, arn string) {
		out, err := w.sqs.CreateQueue(w.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		w.must(err)
		a, err := w.sqs.GetQueueAttributes(w.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: out.QueueUrl, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
		w.must(err)
		return *out.QueueUrl, a.Attributes["QueueArn"]
	}
	dead, deadARN := create(name+"-dead", nil)
	url, arn := create(name, map[string]string{"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":1}`, deadARN)})
	w.urls[name], w.dead[name] = url, dead
	if host != "" {
		_, err := w.sqs.TagQueue(w.t.Context(), &sqs.TagQueueInput{QueueUrl: &url, Tags: map[string]string{HostTag: host}})
		w.must(err)
	}
	_, err := w.sns.Subscribe(w.t.Context(), &sns.SubscribeInput{TopicArn: &w.topic, Protocol: aws.String("sqs"), Endpoint: &arn})
	w.must(err)
}

func (w *topicWorld) find() (*Queues, []string, error) {
	var warned []string
	q, err := FindQueues(w.t.Context(), w.sns, w.sqs, w.topic, func(msg string) { warned = append(warned, msg) })
	return q, warned, err
}

func queueHosts(t *testing.T) {
	for name, hosts := range map[string]int{"moto": 3, "awsfake": 120} { // the latter are more than a page
		t.Run(name, func(t *testing.T) {
			endpoint := ""
			if name == "moto" {
				endpoint = moto.Start(t)
			} else {
				endpoint = startCloud(t).URL()
			}
			w := newTopic(t, endpoint)
			if _, _, err := w.find(); err == nil || !strings.Contains(err.Error(), "of the 0 queues") {
				t.Error(err)
			}
			var want []string
			for i := range hosts {
				host := fmt.Sprintf("web%03d", i)
				w.queue(host, host)
				want = append(want, host)
			}
			w.queue("foreign", "")
			w.queue("gone", "gone")
			_, err := w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: aws.String(w.urls["gone"])})
			w.must(err)
			q, warned, err := w.find()
			w.must(err)
			if !slices.Equal(q.Hosts(), want) {
				t.Errorf("hosts %q", q.Hosts())
			}
			slices.Sort(warned)
			if len(warned) != 2 || !strings.Contains(warned[0], ":foreign has no tag") || !strings.Contains(warned[1], ":gone does not exist") {
				t.Errorf("warned: %q", warned)
			}

			depth := func(want Queue) {
				t.Helper()
				if got, err := q.depth(t.Context(), "web000"); err != nil || got != want {
					t.Errorf("%+v, %v; want %+v", got, err, want)
				}
			}
			depth(Queue{})
			_, err = w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(w.urls["web000"]), MessageBody: aws.String("x")})
			w.must(err)
			depth(Queue{Visible: 1})
			_, err = w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(w.urls["web000"])})
			w.must(err)
			depth(Queue{InFlight: 1})
			_, err = w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(w.dead["web000"]), MessageBody: aws.String("x")})
			w.must(err)
			depth(Queue{InFlight: 1, Dead: 1})
			_, err = w.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: aws.String(w.urls["web000"])})
			w.must(err)
			depth(Queue{Gone: true})
		})
	}
}

// strangers are queues of which those of other accounts answer as AWS does: a queue does not exist, or its tags are denied.
type strangers struct{ QueueAPI }

func (s strangers) GetQueueUrl(ctx context.Context, in *sqs.GetQueueUrlInput, o ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	switch *in.QueueOwnerAWSAccountId {
	case "333333333333":
		return nil, &types.QueueDoesNotExist{}
	case "444444444444", "555555555555":
		return &sqs.GetQueueUrlOutput{QueueUrl: in.QueueOwnerAWSAccountId}, nil
	}
	return s.QueueAPI.GetQueueUrl(ctx, in, o...)
}

func (s strangers) ListQueueTags(ctx context.Context, in *sqs.ListQueueTagsInput, o ...func(*sqs.Options)) (*sqs.ListQueueTagsOutput, error) {
	switch *in.QueueUrl {
	case "444444444444":
		return nil, &smithy.GenericAPIError{Code: "AccessDenied"}
	case "555555555555": // of these credentials
		return &sqs.ListQueueTagsOutput{Tags: map[string]string{HostTag: "web5"}}, nil
	}
	return s.QueueAPI.ListQueueTags(ctx, in, o...)
}

func queueOfOthers(t *testing.T) {
	cloud := startCloud(t)
	w := newTopic(t, cloud.URL())
	subscribe := func(account string) {
		_, err := w.sns.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: &w.topic, Protocol: aws.String("sqs"),
			Endpoint: aws.String("arn:aws:sqs:" + awsfake.Region + ":" + account + ":npcnix-dev-web-" + account)})
		w.must(err)
	}
	find := func() (*Queues, []string, error) {
		var warned []string
		q, err := FindQueues(t.Context(), w.sns, strangers{w.sqs}, w.topic, func(msg string) { warned = append(warned, msg) })
		return q, warned, err
	}
	subscribe("444444444444")
	subscribe("333333333333")
	const want = "2 belong to other accounts (333333333333, 444444444444)"
	if _, warned, err := find(); !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "by records") || len(warned) > 0 {
		t.Errorf("with none else: %v, warned %q", err, warned)
	}
	w.queue("web1", "web1")
	subscribe("555555555555")
	q, warned, err := find()
	w.must(err)
	if !slices.Equal(q.Hosts(), []string{"web1", "web5"}) || len(warned) != 1 || !strings.Contains(warned[0], want) || !strings.Contains(warned[0], "--host") {
		t.Errorf("hosts %q, warned %q", q.Hosts(), warned)
	}
}

func queueTopic(t *testing.T) {
	cloud := startCloud(t)
	w := newTopic(t, cloud.URL())
	w.queue("web1", "web1")
	w.topic += "-other"
	if _, _, err := w.find(); err == nil || !strings.Contains(err.Error(), "no such topic") || !permanent(err) {
		t.Error(err)
	}
	w.topic = strings.TrimSuffix(w.topic, "-other")
	cloud.Fault(awsfake.Call{Service: "sqs", Action: "ListQueueTags"}, awsfake.Effect{Status: 403, Code: "AccessDeniedException"})
	if _, _, err := w.find(); err == nil || !strings.Contains(err.Error(), "lack sqs:GetQueueUrl and sqs:ListQueueTags") || !permanent(err) {
		t.Error(err)
	}
}

func queueSilence(t *testing.T) {
	cloud := startCloud(t)
	w := newTopic(t, cloud.URL())
	w.queue("web1", "web1")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": cloud.URL(), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": awsfake.Region,
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	q, err := openQueues(t.Context(), w.topic, requestLimit, nil)
	if err != nil || !slices.Equal(q.Hosts(), []string{"web1"}) {
		t.Fatal(q, err)
	}
	for _, action := range []string{"ListSubscriptionsByTopic", "GetQueueUrl", "ListQueueTags"} {
		fault := cloud.Fault(awsfake.Call{Action: action}, awsfake.Effect{Hang: true})
		ended := make(chan error, 1)
		go func() {
			_, err := openQueues(t.Context(), w.topic, 50*time.Millisecond, nil)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil || permanent(err) {
				t.Errorf("%s: %v", action, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it does not end", action)
		}
		fault.Remove()
	}
}

func queueOnAWSFake(t *testing.T) {
	cloud := startCloud(t)
	w := newTopic(t, cloud.URL())
	w.queue("web1", "web1")
	q, _, err := w.find()
	w.must(err)
	// A counter that lags shows zero; and the event is not there yet either.
	wait := func(timeout time.Duration, from Origin, meanwhile func()) Result {
		t.Helper()
		s := newStore("v1")
		gate, err := Prepare(t.Context(), Options{Store: s, Hosts: q.Hosts(), Queues: q, ByQueue: true, EmptyFor: 50 * time.Millisecond, Interval: 5 * time.Millisecond, Timeout: timeout})
		w.must(err)
		meanwhile()
		r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, from)
		w.must(err)
		return r
	}
	send := func() {
		_, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &w.topic, Message: aws.String("event")})
		w.must(err)
	}
	if r := wait(300*time.Millisecond, Published, func() {}); r.Outcome != TimedOut || r.Hosts[0].State != "waiting" {
		t.Errorf("without an event: %s, %+v", r.Outcome, r.Hosts[0])
	}
	// drain plays the host: it holds the event for some looks of the gate, then deletes it.
	drain := func() {
		out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(w.urls["web1"]), WaitTimeSeconds: 10})
		if err != nil || len(out.Messages) != 1 {
			t.Errorf("receive: %v, %v", out, err)
			return
		}
		looks, held := 0, false
		_, err = cloud.Await(t.Context(), func(e awsfake.Entry) bool {
			held = held || e.What == awsfake.Received && e.MessageID == *out.Messages[0].MessageId
			if held && e.What == awsfake.Answered && e.Action == "GetQueueAttributes" {
				looks++
			}
			return looks > 6
		})
		if err == nil {
			_, err = w.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(w.urls["web1"]), ReceiptHandle: out.Messages[0].ReceiptHandle})
		}
		if err != nil {
			t.Errorf("drain: %v", err)
		}
	}
	for _, from := range []Origin{Published, Held} {
		if r := wait(time.Minute, from, func() { send(); go drain() }); r.Outcome != Passed || r.Hosts[0].State != "drained" {
			t.Errorf("origin %v: %s, %+v", from, r.Outcome, r.Hosts[0])
		}
	}
	if r := wait(time.Minute, Published, func() {
		send()
		_, err := w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(w.dead["web1"]), MessageBody: aws.String("event")})
		w.must(err)
	}); r.Outcome != HostsFailed || r.Hosts[0].State != "dead-letter" {
		t.Errorf("with a dead letter: %s, %+v", r.Outcome, r.Hosts[0])
	}
	if _, err := Prepare(context.Background(), Options{Store: newStore("v1"), Hosts: []string{"web9"}, Queues: q, ByQueue: true}); err == nil || !strings.Contains(err.Error(), "no queue of web9") {
		t.Error(err)
	}
}
