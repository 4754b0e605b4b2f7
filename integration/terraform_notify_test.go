package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

const notifyingRoot = `
provider "aws" {
  s3_use_path_style = true
}

resource "aws_s3_bucket" "fleet" {
  bucket        = "fleet"
  force_destroy = true
}

module "store" {
  source      = "MODULES/store_s3"
  bucket      = aws_s3_bucket.fleet
  prefix      = "npcnix/remotes"
  remotes     = ["dev"]
  events      = false
  eventbridge = true
}

module "remote" {
  source = "MODULES/remote_s3"
  store  = module.store
  name   = "dev"
}

module "notify" {
  source  = "MODULES/notify"
  remote  = module.remote
  emails  = ["ops@example.org"]
  webhook = { url = "https://chat.example.org/hooks/1" }
}

output "rules" {
  value = module.notify.rule_names
}
`

// Module notify is applied, and its rules tell of a publish to 100 hosts once, and of a real host's failure and
// recovery once each.
//
// moto delivers from EventBridge neither to SNS nor to a webhook, does not transform S3's events, and knows nothing
// of Slack. So queues stand in for the targets: what is tested is what S3, the rules and the agent make of it.
func TestNotificationsOfAFleet(t *testing.T) {
	t.Parallel()
	a := newAccount(t, moto.Start(t))
	r := newRoot(t, terraformTool(t), notifyingRoot)
	r.env = a.env()
	r.must("apply", "-auto-approve")
	if got := r.plan().changes(""); !slices.Equal(got, []string{"module.store.aws_s3_bucket_notification.store[0]: update"}) {
		t.Errorf("a second plan changes %q", got) // moto never shows the switch of EventBridge again
	}
	var out struct {
		Rules struct{ Value map[string]string }
	}
	a.parse(r.tool.run(t, r.dir, r.env, "output", "-json"), &out)
	queues := map[string]string{}
	for kind, rule := range out.Rules.Value {
		var queue struct{ QueueUrl string }
		a.parse(a.aws("sqs", "create-queue", "--queue-name", kind), &queue)
		queues[kind] = queue.QueueUrl
		a.aws("events", "remove-targets", "--rule", rule, "--ids", "webhook")
		a.aws("events", "put-targets", "--rule", rule, "--targets", "Id=text,Arn=arn:aws:sqs:"+awsfake.Region+":123456789012:"+kind)
	}
	told := func() string {
		var counts []string
		for _, kind := range []string{"published", "failed", "recovered"} {
			visible, _ := a.depth(queues[kind])
			counts = append(counts, visible+" "+kind)
		}
		return strings.Join(counts, ", ")
	}

	put := func(key string) {
		_, err := a.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader("{}")})
		if err != nil {
			t.Error(err)
		}
	}
	put(key)
	var hosts sync.WaitGroup
	for part := range 8 {
		hosts.Go(func() {
			for n := part; n < 100; n += 8 {
				put(fmt.Sprintf("%s.acks/host%d.json", key, n))
			}
		})
	}
	hosts.Wait()
	if got, want := told(), "1 published, 0 failed, 0 recovered"; got != want {
		t.Errorf("after a publish to 100 hosts: %s, want %s", got, want)
	}

	h := newHost(a.world, "web1")
	h.configure(map[string]any{
		"remote": remote, "remote_region": awsfake.Region, "configuration": "web1", "host": "web1", "min_sleep_secs": 1, "max_sleep_secs": 1,
	})
	follow := func(s nixtest.System, status record.Status) {
		t.Helper()
		h.publish(s)
		h.await("status "+string(status), func() bool { rec := h.record(); return rec.Status == status && rec.Version.ETag == h.etag() })
	}
	h.publish(nixtest.System{Version: "one"})
	h.startAs(a.actor)
	h.await("status applied", func() bool { return h.record().Status == record.Applied })
	follow(nixtest.System{Version: "two", SwitchExit: 1}, record.RolledBack)
	h.await("word of the failure", func() bool { return told() == "3 published, 1 failed, 0 recovered" })
	follow(nixtest.System{Version: "three"}, record.Applied)
	h.await("word of the recovery", func() bool { return told() == "4 published, 1 failed, 1 recovered" })
	if h.terminate() != 0 {
		t.Error("the agent did not end well")
	}
	r.must("destroy", "-auto-approve")
}
