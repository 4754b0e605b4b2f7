package integration

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
)

// TestHostsGC removes what is left of hosts that are no more, and nothing else.
func TestHostsGC(t *testing.T) {
	t.Parallel()
	t.Run("on moto", func(t *testing.T) {
		t.Parallel()
		hostsGC(newGroup(t, moto.Start(t)))
	})
	t.Run("on awsfake", func(t *testing.T) {
		t.Parallel()
		cloud := newCloud(t)
		g := newGroup(t, cloud.URL())
		hostsGC(g)
		g.killedBetween(cloud)
		g.denied(cloud)
	})
}

// group is a remote whose hosts make their queues.
type group struct {
	*world
	later string // the same AWS, whose clock is eight days ahead
}

func newGroup(t *testing.T, endpoint string) *group {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if at, err := http.ParseTime(r.Header.Get("Date")); err == nil {
			r.Header.Set("Date", at.Add(8*24*time.Hour+time.Minute).Format(http.TimeFormat))
		}
		return nil
	}
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of runs that are killed
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)

	return &group{newWorld(t, endpoint), server.URL}
}

// gc runs npcnix hosts gc on an AWS.
func (g *group) gc(endpoint, stdin string, args ...string) (string, int) {
	g.t.Helper()
	cmd := exec.Command(npcnix, append([]string{"hosts", "gc", "--remote", remote, "--topic-arn", g.topic}, args...)...)
	cmd.Env = append((&world{endpoint: endpoint}).env(), "NPCNIX_DATA_DIR="+g.t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		g.t.Fatal(err)
	}

	return string(out), cmd.ProcessState.ExitCode()
}

// member makes what a host has: queue, dead-letter queue and subscription, as events.OwnQueue does, and a record.
func (g *group) member(name, host, instance string, parts ...string) {
	g.t.Helper()
	tags := map[string]string{"npcnix:host": host, "npcnix:remote": remote}
	if instance != "" {
		tags["npcnix:instance"] = instance
	}
	for _, part := range parts {
		switch part {
		case "queue", "dead":
			name := name + map[string]string{"dead": "-dead"}[part]
			_, err := g.sqs.CreateQueue(g.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Tags: tags})
			g.must(err)
		case "subscription":
			_, err := g.sns.Subscribe(g.t.Context(), &sns.SubscribeInput{TopicArn: &g.topic, Protocol: aws.String("sqs"), Endpoint: aws.String(g.queueARN(name))})
			g.must(err)
		case "record":
			for _, at := range []string{host, "failed/" + host} {
				body, _ := json.Marshal(map[string]any{"schema": 2, "host": host, "remote": remote, "status": "applied"})
				_, err := g.s3.PutObject(g.t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key + ".acks/" + at + ".json"), Body: strings.NewReader(string(body))})
				g.must(err)
			}
		}
	}
}

func (g *group) queueARN(name string) string {
	return "arn:aws:sqs:" + strings.Join(strings.Split(g.topic, ":")[3:5], ":") + ":" + name
}

// left is all that there is: records with their copies, queues and subscriptions.
func (g *group) left() []string {
	g.t.Helper()
	out, err := g.s3.ListObjectsV2(g.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	g.must(err)
	var all []string
	for _, o := range out.Contents {
		all = append(all, "record "+strings.TrimPrefix(*o.Key, key+".acks/"))
	}
	for _, name := range g.queues() {
		all = append(all, "queue "+name)
	}
	for _, arn := range g.subscriptions() {
		all = append(all, "subscription "+arn[strings.LastIndex(arn, ":")+1:])
	}
	slices.Sort(all)

	return all
}

func (g *group) own(host string) string { return events.OwnQueueName(g.topic, remote, host) }

func (g *group) wants(what, out string, code, want int, says ...string) {
	g.t.Helper()
	for _, s := range says {
		if !strings.Contains(out, s) {
			g.t.Errorf("%s: it does not say %q", what, s)
		}
	}
	if code != want || g.t.Failed() {
		g.t.Fatalf("%s: exit code %d, wanted %d:\n%s", what, code, want, out)
	}
}

const alive, gone = "i-0123456789abcdef0", "i-0123456789abcdef1"

func hostsGC(g *group) {
	all := []string{"queue", "dead", "subscription", "record"}
	g.member(g.own("web1"), "web1", "", all...)
	g.member(g.own(alive), alive, alive, all...)
	g.member(g.own(gone), gone, gone, all...)
	g.member(g.own("web2"), "web2", gone, "queue", "dead", "subscription") // never wrote a record
	g.member(g.own("web3"), "web3", "", "subscription", "record")          // its queue was deleted
	g.member("npcnix-dev-tf1-01234567", "tf1", "", all...)                 // Terraform's
	_, err := g.sqs.CreateQueue(g.t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("npcnix-dev-x"), Tags: map[string]string{"npcnix:host": "web1", "npcnix:remote": "s3://other/dev.npcnix"}})
	g.must(err)
	before := g.left()

	out, code := g.gc(g.endpoint, alive, "--instances", "-") // all were heard in the last day
	g.wants("too early", out, code, 0, "0 removed, 0 left")
	out, code = g.gc(g.later, alive, "--instances", "-", "--dry-run")
	g.wants("a dry run", out, code, 0, "would remove web1: not heard for 8d\n", "would remove "+gone+": not heard for 8d, and its instance is no more\n",
		"would remove web2: never heard", "would remove web3", "left tf1: ", "4 to remove, 1 left, 1 kept")
	for _, wrong := range []string{"", "None\n", "An error occurred"} {
		out, code = g.gc(g.later, wrong, "--instances", "-")
		g.wants("a list that is none", out, code, 2, "--instances: ")
	}
	if after := g.left(); !slices.Equal(before, after) {
		g.t.Fatalf("it removed what it must not: before %q, after %q", before, after)
	}

	out, code = g.gc(g.later, alive, "--instances", "-")
	g.wants("the run", out, code, 0, "removed web1: ", "left tf1: not heard for 8d, but the host did not make its queue npcnix-dev-tf1-01234567", "4 removed, 1 left, 1 kept")
	var want []string
	for _, name := range []string{g.own(alive), "npcnix-dev-tf1-01234567"} {
		want = append(want, "queue "+name, "queue "+name+"-dead", "subscription "+name)
	}
	want = append(want, "queue npcnix-dev-x", "record "+alive+".json", "record failed/"+alive+".json", "record failed/tf1.json", "record tf1.json")
	slices.Sort(want)
	if after := g.left(); !slices.Equal(want, after) {
		g.t.Errorf("left are %q, not %q", after, want)
	}
	out, code = g.gc(g.later, "")
	g.wants("without a list", out, code, 0, "removed "+alive, "1 removed, 1 left, 0 kept")
}

// killedBetween kills runs when a request was carried out and has no answer: the next run finishes.
func (g *group) killedBetween(cloud *awsfake.Cloud) {
	for action, kills := range map[string]int{"Unsubscribe": 1, "DeleteQueue": 2, "DeleteObject": 1} {
		g.member(g.own("web1"), "web1", "", "queue", "dead", "subscription", "record")
		for range kills {
			call := awsfake.Call{Action: action}
			first := cloud.Fault(call, awsfake.Effect{Truncate: true, Next: 1})
			again := cloud.Fault(call, awsfake.Effect{Hang: true})
			cmd := exec.Command(npcnix, "hosts", "gc", "--remote", remote, "--topic-arn", g.topic)
			cmd.Env = append((&world{endpoint: g.later}).env(), "NPCNIX_DATA_DIR="+g.t.TempDir())
			g.must(cmd.Start())
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			await(g.t, "the request that gets no answer", func() bool { return again.Hits() > 0 || len(ended) > 0 })
			_ = cmd.Process.Kill()
			<-ended
			first.Remove()
			again.Remove()
		}
		if !slices.Contains(g.left(), "record web1.json") {
			g.t.Fatalf("killed at %s, it has removed the record", action)
		}
		out, code := g.gc(g.later, "")
		g.wants("the next run", out, code, 0, "removed web1: ")
		for _, what := range g.left() {
			if strings.Contains(what, "web1") {
				g.t.Errorf("killed at %s: left is %s", action, what)
			}
		}
	}
}

// denied is a run that lacks a permission: it says which, and removes nothing that it could not finish.
func (g *group) denied(cloud *awsfake.Cloud) {
	g.member(g.own("web1"), "web1", "", "queue", "dead", "subscription", "record")
	for _, c := range []struct {
		call awsfake.Call
		says string
	}{
		{awsfake.Call{Action: "ListQueues"}, "docs/aws.md"},
		{awsfake.Call{Action: "ListSubscriptionsByTopic"}, "docs/aws.md"},
		{awsfake.Call{Action: "Unsubscribe"}, "web1: unsubscribe the queue"},
		{awsfake.Call{Action: "DeleteQueue"}, "web1: delete the queue"},
		{awsfake.Call{Action: "DeleteObject"}, "these credentials lack s3:DeleteObject"},
	} {
		fault := cloud.Fault(c.call, awsfake.Effect{Status: 403, Code: "AccessDenied"})
		out, code := g.gc(g.later, "")
		g.wants(c.call.Action, out, code, 1, c.says)
		fault.Remove()
		if !slices.Contains(g.left(), "record web1.json") {
			g.t.Fatalf("%s: the record is gone, so another run does not finish", c.call.Action)
		}
	}
	out, code := g.gc(g.later, "")
	g.wants("with all permissions", out, code, 0, "removed web1")
}
