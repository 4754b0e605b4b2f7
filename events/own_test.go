package events

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
)

func TestOwnQueueName(t *testing.T) {
	const topic = "arn:aws:sns:eu-central-1:111122223333:npcnix-dev"
	seen := map[string]string{}
	for _, c := range []struct{ topic, remote, host, want string }{
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic + "2", "s3://fleet/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic, "s3://other/npcnix/remotes/dev.npcnix", "web1", "npcnix-dev-web1-"},
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web.1", "npcnix-dev-web-1-"},
		{topic, "s3://fleet/npcnix/remotes/dev.npcnix", "web-1", "npcnix-dev-web-1-"},
		{topic, "s3://fleet/" + strings.Repeat("long.", 20) + "npcnix", strings.Repeat("host.", 40), "npcnix-long-long-"},
	} {
		name := OwnQueueName(c.topic, c.remote, c.host)
		if !strings.HasPrefix(name, c.want) || !regexp.MustCompile(`^[A-Za-z0-9_-]{1,75}$`).MatchString(name) { // 80, and "-dead"
			t.Errorf("%s of %s: %q", c.host, c.remote, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s have one name: %s", c.host, other, name)
		}
		seen[name] = c.host
	}
}

func TestCheckTopic(t *testing.T) {
	for arn, right := range map[string]bool{
		"arn:aws:sns:eu-central-1:111122223333:npcnix-dev": true, "arn:aws-cn:sns:cn-north-1:111122223333:t": true,
		"": false, "npcnix-dev": false, "arn:aws:sqs:eu-central-1:111122223333:queue": false, "arn:aws:sns::111122223333:t": false, "arn:aws:sns:eu-central-1:111122223333:": false,
	} {
		if err := CheckTopic(arn); (err == nil) != right {
			t.Errorf("%q: %v", arn, err)
		}
	}
}

// TestTwoStartsAtOnceMakeOneQueue has two agents of one host make its queue at the same moment.
func TestTwoStartsAtOnceMakeOneQueue(t *testing.T) {
	t.Run("on moto", func(t *testing.T) { twoStarts(t, moto.Start(t)) })
	t.Run("on awsfake", func(t *testing.T) {
		cloud, err := awsfake.Start("")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cloud.Close)
		twoStarts(t, cloud.URL())
	})
}

func twoStarts(t *testing.T, endpoint string) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": inStep(t, endpoint), "AWS_ENDPOINT_URL_SQS": "", "AWS_ENDPOINT_URL_SNS": "", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_CA_BUNDLE": "", "HTTP_PROXY": "", "http_proxy": "",
	} {
		t.Setenv(name, value)
	}
	ctx, cfg := t.Context(), awsfake.Config(endpoint)
	topics, queues := sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("npcnix-dev")})
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	made, starts := make(chan string, 4), make([]*OwnQueue, 2)
	for i := range starts {
		starts[i], err = OpenOwnQueue(ctx, OwnQueueOptions{
			Topic: *topic.TopicArn, Remote: "s3://fleet/dev.npcnix", Host: "web1", Made: func(url string) { made <- url },
		})
		if err != nil {
			t.Fatal(err)
		}
		both.Go(func() {
			if ds, err := starts[i].Receive(ctx); err != nil || len(ds) != 1 {
				t.Errorf("start %d: %d deliveries, %v", i, len(ds), err)
			}
		})
	}
	both.Wait()
	close(made)
	for url := range made {
		if want, err := starts[0].URL(ctx); err != nil || url != want {
			t.Errorf("one made %s, and the queue is %s, %v", url, want, err)
		}
	}
	there := func(want int) {
		t.Helper()
		q, err := queues.ListQueues(ctx, &sqs.ListQueuesInput{})
		if err != nil || len(q.QueueUrls) != 2*want { // with its dead-letter queue
			t.Errorf("there are %d queues, %v", len(q.QueueUrls), err)
		}
		s, err := topics.ListSubscriptionsByTopic(ctx, &sns.ListSubscriptionsByTopicInput{TopicArn: topic.TopicArn})
		if err != nil || len(s.Subscriptions) != want {
			t.Errorf("there are %d subscriptions, %v", len(s.Subscriptions), err)
		}
	}
	there(1)
	if err := starts[1].Leave(ctx); err != nil {
		t.Error(err)
	}
	there(0)
}

// inStep is an AWS that looks for a queue, makes one and subscribes one only for two callers at the same time, until
// both have subscribed.
func inStep(t *testing.T, endpoint string) string {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	var mu sync.Mutex
	waiting, free := map[string]chan struct{}{}, false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := r.Header.Get("X-Amz-Target") // SNS has none
		mu.Lock()
		first := waiting[action]
		switch {
		case free || action != "" && action != "AmazonSQS.GetQueueUrl" && action != "AmazonSQS.CreateQueue":
			mu.Unlock()
		case first == nil:
			first = make(chan struct{})
			waiting[action] = first
			mu.Unlock()
			select {
			case <-first:
			case <-r.Context().Done():
			}
		default:
			delete(waiting, action)
			free = action == ""
			mu.Unlock()
			close(first)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
