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
func TestWhatMayNotBeLookedAtIsUnknown(t *testing.T) {
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
	t.Run("with the topic named, what hangs on it is looked at all the same", func(t *testing.T) {
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

// Each row loses the answers to one call of the probe's, which were carried out all the same.
func TestAProbeWhoseAnswersGetLostLeavesNothing(t *testing.T) {
	cloud := start(t)
	enter(t, cloud.URL())
	for i, action := range []string{"CreateQueue", "Subscribe", "PutObject"} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t, cloud.URL(), fmt.Sprint("lost", i))
			fault := cloud.Fault(awsfake.Call{Action: action}, awsfake.Effect{Truncate: true})
			defer fault.Remove()
			o := w.options()
			o.Probe = true
			if f := examine(t, o)["probe"]; f.Verdict != doctor.Unknown || strings.Contains(f.Found, "cleaned up") {
				t.Errorf("%+v", f)
			}
			fault.Remove()
			w.leaves(1)
		})
	}
}

// What cannot be looked for is said to be left.
func TestAProbeSaysWhatItMayHaveLeft(t *testing.T) {
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
	if f := examine(t, o)["probe"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Found, "could not be cleaned up: npcnix-probe-") || !strings.Contains(f.Fix, "sqs:GetQueueUrl") {
		t.Errorf("%+v", f)
	}
}

func TestCredentialsThatAreNotAcceptedAreNamedAndNothingElseIsAsked(t *testing.T) {
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
	if f := examine(t, w.options())["credentials"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Fix, "attach a role to the instance, or set AWS_PROFILE") {
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

func TestAClockThatIsOffIsFoundByTheDateOfAnAnswer(t *testing.T) {
	cloud := start(t)
	w := newWorld(t, cloud.URL(), "clock")
	for by, want := range map[time.Duration]doctor.Verdict{time.Hour: doctor.Wrong, -time.Hour: doctor.Wrong, time.Minute: doctor.OK} {
		enter(t, skewed(t, cloud.URL(), by))
		f := examine(t, w.options())["clock"]
		if f.Verdict != want || want == doctor.Wrong && !(strings.Contains(f.Found, "off AWS's") && strings.Contains(f.Fix, "set the clock")) {
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

func TestAChainThatNobodyAnswersForIsNotCalledWell(t *testing.T) {
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
	if f := found["remote"]; f.Verdict != doctor.Wrong || !strings.Contains(f.Fix, "see to the network") {
		t.Errorf("%+v", f)
	}
}
