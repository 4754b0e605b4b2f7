package doctor_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/integration/awsfake"
)

// Each row forbids one call; the links that needed it are unknown, and no link is wrong.
func TestUnknown(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	for i, row := range []struct {
		service, action string
		unknown         []string
		fix             string // of the first
	}{
		{"s3", "HeadObject", []string{"remote"}, "s3:GetObject"},
		{"s3", "GetBucketNotificationConfiguration", []string{"notification", "topic", "subscription", "queue", "probe"}, "s3:GetBucketNotification"},
		{"sns", "GetTopicAttributes", []string{"topic"}, "sns:GetTopicAttributes"},
		{"sns", "ListSubscriptionsByTopic", []string{"subscription"}, "sns:ListSubscriptionsByTopic"},
		{"sns", "GetSubscriptionAttributes", []string{"subscription"}, "sns:GetSubscriptionAttributes"},
		{"sqs", "GetQueueAttributes", []string{"queue", "dead letters", "subscription"}, "sqs:GetQueueAttributes"},
		{"sqs", "GetQueueUrl", []string{"dead letters"}, "sqs:GetQueueUrl"},
		{"sts", "GetCallerIdentity", []string{"credentials", "topic"}, ""},
		{"sqs", "CreateQueue", []string{"probe"}, "sqs:CreateQueue"},
		{"sns", "Subscribe", []string{"probe"}, "sns:Subscribe"},
		{"s3", "PutObject", []string{"probe"}, "s3:DeleteObjectVersion"},
	} {
		t.Run(row.action, func(t *testing.T) {
			w := newWorld(t, cloud.URL(), fmt.Sprint("forbidden", i))
			fault := cloud.Fault(awsfake.Call{Service: row.service, Action: row.action}, awsfake.Effect{Status: 403, Code: "AccessDenied"})
			defer fault.Remove()
			if row.action == "HeadObject" { // one permission is for both
				get := cloud.Fault(awsfake.Call{Service: row.service, Action: "GetObject"}, awsfake.Effect{Status: 403, Code: "AccessDenied"})
				defer get.Remove()
			}
			o := w.options()
			o.Probe = true
			found := examine(t, o)
			for _, link := range append(chainLinks, "probe") {
				want := doctor.OK
				for _, u := range row.unknown {
					if u == link {
						want = doctor.Unknown
					}
				}
				if f := found[link]; f.Verdict != want {
					t.Errorf("%+v, want it %s", f, want)
				}
			}
			if f := found[row.unknown[0]]; !strings.Contains(f.Fix, row.fix) {
				t.Errorf("fix %q does not name %s", f.Fix, row.fix)
			}
			fault.Remove()
			w.leaves(1)
		})
	}
	t.Run("if the topic is given, its links are checked without the notification", func(t *testing.T) {
		w := newWorld(t, cloud.URL(), "named")
		fault := cloud.Fault(awsfake.Call{Action: "GetBucketNotificationConfiguration"}, awsfake.Effect{Status: 403, Code: "AccessDenied"})
		defer fault.Remove()
		o := w.options()
		o.TopicARN = w.topic
		found := examine(t, o)
		for _, link := range []string{"topic", "subscription", "queue"} {
			if f := found[link]; f.Verdict != doctor.OK {
				t.Errorf("%+v", f)
			}
		}
	})
}

func TestProbe(t *testing.T) {
	t.Run("one whose answers are lost leaves nothing", testLostAnswers)
	t.Run("one that cannot look says what it might have left", testLeftovers)
}

// Each row loses the answer to one call of the probe's, which was carried out all the same.
func testLostAnswers(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	for i, action := range []string{"CreateQueue", "Subscribe", "PutObject"} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t, cloud.URL(), fmt.Sprint("lost", i))
			fault := cloud.Fault(awsfake.Call{Action: action}, awsfake.Effect{Truncate: true})
			defer fault.Remove()
			o := w.options()
			o.Probe = true
			if f := examine(t, o)["probe"]; f.Verdict != doctor.Unknown || strings.Contains(f.Found, "could be removed") {
				t.Errorf("%+v", f)
			}
			fault.Remove()
			w.leaves(1)
		})
	}
}

func testLeftovers(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	w := newWorld(t, cloud.URL(), "left")
	lost := cloud.Fault(awsfake.Call{Action: "CreateQueue"}, awsfake.Effect{Truncate: true})
	defer lost.Remove()
	o := w.options()
	o.Probe = true
	o.QueueURL = "" // whose dead letters need the same call
	forbidden := cloud.Fault(awsfake.Call{Action: "GetQueueUrl"}, awsfake.Effect{Status: 403, Code: "AccessDenied"})
	defer forbidden.Remove()
	if f := examine(t, o)["probe"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Found, "not everything could be removed: npcnix-probe-") || !strings.Contains(f.Fix, "sqs:GetQueueUrl") {
		t.Errorf("%+v", f)
	}
}

// Credentials that AWS does not accept are named, and nothing else is asked.
func TestCredentials(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	w := newWorld(t, cloud.URL(), "credentials")
	for code, said := range map[string]string{"ExpiredToken": "they have expired", "InvalidClientTokenId": "AWS does not accept them"} {
		fault := cloud.Fault(awsfake.Call{Service: "sts"}, awsfake.Effect{Status: 403, Code: code})
		found := examine(t, w.options())
		fault.Remove()
		if f := found["credentials"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Found, said) {
			t.Errorf("%s: %+v", code, f)
		}
		for _, link := range chainLinks[2:] {
			if f := found[link]; f.Verdict != doctor.Unknown {
				t.Errorf("%s: %+v", code, f)
			}
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if f := examine(t, w.options())["credentials"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Fix, "attach a role to the instance; elsewhere sign in with `aws sso login`, or set AWS_PROFILE") {
		t.Errorf("without any: %+v", f)
	}
}

// skewed is a server in front of another, whose clock is off.
func skewed(t *testing.T, endpoint string, by time.Duration) string {
	t.Helper()
	behind, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// A clock that is off is found by the Date of an answer.
func TestClock(t *testing.T) {
	cloud := start(t)
	w := newWorld(t, cloud.URL(), "clock")
	for by, want := range map[time.Duration]doctor.Verdict{time.Hour: doctor.Wrong, -time.Hour: doctor.Wrong, time.Minute: doctor.OK} {
		enter(t, skewed(t, cloud.URL(), by))
		f := examine(t, w.options())["clock"]
		if f.Verdict != want || want == doctor.Wrong && !(strings.Contains(f.Found, "differs from AWS's by ") && strings.Contains(f.Fix, "set the clock")) {
			t.Errorf("%s: %+v", by, f)
		}
	}
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for by, want := range map[time.Duration]doctor.Verdict{time.Hour: doctor.Wrong, 0: doctor.OK} {
		f := examine(t, doctor.Options{Remote: skewed(t, web.URL, by) + "/dev.npcnix"})
		if f["clock"].Verdict != want || f["remote"].Verdict != doctor.Wrong {
			t.Errorf("a web server off by %s: %+v", by, f)
		}
	}
}

// A chain is not called ok if no server answers.
func TestNoAnswer(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	enter(t, gone.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	found := examine(t, doctor.Options{Remote: "s3://fleet/dev.npcnix", QueueURL: gone.URL + "/123456789012/web1"})
	for _, link := range chainLinks {
		if f := found[link]; f.Verdict == doctor.OK {
			t.Errorf("%+v", f)
		}
	}
	if f := found["remote"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Fix, "check the network") {
		t.Errorf("%+v", f)
	}
}
