package awsfake_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/npcnix/npcnix/integration/awsfake"
)

func TestPolls(t *testing.T) {
	t.Run("are woken by one publish by the thousand", thousandsOfPolls)
	t.Run("are forgotten when their client goes away", forgottenPoll)
	t.Run("end with an error when their queue is deleted", pollOfADeletedQueue)
}

// It speaks HTTP itself, so that the goroutines it counts are the cloud's alone.
func thousandsOfPolls(t *testing.T) {
	const hosts = 2000
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	topic := w.topic(t)
	var queues []string
	for i := range hosts {
		queue := fmt.Sprintf("host-%d", i)
		created, body := ask(t, cloud, "POST", "/", fmt.Sprintf(`{"QueueName":%q}`, queue), "X-Amz-Target: AmazonSQS.CreateQueue")
		subscribed, body2 := ask(t, cloud, "POST", "/", url.Values{
			"Action": {"Subscribe"}, "Version": {"2010-03-31"}, "TopicArn": {topic}, "Protocol": {"sqs"},
			"Endpoint":                 {"arn:aws:sqs:us-east-1:123456789012:" + queue},
			"Attributes.entry.1.key":   {"RawMessageDelivery"},
			"Attributes.entry.1.value": {"true"},
		}.Encode(), "Content-Type: application/x-www-form-urlencoded")
		if created.StatusCode != 200 || subscribed.StatusCode != 200 {
			t.Fatalf("create answers %s, subscribe %s", body, body2)
		}
		queues = append(queues, queue)
	}
	http.DefaultClient.CloseIdleConnections()

	before := runtime.NumGoroutine()
	polls := parkAll(t, cloud, queues)
	requests := cloud.Requests("sqs", "ReceiveMessage")
	// One that serves the poll, and one in which net/http waits for the client to go away.
	if each := float64(runtime.NumGoroutine()-before) / hosts; each > 2.1 {
		t.Errorf("a parked poll costs %.1f goroutines, want 2 at most", each)
	}

	begin := time.Now()
	if _, err := w.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Message: aws.String("hello")}); err != nil {
		t.Fatalf("publish: %v", err)
	}
	for i, conn := range polls {
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("poll %d: %v", i, err)
		}
		var out struct{ Messages []struct{ Body string } }
		if err := json.NewDecoder(response.Body).Decode(&out); err != nil || len(out.Messages) != 1 || out.Messages[0].Body != "hello" {
			t.Fatalf("poll %d answers %v, %v", i, out, err)
		}
	}
	t.Logf("%d polls were answered %v after the publish", hosts, time.Since(begin))
	if n := cloud.Requests("sqs", "ReceiveMessage"); n != requests {
		t.Errorf("%d requests more were needed", n-requests)
	}
}

// parkAll returns long polls of all queues that wait at the cloud, each for a while yet: on a machine so
// busy that the first ones end before the last one has come, it begins again.
func parkAll(t *testing.T, cloud *awsfake.Cloud, queues []string) []net.Conn {
	t.Helper()
	for {
		begun, before := time.Now(), len(cloud.Trace())
		polls := make([]net.Conn, len(queues))
		for i, queue := range queues {
			polls[i] = longPoll(t, cloud, queue)
		}
		seen, parked := 0, 0
		if _, err := cloud.Await(t.Context(), func(e awsfake.Entry) bool {
			if seen++; seen > before && e.What == awsfake.Parked {
				parked++
			}
			return parked == len(queues)
		}); err != nil {
			t.Fatal(err)
		}
		if time.Since(begun) < pollSecs/2*time.Second {
			return polls
		}
		for _, poll := range polls {
			_ = poll.Close()
		}
		answered := 0
		if _, err := cloud.Await(t.Context(), func(e awsfake.Entry) bool {
			if e.What == awsfake.Answered && e.Action == "ReceiveMessage" {
				answered++
			}
			return answered == cloud.Requests("sqs", "ReceiveMessage")
		}); err != nil {
			t.Fatal(err)
		}
	}
}

const pollSecs = 20 // as long as SQS lets a poll wait

// longPoll sends a ReceiveMessage and does not wait for its answer.
func longPoll(t *testing.T, cloud *awsfake.Cloud, queue string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(cloud.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	body := fmt.Sprintf(`{"QueueUrl":%q,"WaitTimeSeconds":%d}`, queue, pollSecs)
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\n"+
		"Content-Type: application/x-amz-json-1.0\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func forgottenPoll(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	conn := longPoll(t, cloud, queue)
	is := func(what awsfake.What) func(awsfake.Entry) bool {
		return func(e awsfake.Entry) bool {
			return e.What == what && e.Action+e.Queue != "" && e.Action != "CreateQueue"
		}
	}
	if _, err := cloud.Await(t.Context(), is(awsfake.Parked)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cloud.Await(t.Context(), is(awsfake.Answered)); err != nil {
		t.Fatal(err)
	}
	w.send(t, queue, "hello")
	if visible, inFlight, _ := cloud.Depth(queue); visible != 1 || inFlight != 0 {
		t.Errorf("%d visible, %d in flight", visible, inFlight)
	}
}

func pollOfADeletedQueue(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	queue, _ := w.queue(t, nil)
	conn := longPoll(t, cloud, queue)
	if _, err := cloud.Await(t.Context(), func(e awsfake.Entry) bool { return e.What == awsfake.Parked }); err != nil {
		t.Fatal(err)
	}
	w.deleteQueue(t, queue)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("X-Amzn-Query-Error"); got != "AWS.SimpleQueueService.NonExistentQueue;Sender" || response.StatusCode != 400 {
		t.Errorf("the poll ends with %s, %s", response.Status, got)
	}
}
