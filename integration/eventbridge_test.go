package integration

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// A bucket whose notification another owner writes, which also switches EventBridge on.
const bridgedRoot = `
provider "aws" {
  s3_use_path_style = true
}

resource "aws_s3_bucket" "fleet" {
  bucket        = "fleet"
  force_destroy = true
}

resource "aws_sqs_queue" "pictures" {
  name = "pictures"
}

resource "aws_s3_bucket_notification" "owner" {
  bucket      = aws_s3_bucket.fleet.id
  eventbridge = true

  queue {
    queue_arn     = aws_sqs_queue.pictures.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "pictures/"
  }
}

module "store" {
  source              = "MODULES/store_s3"
  bucket              = aws_s3_bucket.fleet
  prefix              = "npcnix/remotes"
  remotes             = ["dev"]
  events              = "eventbridge"
  manage_notification = false
}

module "remote" {
  source = "MODULES/remote_s3"
  store  = module.store
  name   = "dev"
}

module "web1" {
  source = "MODULES/host_queue"
  remote = module.remote
  host   = "web1"
}

output "topic" {
  value = module.remote.topic_arn
}

output "queue" {
  value = module.web1.queue_url
}
`

// The EventBridge mode of store_s3, applied on moto. moto does not deliver from EventBridge to SNS. So the rule, its
// target and the topic's policy are read back, a recorded event is matched with the rule's pattern, and that event is
// published to the topic for a real agent.
func TestEventBridgeMode(t *testing.T) {
	t.Parallel()
	a := newAccount(t, moto.Start(t))
	r := newRoot(t, terraformTool(t), bridgedRoot)
	r.env = a.env()
	r.must("apply", "-auto-approve")
	var out struct{ Topic, Queue struct{ Value string } }
	a.parse(r.tool.run(t, r.dir, r.env, "output", "-json"), &out)
	a.topic = out.Topic.Value

	if got := a.aws("s3api", "get-bucket-notification-configuration", "--bucket", bucket); !strings.Contains(got, ":pictures") || strings.Contains(got, "TopicConfigurations") {
		t.Errorf("the owner's notification is not what it was: %s", got)
	}
	var rules []struct{ Name, Arn, EventPattern string }
	a.parse(a.aws("events", "list-rules", "--name-prefix", "npcnix-", "--query", "Rules"), &rules)
	if len(rules) != 1 {
		t.Fatalf("there are the rules %+v", rules)
	}
	rule := rules[0]
	var targets []struct{ Arn, Input, InputPath string }
	a.parse(a.aws("events", "list-targets-by-rule", "--rule", rule.Name, "--query", "Targets"), &targets)
	if len(targets) != 1 || targets[0].Arn != a.topic || targets[0].Input+targets[0].InputPath != "" {
		t.Errorf("the rule has the targets %+v", targets)
	}
	var text string
	a.parse(a.aws("sns", "get-topic-attributes", "--topic-arn", a.topic, "--query", "Attributes.Policy"), &text)
	topic := parsePolicy(t, text)
	// EventBridge gives the policy no context.
	if !topic.allows(request{"Service events.amazonaws.com", "sns:Publish", a.topic, nil}) {
		t.Error("EventBridge must not publish to the topic")
	}
	if topic.allows(request{"Service s3.amazonaws.com", "sns:Publish", a.topic, map[string]string{"aws:SourceArn": "arn:aws:s3:::" + bucket, "aws:SourceAccount": awsfake.Account}}) {
		t.Error("the bucket may publish past the rule")
	}

	for published, matches := range map[string]bool{key: true, key + ".acks/web1.json": false, "npcnix/remotes/prod.npcnix": false} {
		if got := matchesPattern(t, rule.EventPattern, bridgeEvent(t, published)); got != matches {
			t.Errorf("the rule matches an event of %s: %v", published, got)
		}
	}

	h := newHost(a.world, "web1")
	h.configure(map[string]any{"remote": remote, "remote_region": awsfake.Region, "configuration": "web1", "host": "web1", "queue_url": out.Queue.Value, "poll_interval_secs": 3600})
	h.publish(nixtest.System{Version: "one"})
	h.startAs(a.actor)
	h.await("the first version", func() bool { return h.record().Status == record.Applied })
	h.publish(nixtest.System{Version: "two"})
	_, err := a.sns.Publish(t.Context(), &sns.PublishInput{TopicArn: &a.topic, Message: aws.String(bridgeEvent(t, key))})
	a.must(err)
	h.await("the event", func() bool { return h.marker() == "two" && h.record().Trigger == record.Event })
	h.await("the message deleted", func() bool { v, f := h.depth(out.Queue.Value); return v == "0" && f == "0" })
	if h.terminate() != 0 {
		t.Error("the agent did not end well")
	}
	r.must("destroy", "-auto-approve")
}

// bridgeEvent is a recorded event of EventBridge, of an object in this bucket.
func bridgeEvent(t *testing.T, key string) string {
	t.Helper()
	text, err := os.ReadFile("../events/testdata/eventbridge.json")
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(text, &event); err != nil {
		t.Fatal(err)
	}
	detail := event["detail"].(map[string]any)
	detail["bucket"].(map[string]any)["name"] = bucket
	detail["object"].(map[string]any)["key"] = key
	changed, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// matchesPattern says whether EventBridge's pattern, of names and lists of strings alone, matches an event.
func matchesPattern(t *testing.T, pattern, event string) bool {
	t.Helper()
	var want, is map[string]any
	if err := json.Unmarshal([]byte(pattern), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(event), &is); err != nil {
		t.Fatal(err)
	}
	var all func(want, is map[string]any) bool
	all = func(want, is map[string]any) bool {
		for name, one := range want {
			switch one := one.(type) {
			case map[string]any:
				inner, ok := is[name].(map[string]any)
				if !ok || !all(one, inner) {
					return false
				}
			case []any:
				if !slices.Contains(one, is[name]) {
					return false
				}
			default:
				t.Fatalf("the pattern has %v", one)
			}
		}
		return true
	}
	return all(want, is)
}
