package events

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/logging"
)

// server speaks as much of SQS's JSON protocol as a Queue uses, with a test's own answers.
type server struct {
	*httptest.Server
	conns atomic.Int32

	mu     sync.Mutex
	calls  []call
	answer func(call) any // an apiError, or what is sent as JSON; nil hangs until the client goes
}

type call struct {
	op     string
	proto  string
	from   string // the connection it came on
	header http.Header
	body   map[string]any
}

type apiError struct {
	status     int
	code, text string
}

func (s *server) trace() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	c := call{op: strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS."), proto: r.Proto, from: r.RemoteAddr, header: r.Header}
	if err := errors.Join(err, json.Unmarshal(raw, &c.body)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	answer := s.answer(c)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if answer == nil {
		<-r.Context().Done()
		return
	}
	if e, ok := answer.(apiError); ok {
		w.WriteHeader(e.status)
		answer = map[string]string{"__type": "com.amazonaws.sqs#" + e.code, "message": e.text}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// newServer starts a server and clears the SDK's surroundings, so that a test meets nothing
// of the machine's.
func newServer(t *testing.T, answer func(call) any) *server {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_SQS": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_MAX_ATTEMPTS": "1", "AWS_CA_BUNDLE": "", "HTTP_PROXY": "", "http_proxy": "",
	} {
		t.Setenv(name, value)
	}
	s := &server{answer: answer}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// open opens the queue of a server, with a change of the options.
func (s *server) open(t *testing.T, change func(*QueueOptions)) *Queue {
	t.Helper()
	o := QueueOptions{URL: s.URL + "/123456789012/web1", pace: time.Nanosecond}
	if change != nil {
		change(&o)
	}
	q, err := OpenQueue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// messages makes n messages as ReceiveMessage gives them, numbered from first.
func messages(first, n int) map[string]any {
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{
			"MessageId": fmt.Sprintf("id-%d", first+i), "ReceiptHandle": fmt.Sprintf("receipt-%d", first+i),
			"Body":       `{"Service":"Amazon S3","Event":"s3:TestEvent"}`,
			"Attributes": map[string]string{"ApproximateReceiveCount": "3"},
		}
	}
	return map[string]any{"Messages": list}
}

func TestReceive(t *testing.T) {
	t.Run("makes a long poll with the lease", longPoll)
	t.Run("gathers a burst", gatheredBurst)
	t.Run("outlives a hung connection", hungConnection)
	t.Run("returns the error of its context", cancelledReceiveError)
	t.Run("keeps time", keepsTime)
	t.Run("does not hide that a poll broke", brokenPoll)
}

func longPoll(t *testing.T) {
	s := newServer(t, func(call) any {
		answer := messages(1, 2)
		answer["Messages"].([]map[string]any)[0]["Body"] = string(read(t, "testdata/s3-put.json"))
		answer["Messages"].([]map[string]any)[1]["Body"] = "look now"
		return answer
	})
	before := time.Now()
	q := s.open(t, func(o *QueueOptions) { o.Region = "eu-west-1"; o.Lease = 90*time.Second + time.Millisecond })
	ds, err := q.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if calls := s.trace(); len(calls) != 1 {
		t.Fatalf("%d requests, want 1: a batch that is not full ends the receive", len(calls))
	}
	c := s.trace()[0]
	want := map[string]any{
		"QueueUrl": s.URL + "/123456789012/web1", "MaxNumberOfMessages": 10.0, "WaitTimeSeconds": 20.0, "VisibilityTimeout": 91.0,
		"MessageSystemAttributeNames": []any{"ApproximateReceiveCount"},
	}
	if c.op != "ReceiveMessage" || !reflect.DeepEqual(c.body, want) {
		t.Errorf("request is %s %v, want ReceiveMessage %v", c.op, c.body, want)
	}
	if got := c.header.Get("Content-Type"); got != "application/x-amz-json-1.0" {
		t.Errorf("content type is %q", got)
	}
	if got := c.header.Get("Authorization"); !strings.Contains(got, "/eu-west-1/sqs/aws4_request") {
		t.Errorf("authorization is %q, want it signed for SQS in eu-west-1", got)
	}

	for i := range ds {
		if held := ds[i].Held(time.Now()); held < 0 || held > time.Since(before) {
			t.Errorf("delivery %d says it is held for %s", i, held)
		}
		ds[i].Received = time.Time{}
	}
	if len(ds) != 2 || !errors.Is(ds[1].Err, ErrMalformed) {
		t.Fatalf("deliveries are %+v, want two, the second with ErrMalformed", ds)
	}
	if want := (Delivery{ID: "id-1", Notices: []Notice{put}, Receives: 3, receipt: "receipt-1"}); !reflect.DeepEqual(ds[0], want) {
		t.Errorf("delivery is\n%#v, want\n%#v", ds[0], want)
	}
}

func TestWarningsOfTheSDKGoToTheCaller(t *testing.T) {
	s := newServer(t, func(call) any { return messages(0, 0) })
	var warned []string
	for _, warn := range []func(string){nil, func(message string) { warned = append(warned, message) }} {
		q := s.open(t, func(o *QueueOptions) { o.Warn = warn })
		q.sqs.(*sqs.Client).Options().Logger.Logf(logging.Warn, "the clock is off by %d s", 7)
		q.sqs.(*sqs.Client).Options().Logger.Logf(logging.Warn, "the clock is off by %d s", 8) // not again
	}
	if len(warned) != 1 || warned[0] != "aws sdk: the clock is off by 7 s" {
		t.Errorf("warned %q", warned)
	}
}

func brokenPoll(t *testing.T) {
	s := newServer(t, func(call) any { return apiError{http.StatusInternalServerError, "InternalError", "try again"} })
	t.Setenv("AWS_MAX_ATTEMPTS", "3")
	if _, err := s.open(t, nil).Receive(t.Context()); err == nil {
		t.Error("no error")
	}
	if n := len(s.trace()); n != 1 {
		t.Errorf("%d requests, want 1: the caller must know of each", n)
	}
}

func gatheredBurst(t *testing.T) {
	down := apiError{http.StatusBadRequest, "QueueDoesNotExist", "The specified queue does not exist."}
	tests := []struct {
		name    string
		answers []any // of the polls, in order; the last one is repeated
		want    int
		polls   int
	}{
		{"nothing there", []any{messages(0, 0)}, 0, 1},
		{"a batch that is not full", []any{messages(0, 9)}, 9, 1},
		{"two full batches and a rest", []any{messages(0, 10), messages(10, 10), messages(20, 3)}, 23, 3},
		{"full batches and then none", []any{messages(0, 10), messages(0, 0)}, 10, 2},
		{"full batches without end", []any{messages(0, 10)}, 1000, 100},
		{"an error after some were received", []any{messages(0, 10), messages(10, 10), down}, 20, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s *server
			s = newServer(t, func(call) any { return test.answers[min(len(s.calls), len(test.answers))-1] })
			ds, err := s.open(t, nil).Receive(t.Context())
			if err != nil || len(ds) != test.want {
				t.Fatalf("got %d deliveries and error %v, want %d", len(ds), err, test.want)
			}
			calls := s.trace()
			if len(calls) != test.polls {
				t.Errorf("%d polls, want %d", len(calls), test.polls)
			}
			for i, c := range calls {
				if want := map[bool]float64{true: 20, false: 1}[i == 0]; c.body["WaitTimeSeconds"] != want {
					t.Errorf("poll %d waits %v s, want %v", i, c.body["WaitTimeSeconds"], want)
				}
				if c.body["VisibilityTimeout"] != 120.0 {
					t.Errorf("poll %d leases for %v s, want 120", i, c.body["VisibilityTimeout"])
				}
			}
		})
	}
}

func TestRequests(t *testing.T) {
	t.Run("share a connection", oneConnection)
	t.Run("keep to HTTP/1.1", onlyHTTP1)
	t.Run("fail with a hint at what to do", hints)
}

func oneConnection(t *testing.T) {
	// The SDK drops the connection when it is answered before it has seen that its body was
	// read to the end, which only a server on the same machine can manage; this one waits.
	wrote := make(chan struct{})
	s := newServer(t, func(call) any { <-wrote; return messages(0, 0) })
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { wrote <- struct{}{} },
	})
	q := s.open(t, nil)
	for range 20 {
		if _, err := q.Receive(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("20 polls made %d connections, want 1", n)
	}
}

func onlyHTTP1(t *testing.T) {
	s := newServer(t, func(call) any { return messages(0, 0) })
	tls := httptest.NewUnstartedServer(s)
	tls.EnableHTTP2 = true
	tls.StartTLS()
	defer tls.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600))
	t.Setenv("AWS_CA_BUNDLE", ca)

	if _, err := s.open(t, func(o *QueueOptions) { o.URL = tls.URL + "/123456789012/web1" }).Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.trace()[0].proto; got != "HTTP/1.1" {
		t.Errorf("a server that offers HTTP/2 was spoken to in %s, where a dead connection is used again", got)
	}
}

func hungConnection(t *testing.T) {
	t.Run("the next poll takes a new connection and succeeds", func(t *testing.T) {
		var s *server
		s = newServer(t, func(call) any {
			if len(s.calls) == 1 {
				return nil
			}
			return messages(0, 1)
		})
		q := s.open(t, func(o *QueueOptions) { o.attempt = 500 * time.Millisecond })
		var ds []Delivery
		for range 10 { // two are enough, unless the machine is busy
			if ds, _ = q.Receive(t.Context()); len(ds) == 1 {
				break
			}
		}
		calls := s.trace()
		if hung := calls[0].from; len(ds) != 1 || len(calls) < 2 || calls[len(calls)-1].from == hung {
			t.Errorf("%d polls, the last one from %s: the hung connection must not be used again", len(calls), hung)
		}
	})
	t.Run("when all hang, an error comes in bounded time", func(t *testing.T) {
		s := newServer(t, func(call) any { return nil })
		q := s.open(t, func(o *QueueOptions) { o.attempt = 100 * time.Millisecond })
		if _, err := q.Receive(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "receive from queue: ") {
			t.Errorf("error is %v, want that of an attempt that timed out", err)
		}
	})
}

func cancelledReceiveError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, func(call) any { cancel(); return nil })
	_, err := s.open(t, nil).Receive(ctx)
	if want := "receive from queue: context canceled"; !errors.Is(err, context.Canceled) || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	if n := len(s.trace()); n != 1 {
		t.Errorf("%d requests, want 1: no attempt follows a cancelled one", n)
	}
}

func hints(t *testing.T) {
	tests := []struct {
		code string
		want string
	}{
		{"QueueDoesNotExist", "the queue was deleted, or its URL or region is wrong"},
		{"AWS.SimpleQueueService.NonExistentQueue", "the queue was deleted, or its URL or region is wrong"},
		{"AccessDenied", "sqs:ReceiveMessage"},
		{"AccessDeniedException", "sqs:ReceiveMessage"},
		{"KmsAccessDenied", "kms:Decrypt"},
		{"KMS.DisabledException", "kms:Decrypt"},
		{"ExpiredToken", "credentials have expired"},
		{"InvalidClientTokenId", "does not know these credentials"},
		{"SignatureDoesNotMatch", "secret key is wrong"},
		{"InvalidParameterValue", "InvalidParameterValue: no can do"},
	}
	for _, test := range tests {
		t.Run(test.code, func(t *testing.T) {
			s := newServer(t, func(call) any { return apiError{http.StatusBadRequest, test.code, "no can do"} })
			q := s.open(t, nil)
			_, receive := q.Receive(t.Context())
			ds := []Delivery{{receipt: "receipt-1", Received: time.Now()}}
			for op, err := range map[string]error{
				"receive from queue":   receive,
				"extend leases":        q.Extend(t.Context(), ds, time.Minute),
				"acknowledge messages": q.Ack(t.Context(), ds),
			} {
				if err == nil || !strings.HasPrefix(err.Error(), op+": ") || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error is %v, want it to begin with %q and to say %q", err, op, test.want)
				}
			}
		})
	}
	t.Run("no credentials", func(t *testing.T) {
		s := newServer(t, nil)
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		_, err := s.open(t, nil).Receive(t.Context())
		if err == nil || !strings.Contains(err.Error(), "on EC2 attach a role to the instance") {
			t.Errorf("error is %v, want a hint at credentials", err)
		}
	})
}
