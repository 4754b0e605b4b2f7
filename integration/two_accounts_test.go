package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The store of the example is in one account and region; its hosts are of another account, and near is where the
// queue of one of them is.
const theirs, near = "210987654321", "eu-west-1"

// The example of two regions and two accounts, applied on moto, where hosts of the other account hear of publishes:
// with a queue in the store's region, with one in another region, and with one that the host makes itself. moto keeps
// accounts and regions apart, but enforces no policy across accounts: twoAccounts evaluates those.
func TestTwoRegionsTwoAccounts(t *testing.T) {
	t.Parallel()
	with, tree := terraformTool(t), terraformTree(t)
	a := newAccount(t, moto.Start(t))
	role := "arn:aws:iam::" + theirs + ":role/terraform"
	b := a.assume(role)
	b.t = t
	dir := filepath.Join(tree, "examples", "two-regions-two-accounts")
	a.must(os.WriteFile(filepath.Join(tree, "host_queue", "moto_override.tf"), []byte(motoOverrides["host_queue"]), 0o644))
	a.must(os.WriteFile(filepath.Join(dir, "key.tf"), []byte("output \"key\" {\n  value = module.store.kms_key_arn\n}\n"), 0o644))
	flake := filepath.Join(t.TempDir(), "nixos")
	salt := nixtest.Salt()
	edit := func(version string) {
		t.Helper()
		one := nixtest.System{Version: version}
		a.must(nixtest.Flake(flake, salt, map[string]nixtest.System{"web1": one, "web2": one, "web3": one}))
	}
	edit("one")
	env := append(a.env(), "PATH="+filepath.Dir(npcnix)+":"+os.Getenv("PATH"), "TF_VAR_bucket="+bucket, "TF_VAR_force_destroy=true",
		"TF_VAR_region="+awsfake.Region, "TF_VAR_hosts_region="+near, "TF_VAR_hosts_role_arn="+role, "TF_VAR_flake_dir="+flake)
	with.run(t, dir, nil, "init")
	with.run(t, dir, env, "apply", "-auto-approve")
	with.run(t, dir, env, "plan", "-detailed-exitcode")
	var out struct {
		Hosts struct {
			Value map[string]struct {
				QueueURL  string `json:"queue_url"`
				PolicyARN string `json:"policy_arn"`
			}
		}
		Remote struct {
			Value struct {
				Topic string `json:"topic_arn"`
			}
		} `json:"remote_object"`
		Key struct{ Value string }
	}
	a.parse(with.run(t, dir, env, "output", "-json"), &out)
	a.topic = out.Remote.Value.Topic

	hosts := map[string]*host{}
	for name, region := range map[string]string{"web1": awsfake.Region, "web2": near, "web3": near} {
		queue := map[string]any{"queue_url": "auto", "topic_arn": a.topic}
		if made, known := out.Hosts.Value[name]; known {
			queue = map[string]any{"queue_url": made.QueueURL}
		}
		h := newHost(a.world, name)
		h.configure(map[string]any{"remote": remote, "remote_region": awsfake.Region, "configuration": name, "host": name})
		h.configure(queue)
		h.startIn(append(b.env(), "AWS_REGION="+region)) // a queue's URL names its region on AWS, and not on moto
		hosts[name] = h
	}
	for _, h := range hosts {
		h.await("the first version of "+h.name, func() bool { return h.record().Status == record.Applied && h.marker() == "one" })
	}
	own := events.OwnQueueName(a.topic, remote, "web3")
	await(t, "the subscriptions", func() bool { return len(a.subscriptions()) == 3 })
	subscribed, err := a.sns.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &a.topic})
	a.must(err)
	for _, s := range subscribed.Subscriptions {
		region := awsfake.Region
		if strings.Contains(*s.Endpoint, "web2") {
			region = near
		}
		if *s.Owner != theirs || !strings.HasPrefix(*s.Endpoint, "arn:aws:sqs:"+region+":"+theirs+":npcnix-dev-") {
			t.Errorf("%s is subscribed by %s", *s.Endpoint, *s.Owner)
		}
	}

	edit("two")
	with.run(t, dir, env, "apply", "-auto-approve")
	for _, h := range hosts {
		h.await("the event of "+h.name, func() bool { return h.marker() == "two" && h.record().Trigger == record.Event })
	}
	t.Run("the policies admit the other account, and nobody else", func(t *testing.T) {
		twoAccounts(t, a, b, out.Key.Value, out.Hosts.Value["web2"].QueueURL, out.Hosts.Value["web2"].PolicyARN)
	})
	t.Run("the doctor of a host finds its queue and subscription", func(t *testing.T) {
		for name, link := range map[string]string{"web1": "npcnix-dev-web1-", "web2": "npcnix-dev-web2-", "web3": own} {
			region := map[string]string{"web2": near}[name]
			if region == "" {
				region = awsfake.Region
			}
			said, code := hosts[name].commandIn(append(b.env(), "AWS_REGION="+region), "doctor")
			if !strings.Contains(said, "sends to arn:aws:sqs:"+region+":"+theirs+":"+link) || strings.Contains(said, "✗") {
				t.Errorf("doctor of %s: exit code %d: %s", name, code, said)
			}
		}
	})
	for _, h := range hosts {
		h.terminate()
	}
	if said, code := hosts["web3"].commandIn(append(b.env(), "AWS_REGION="+near), "leave"); code != 0 {
		t.Errorf("leave: exit code %d: %s", code, said)
	}
	with.run(t, dir, env, "destroy", "-auto-approve")
	for _, who := range []*account{a, {b}} {
		if left := who.left(); len(left) > 1 || len(left) == 1 && left["iam list-roles --query Roles[].RoleName"] == "" {
			t.Errorf("left: %v", left)
		}
	}
}

// twoAccounts evaluates the policies of topic, bucket, key and queue, each as its side holds it.
func twoAccounts(t *testing.T, a *account, b *actor, keyARN, queueURL, policyARN string) {
	read := func(who *actor, query string, args ...string) policy {
		t.Helper()
		var text string
		who.parse(who.aws(append(args, "--query", query)...), &text)
		return parsePolicy(t, text)
	}
	topic := read(a.actor, "Attributes.Policy", "sns", "get-topic-attributes", "--topic-arn", a.topic)
	other := strings.Replace(a.topic, "-dev-", "-prod-", 1)
	bucketPolicy := read(a.actor, "Policy", "s3api", "get-bucket-policy", "--bucket", bucket)
	keyPolicy := read(a.actor, "Policy", "kms", "get-key-policy", "--key-id", keyARN, "--policy-name", "default")
	queue := read(b, "Attributes.Policy", "sqs", "get-queue-attributes", "--region", near, "--queue-url", queueURL, "--attribute-names", "Policy")
	host := parsePolicy(t, b.aws("iam", "get-policy-version", "--policy-arn", policyARN, "--version-id", "v1", "--query", "PolicyVersion.Document"))
	queueARN := "arn:aws:sqs:" + near + ":" + theirs + ":" + filepath.Base(queueURL)
	const object, stranger = "arn:aws:s3:::" + bucket + "/" + key, "AWS arn:aws:iam::333333333333:root"
	const them = "AWS arn:aws:iam::" + theirs + ":root"
	via := func(service string) map[string]string {
		return map[string]string{"kms:ViaService": service + "." + awsfake.Region + ".amazonaws.com"}
	}
	to := func(protocol, endpoint string) map[string]string {
		return map[string]string{"sns:Protocol": protocol, "sns:Endpoint": endpoint}
	}
	for _, c := range []struct {
		what   string
		policy policy
		request
		allowed bool
	}{
		{"they subscribe their queue", topic, request{them, "sns:Subscribe", a.topic, to("sqs", queueARN)}, true},
		{"they subscribe a queue of others", topic, request{them, "sns:Subscribe", a.topic, to("sqs", strings.Replace(queueARN, theirs, "333333333333", 1))}, false},
		{"they subscribe an address", topic, request{them, "sns:Subscribe", a.topic, to("email", "a@example.org")}, false},
		{"they look for their subscription", topic, request{them, "sns:ListSubscriptionsByTopic", a.topic, nil}, true},
		{"they publish", topic, request{them, "sns:Publish", a.topic, nil}, false},
		{"they subscribe to another remote", topic, request{them, "sns:Subscribe", other, to("sqs", queueARN)}, false},
		{"a stranger subscribes", topic, request{stranger, "sns:Subscribe", a.topic, to("sqs", "arn:aws:sqs:eu-west-1:333333333333:q")}, false},
		{"they read the remote", bucketPolicy, request{them, "s3:GetObject", object, nil}, true},
		{"they read another remote", bucketPolicy, request{them, "s3:GetObject", strings.Replace(object, "dev", "prod", 1), nil}, false},
		{"they write a record", bucketPolicy, request{them, "s3:PutObject", object + ".acks/web2.json", nil}, true},
		{"they publish to the remote", bucketPolicy, request{them, "s3:PutObject", object, nil}, false},
		{"a stranger reads the remote", bucketPolicy, request{stranger, "s3:GetObject", object, nil}, false},
		{"they decrypt what S3 gives", keyPolicy, request{them, "kms:Decrypt", keyARN, via("s3")}, true},
		{"they decrypt what SQS gives", keyPolicy, request{them, "kms:Decrypt", keyARN, via("sqs")}, true},
		{"they decrypt by themselves", keyPolicy, request{them, "kms:Decrypt", keyARN, nil}, false},
		{"they delete the key", keyPolicy, request{them, "kms:ScheduleKeyDeletion", keyARN, via("s3")}, false},
		{"a stranger decrypts", keyPolicy, request{stranger, "kms:Decrypt", keyARN, via("s3")}, false},
		{"the topic sends", queue, request{"Service sns.amazonaws.com", "sqs:SendMessage", queueARN, map[string]string{"aws:SourceArn": a.topic}}, true},
		{"another topic sends", queue, request{"Service sns.amazonaws.com", "sqs:SendMessage", queueARN, map[string]string{"aws:SourceArn": other}}, false},
		{"the host reads the remote", host, request{"", "s3:GetObject", object, nil}, true},
		{"the host writes its record", host, request{"", "s3:PutObject", object + ".acks/web2.json", nil}, true},
		{"the host writes another's record", host, request{"", "s3:PutObject", object + ".acks/web1.json", nil}, false},
		{"the host decrypts by the store's key", host, request{"", "kms:Decrypt", keyARN, nil}, true},
		{"the host receives", host, request{"", "sqs:ReceiveMessage", queueARN, nil}, true},
	} {
		if got := c.policy.allows(c.request); got != c.allowed {
			t.Errorf("%s: allowed: %v", c.what, got)
		}
	}
}
