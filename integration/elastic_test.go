package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// moto compares SNS's calls, sqs:CreateQueue and sqs:GetQueueUrl with the resource "*" only, and wants permissions of their own for
// the batches of a call. It gives the tags of a launch template back among those of its instances.
const elasticOverride = `
resource "aws_launch_template" "group" {
  lifecycle { ignore_changes = [tag_specifications] }
}

resource "aws_iam_role_policy" "npcnix" {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(jsondecode(local.policy).Statement, [
      { Effect = "Allow", Action = ["sns:*", "sqs:CreateQueue", "sqs:GetQueueUrl"], Resource = "*" },
      { Effect = "Allow", Action = ["sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch"], Resource = local.queues },
    ])
  })
}
`

// What the test reads of the example beside its outputs, and a role for npcnix hosts gc with the policy that gate has for
// it.
const elasticMore = `
output "policy" {
  value = module.web.policy_json
}

module "gate" {
  source = "../../gate"
  remote = module.remote
}

resource "aws_iam_role" "gc" {
  name               = "gc"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
}

resource "aws_iam_role_policy" "gc" {
  name   = "gc"
  role   = aws_iam_role.gc.name
  policy = module.gate.collect_policy_json
}

output "gc" {
  value = { arn = aws_iam_role.gc.arn, policy = module.gate.collect_policy_json }
}
`

// The example of an Auto Scaling Group, applied on moto: a member works with the role's permissions and no others,
// and nothing is left behind. moto looks at no conditions: memberPolicy evaluates those.
func TestElasticExample(t *testing.T) {
	t.Parallel()
	with, tree := terraformTool(t), terraformTree(t)
	a := newAccount(t, moto.Start(t))
	dir := filepath.Join(tree, "examples", "elastic")
	a.must(os.WriteFile(filepath.Join(tree, "elastic_hosts", "moto_override.tf"), []byte(elasticOverride), 0o644))
	a.must(os.WriteFile(filepath.Join(dir, "moto_override.tf"), []byte(motoOverrides["examples/fleet"]), 0o644))
	flake := filepath.Join(t.TempDir(), "nixos")
	a.must(nixtest.Flake(flake, nixtest.Salt(), map[string]nixtest.System{"web": {Version: "one"}}))
	image := strings.Trim(strings.TrimSpace(a.aws("ec2", "describe-images", "--query", "Images[0].ImageId")), `"`)
	env := append(a.env(), "PATH="+filepath.Dir(npcnix)+":"+os.Getenv("PATH"), "TF_VAR_bucket="+bucket,
		"TF_VAR_region="+awsfake.Region, "TF_VAR_flake_dir="+flake, "TF_VAR_ami="+image, "TF_VAR_force_destroy=true")
	a.must(os.WriteFile(filepath.Join(tree, "examples", "elastic", "policy.tf"), []byte(elasticMore), 0o644))
	with.run(t, dir, nil, "init")
	with.run(t, dir, env, "apply", "-auto-approve")
	with.run(t, dir, env, "plan", "-detailed-exitcode")

	var out struct {
		Topic    struct{ Value string } `json:"topic_arn"`
		Role     struct{ Value struct{ ARN string } }
		UserData struct{ Value string } `json:"user_data"`
		Policy   struct{ Value string }
		GC       struct{ Value struct{ ARN, Policy string } }
	}
	a.parse(with.run(t, dir, env, "output", "-json"), &out)
	a.topic = out.Topic.Value
	var instances []string
	a.parse(a.aws("ec2", "describe-instances", "--query", "Reservations[].Instances[].InstanceId"), &instances)
	if len(instances) != 2 {
		t.Fatalf("the group has the instances %q", instances)
	}
	t.Run("a member's queue is its own", func(t *testing.T) { memberPolicy(t, out.Policy.Value, out.Topic.Value) })
	t.Run("a member's user data installs it by its instance's name", func(t *testing.T) { memberBoots(t, out.UserData.Value, out.Topic.Value) })

	member, gc := a.assume(out.Role.Value.ARN), a.assume(out.GC.Value.ARN)
	a.enforce()
	h := newHost(a.world, "web-"+instances[0])
	h.configure(map[string]any{"remote": remote, "remote_region": awsfake.Region, "configuration": "web", "host": h.name, "queue_url": "auto", "topic_arn": a.topic})
	h.startAs(member)
	h.await("the record", func() bool { return h.record().Status == record.Applied })
	h.await("the subscription", func() bool { return len(a.subscriptions()) == 1 })
	for _, name := range a.queues() { // the tag that the role's policy asks for
		tags, err := a.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: aws.String(a.queueURL(name))})
		a.must(err)
		if tags.Tags["npcnix:instance"] != instances[0] {
			t.Errorf("%s has the tags %v, and its instance is %s", name, tags.Tags, instances[0])
		}
	}
	a.must(nixtest.Flake(flake, nixtest.Salt(), map[string]nixtest.System{"web": {Version: "two"}}))
	with.run(t, dir, env, "apply", "-auto-approve") // publishes
	h.await("the event", func() bool { return h.marker() == "two" && h.record().Trigger == record.Event })
	t.Run("a member may do nothing outside of its group", func(t *testing.T) { elasticPrivilege(t, a, member) })
	t.Run("hosts gc may delete what is the remote's, and nothing else", func(t *testing.T) { collectPrivilege(t, a, gc, out.GC.Value.Policy) })
	h.terminate()
	if n := h.log.count("StatusCode: 403"); n != 0 {
		t.Errorf("the agent was denied something %d times", n)
	}
	if out, code := h.commandIn(member.env(), "leave"); code != 0 {
		t.Errorf("leave: exit code %d: %s", code, out)
	}
	with.run(t, dir, env, "destroy", "-auto-approve")
	if left := a.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// memberBoots runs a member's user data where there is no firmware of EC2 and a metadata service that answers late.
func memberBoots(t *testing.T, userData, topic string) {
	m := newMachine(t)
	m.set, m.script = "npcnix_asset_tag=/nonexistent\n", userData
	for name, body := range map[string]string{
		"curl": `case "$*" in
*' -X PUT '*) [ -e "$DIR/late" ] || { : >"$DIR/late"; exit 7; }; echo token ;;
*'token: token '*/instance-id) echo i-0123456789abcdef0 ;;
*) exit 22 ;;
esac`,
		"systemctl":   "exit 3",
		"systemd-run": `echo systemd-run >>"$TRACE"`,
	} {
		m.write("bin/"+name, "#!/bin/sh\n"+body+"\n")
		m.must(os.Chmod(m.path("bin", name), 0o755))
	}
	m.boots(0, "sleep_5", "systemd-run", "nix")
	args := strings.Join(strings.Fields(m.read("nix-args")), " ")
	if want := " --topic-arn " + topic + " --queue-url auto --host web-i-0123456789abcdef0"; !strings.HasSuffix(args, want) {
		t.Errorf("nix was called with %s, want the end %s", args, want)
	}
	m.write("rendered.sh", userData)
	shellcheck(t, m.path("rendered.sh"))

	m.write("bin/curl", "#!/bin/sh\nexit 7\n")
	if status, said := m.boot(); status != 1 || !strings.Contains(said, "the next boot tries again") {
		t.Errorf("without an instance ID: status %d: %s", status, said)
	}
}

// elasticPrivilege tries what a member may do, and the same elsewhere.
func elasticPrivilege(t *testing.T, a *account, member *actor) {
	queue := func(name string) *string { return aws.String(a.queueURL(name)) }
	for _, name := range []string{"npcnix-dev-db-i-0", "npcnix-prod-web-i-0", "npcnix-dev-web-i-0"} {
		_, err := a.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
		a.must(err)
		defer func() {
			_, err := a.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: queue(name)})
			a.must(err)
		}()
	}
	receive := func(name string) error {
		_, err := member.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: queue(name)})
		return err
	}
	tag := func(name string) error {
		_, err := member.sqs.TagQueue(t.Context(), &sqs.TagQueueInput{QueueUrl: queue(name), Tags: map[string]string{"npcnix:host": "x"}})
		return err
	}
	remove := func(name string) error {
		_, err := member.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: queue(name)})
		return err
	}
	get := func(key string) error {
		_, err := member.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &key})
		return err
	}
	for _, call := range []struct {
		what             string
		do               func(string) error
		allowed, refused string
	}{
		{"receive from the queue", receive, "npcnix-dev-web-i-0", "npcnix-prod-web-i-0"},
		{"tag the queue", tag, "npcnix-dev-web-i-0", "npcnix-dev-db-i-0"},
		{"read", get, key, key + ".acks/web-i-0.json"},
		{"write", member.put, key + ".acks/web-i-0.json", key + ".acks/db-i-0.json"},
		{"write", member.put, key + ".acks/failed/web-i-0.json", key},
	} {
		if err := call.do(call.allowed); err != nil {
			t.Errorf("it cannot %s %s: %v", call.what, call.allowed, err)
		}
		if err := call.do(call.refused); err == nil || !strings.Contains(err.Error(), "StatusCode: 403") {
			t.Errorf("it may %s %s: %v", call.what, call.refused, err)
		}
	}
	if err := remove("npcnix-prod-web-i-0"); err == nil || !strings.Contains(err.Error(), "StatusCode: 403") {
		t.Errorf("it may delete a queue of another remote: %v", err)
	}
}

// collectPrivilege tries what npcnix hosts gc asks of AWS, and the same of another remote. What moto gets wrong is
// evaluated: it refuses the listing of a prefix with a slash, and compares SNS's calls with the resource "*" only.
func collectPrivilege(t *testing.T, a *account, gc *actor, text string) {
	const mine, others = "npcnix-dev-web-i-1", "npcnix-prod-web-i-1"
	for _, name := range []string{mine, others} {
		_, err := a.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
		a.must(err)
	}
	a.must(a.put(key + ".acks/gone.json"))
	if _, err := gc.sqs.ListQueues(t.Context(), &sqs.ListQueuesInput{}); err != nil {
		t.Errorf("it cannot list queues: %v", err)
	}
	url := func(name string) *string { return aws.String(a.queueURL(name)) }
	for _, call := range []struct {
		what             string
		do               func(string) error
		allowed, refused string
	}{
		{"read the tags of", func(name string) error {
			_, err := gc.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: url(name)})
			return err
		}, mine, others},
		{"read the attributes of", func(name string) error {
			_, err := gc.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url(name)})
			return err
		}, mine, others},
		{"delete the queue", func(name string) error {
			_, err := gc.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: url(name)})
			return err
		}, mine, others},
		{"delete the object", func(key string) error {
			_, err := gc.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key})
			return err
		}, key + ".acks/gone.json", key},
	} {
		if err := call.do(call.refused); err == nil || !strings.Contains(err.Error(), "StatusCode: 403") {
			t.Errorf("it may %s %s: %v", call.what, call.refused, err)
		}
		if err := call.do(call.allowed); err != nil {
			t.Errorf("it cannot %s %s: %v", call.what, call.allowed, err)
		}
	}
	if err := gc.put(key + ".acks/gone.json"); err == nil {
		t.Error("it may write a record")
	}
	_, err := a.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: url(others)})
	a.must(err)
	p := parsePolicy(t, text)
	for _, c := range []struct {
		request request
		allowed bool
	}{
		{request{"", "s3:ListBucket", "arn:aws:s3:::" + bucket, map[string]string{"s3:prefix": key + ".acks/"}}, true},
		{request{"", "s3:ListBucket", "arn:aws:s3:::" + bucket, map[string]string{"s3:prefix": "npcnix/"}}, false},
		{request{"", "sns:ListSubscriptionsByTopic", a.topic, nil}, true},
		{request{"", "sns:ListSubscriptionsByTopic", strings.Replace(a.topic, "-dev-", "-prod-", 1), nil}, false},
		{request{"", "sns:Unsubscribe", a.topic + ":1", nil}, true},
		{request{"", "s3:PutObject", "arn:aws:s3:::" + bucket + "/" + key, nil}, false},
	} {
		if got := p.allows(c.request); got != c.allowed {
			t.Errorf("%s on %s: allowed: %v", c.request.action, c.request.resource, got)
		}
	}
}

// memberPolicy evaluates the conditions, which moto does not look at.
func memberPolicy(t *testing.T, text, topic string) {
	const own = "i-0123456789abcdef0"
	queues := "arn:aws:sqs:" + awsfake.Region + ":123456789012:npcnix-dev-web-"
	p := parsePolicy(t, text)
	from := func(more ...string) map[string]string {
		context := map[string]string{"ec2:SourceInstanceARN": "arn:aws:ec2:" + awsfake.Region + ":123456789012:instance/" + own}
		for i := 0; i < len(more); i += 2 {
			context[more[i]] = more[i+1]
		}
		return context
	}
	const tagged, tagging = "aws:ResourceTag/npcnix:instance", "aws:RequestTag/npcnix:instance"
	for _, c := range []struct {
		what    string
		request request
		allowed bool
	}{
		{"it makes its queue", request{"", "sqs:CreateQueue", queues + own + "-0", from(tagging, own)}, true},
		{"it makes another's queue", request{"", "sqs:CreateQueue", queues + own + "-0", from(tagging, "i-1")}, false},
		{"it makes a queue of another group", request{"", "sqs:CreateQueue", strings.Replace(queues, "web", "db", 1) + own + "-0", from(tagging, own)}, false},
		{"it makes a queue without a tag", request{"", "sqs:CreateQueue", queues + own + "-0", from()}, false},
		{"it tags its new queue", request{"", "sqs:TagQueue", queues + own + "-0", from(tagging, own)}, true},
		{"it takes another's queue by a tag", request{"", "sqs:TagQueue", queues + "i-1-0", from(tagging, own, tagged, "i-1")}, false},
		{"it receives", request{"", "sqs:ReceiveMessage", queues + own + "-0", from(tagged, own)}, true},
		{"it receives another's", request{"", "sqs:ReceiveMessage", queues + "i-1-0", from(tagged, "i-1")}, false},
		{"it receives from a queue without a tag", request{"", "sqs:ReceiveMessage", queues + "i-1-0", from()}, false},
		{"it deletes its queue", request{"", "sqs:DeleteQueue", queues + own + "-0", from(tagged, own)}, true},
		{"it deletes another's", request{"", "sqs:DeleteQueue", queues + "i-1-0", from(tagged, "i-1")}, false},
		{"what is no instance receives", request{"", "sqs:ReceiveMessage", queues + own + "-0", map[string]string{tagged: own}}, false},
		{"it subscribes its queue", request{"", "sns:Subscribe", topic, from("sns:Protocol", "sqs", "sns:Endpoint", queues+own+"-0")}, true},
		{"it subscribes another queue", request{"", "sns:Subscribe", topic, from("sns:Protocol", "sqs", "sns:Endpoint", "arn:aws:sqs:eu-central-1:1:other")}, false},
		{"it subscribes an address", request{"", "sns:Subscribe", topic, from("sns:Protocol", "email", "sns:Endpoint", "a@example.org")}, false},
		{"it publishes to the topic", request{"", "sns:Publish", topic, from()}, false},
	} {
		if got := p.allows(c.request); got != c.allowed {
			t.Errorf("%s: allowed: %v", c.what, got)
		}
	}
}

// The unit that user data makes has a host leave when it is powered off, after its agent has stopped, and not when
// it is rebooted.
func TestAMemberLeavesAtPowerOff(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	m := nspawn.Boot(t, nspawn.Options{Shares: map[string]string{"/srv/shared": shared}})
	said := func() string {
		text, _ := os.ReadFile(filepath.Join(shared, "said"))
		return string(text)
	}
	script, err := os.ReadFile("../terraform/elastic_hosts/member.sh")
	if err != nil {
		t.Fatal(err)
	}
	userData := func() {
		t.Helper()
		m.Write("/run/tag", "i-0123456789abcdef0\n")
		if out := m.Must("bash", "-uc", "npcnix_group=web npcnix_asset_tag=/run/tag\n"+string(script)+"\necho $host"); out != "web-i-0123456789abcdef0\n" {
			t.Errorf("it said %q", out)
		}
	}
	boot := func() {
		m.Write("/run/current-system/sw/bin/npcnix", "#!/bin/sh\necho \"$@\" >>/srv/shared/said\n")
		m.Must("chmod", "755", "/run/current-system/sw/bin/npcnix")
		m.Must("systemd-run", "--quiet", "--unit=npcnix", "--service-type=oneshot", "--remain-after-exit",
			"--property=ExecStop=/bin/sh -c 'sleep 0.5; echo stopped >>/srv/shared/said'", "true")
		userData()
		userData() // it may run again
	}
	boot()
	m.Reboot()
	if got := said(); got != "stopped\n" {
		t.Errorf("at a reboot: %q", got)
	}
	boot()
	m.Must("systemctl", "stop", "npcnix-leave")
	if got := said(); got != "stopped\n" {
		t.Errorf("when the unit is stopped: %q", got)
	}
	userData()
	m.Must("systemctl", "poweroff")
	m.Await("leave", func() bool { return strings.HasSuffix(said(), "stopped\nstopped\nleave\n") })
}
