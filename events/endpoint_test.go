package events

import (
	"strings"
	"testing"
	"time"
)

func TestParseQueueURL(t *testing.T) {
	tests := []struct {
		url  string
		want endpoint
		err  string
	}{
		{url: "https://sqs.eu-west-1.amazonaws.com/123456789012/npcnix-web1", want: endpoint{region: "eu-west-1"}},
		{url: "https://sqs.us-gov-west-1.amazonaws.com/123456789012/q", want: endpoint{region: "us-gov-west-1"}},
		{url: "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", want: endpoint{region: "cn-north-1"}},
		{url: "https://eu-west-1.queue.amazonaws.com/123456789012/q", want: endpoint{region: "eu-west-1"}},
		{url: "https://queue.amazonaws.com/123456789012/q", want: endpoint{region: "us-east-1"}},
		{url: "https://vpce-0a1b2c-3d4e.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
			want: endpoint{region: "eu-west-1", base: "https://vpce-0a1b2c-3d4e.sqs.eu-west-1.vpce.amazonaws.com"}},
		{url: "https://sqs-fips.us-east-1.amazonaws.com/123456789012/q", want: endpoint{region: "us-east-1", base: "https://sqs-fips.us-east-1.amazonaws.com"}},
		{url: "https://sqs.us-east-1.api.aws/123456789012/q", want: endpoint{region: "us-east-1", base: "https://sqs.us-east-1.api.aws"}},
		{url: "https://sqs.eusc-de-east-1.amazonaws.eu/123456789012/q", want: endpoint{region: "eusc-de-east-1", base: "https://sqs.eusc-de-east-1.amazonaws.eu"}},
		{url: "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q",
			want: endpoint{region: "us-east-1", base: "http://sqs.us-east-1.localhost.localstack.cloud:4566"}},
		{url: "http://127.0.0.1:5000/123456789012/q", want: endpoint{base: "http://127.0.0.1:5000"}},
		{url: "http://[::1]:9324/queue/q", want: endpoint{base: "http://[::1]:9324"}},
		{url: "https://queues.example.org/q", want: endpoint{base: "https://queues.example.org"}},

		{url: "", err: "is empty: want https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"},
		{url: "npcnix-web1", err: "not an http(s) URL"},
		{url: "sqs.eu-west-1.amazonaws.com/123456789012/q", err: "not an http(s) URL"},
		{url: "ftp://sqs.eu-west-1.amazonaws.com/123456789012/q", err: "not an http(s) URL"},
		{url: "https:///123456789012/q", err: "not an http(s) URL"},
		{url: "https://exa mple/q", err: "want https://sqs.REGION"},
		{url: "arn:aws:sqs:eu-west-1:123456789012:q", err: "is an ARN: want https://sqs.eu-west-1.amazonaws.com/123456789012/q"},
		{url: "https://sqs.eu-west-1.amazonaws.com/123456789012/q?Action=Receive", err: "more than host and path"},
		{url: "https://me:hush@queues.example.org/q", err: "more than host and path"},
		{url: "https://queues.example.org/", err: "does not end in a queue's name"},
		{url: "https://sqs.eu-west-1.amazonaws.com/npcnix-web1", err: "account's 12 digits"},
		{url: "https://queue.amazonaws.com/123456789012/q/r", err: "account's 12 digits"},
		{url: "https://sqs.eu-west-1.amazonaws.com/123456789012/q.fifo", err: "FIFO"},
		{url: "http://127.0.0.1:5000/123456789012/q.fifo", err: "FIFO"},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			got, err := parseQueueURL(test.url)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error is %v, want %q", err, test.err)
			}
			if check := CheckQueueURL(test.url); (check == nil) != (err == nil) {
				t.Errorf("CheckQueueURL says %v, which differs", check)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("error %q shows a password", err)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestOpenQueue(t *testing.T) {
	t.Run("refuses options that cannot work", impossibleOptions)
	t.Run("sends requests to the right endpoint and region", endpointAndRegion)
}

func impossibleOptions(t *testing.T) {
	good := QueueOptions{URL: "https://sqs.eu-west-1.amazonaws.com/123456789012/q"}
	for name, test := range map[string]struct {
		change func(*QueueOptions)
		want   string
	}{
		"no URL":                      {func(o *QueueOptions) { o.URL = "" }, "queue URL is empty"},
		"another region than AWS's":   {func(o *QueueOptions) { o.Region = "us-east-1" }, "is in region eu-west-1, not us-east-1"},
		"a lease of more than 12 h":   {func(o *QueueOptions) { o.Lease = 12*time.Hour + 1 }, "lease"},
		"a lease of less than none":   {func(o *QueueOptions) { o.Lease = -1 }, "lease"},
		"a wait of more than 20 s":    {func(o *QueueOptions) { o.Wait = 20*time.Second + 1 }, "wait"},
		"a wait of less than no time": {func(o *QueueOptions) { o.Wait = -1 }, "wait"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			test.change(&o)
			if q, err := OpenQueue(t.Context(), o); q != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("queue %v and error %v, want %q", q, err, test.want)
			}
		})
	}
}

func endpointAndRegion(t *testing.T) {
	const atAWS = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
	tests := []struct {
		name   string
		env    string // a variable that names the server
		url    string // empty: under the server
		region string // of the environment
		want   string
	}{
		{"the URL's host, where nothing names a region", "", "", "", "us-east-1"},
		{"the URL's host, where the environment names a region", "", "", "eu-north-1", "eu-north-1"},
		{"AWS_ENDPOINT_URL_SQS goes before AWS's host", "AWS_ENDPOINT_URL_SQS", atAWS, "", "eu-west-1"},
		{"AWS_ENDPOINT_URL goes before AWS's host, the URL's region before the environment's", "AWS_ENDPOINT_URL", atAWS, "eu-north-1", "eu-west-1"},
		{"AWS_ENDPOINT_URL_SQS goes before any other host", "AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1/queue/q", "", "us-east-1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, func(call) any { return messages(0, 0) })
			t.Setenv("AWS_REGION", test.region)
			if test.env != "" {
				t.Setenv(test.env, s.URL)
			}
			q := s.open(t, func(o *QueueOptions) {
				if test.url != "" {
					o.URL = test.url
				}
			})
			if _, err := q.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			calls := s.trace()
			if len(calls) != 1 || calls[0].body["QueueUrl"] != q.options.URL {
				t.Fatalf("requests are %+v, want one for %s", calls, q.options.URL)
			}
			if got := calls[0].header.Get("Authorization"); !strings.Contains(got, "/"+test.want+"/sqs/") {
				t.Errorf("signed as %q, want region %s", got, test.want)
			}
		})
	}
}
