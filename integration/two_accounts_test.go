package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The store of the example is in one account and region; its hosts are of another account, and near is where the
// queue of one of them is.
const theirs, near = "210987654321", "eu-west-1"

// twoSides is the example, applied: the store's account, and the hosts'.
type twoSides struct {
	*account         // the store's
	them      *actor // the hosts' account
	apply     func(args ...string) string
	edit      func(version string)
	hosts     map[string]*host
	told      twoSidesTold
	own       string // the name of the queue that web3 makes
	relay     string // a queue of the store's account, and its dead-letter queue
	relayDead string
}

type twoSidesTold struct {
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

// The example of two regions and two accounts, applied on moto, where hosts of the other account hear of publishes:
// with a queue in the store's region, with one in another region, and with one that the host makes itself. moto keeps
// accounts and regions apart, but has a topic send to subscriptions of its own account only, so the test carries what the
// topic sends to a queue there. And it enforces no policy across accounts: admits evaluates those.
func TestTwoRegionsTwoAccounts(t *testing.T) {
	t.Parallel()
	s := applyTwoSides(t)
	s.startHosts()
	for _, h := range s.hosts {
		h.await("the first version of "+h.name, func() bool { return h.record().Status == record.Applied && h.marker() == "one" })
	}
	await(t, "the subscriptions", func() bool { return len(s.them.subscriptions()) == 3 })
	subscribed, err := s.them.sns.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &s.topic})
	s.must(err)
	for _, one := range subscribed.Subscriptions {
		region := awsfake.Region
		if strings.Contains(*one.Endpoint, "web2") {
			region = near
		}
		if *one.Owner != theirs || !strings.HasPrefix(*one.Endpoint, "arn:aws:sqs:"+region+":"+theirs+":npcnix-dev-") {
			t.Errorf("%s is subscribed by %s", *one.Endpoint, *one.Owner)
		}
	}

	s.edit("two")
	s.apply("apply", "-auto-approve")
	s.carry()
	for _, h := range s.hosts {
		h.await("the event of "+h.name, func() bool { return h.marker() == "two" && h.record().Trigger == record.Event })
	}
	t.Run("the policies admit the other account, and nobody else", s.admits)
	t.Run("the doctor of a host finds its queue and subscription", func(t *testing.T) {
		for name, queue := range map[string]string{"web1": "npcnix-dev-web1-", "web3": s.own} { // of web2's, moto's URL does not name the region
			said, code := s.hosts[name].commandIn(s.them.env(), "doctor")
			if !strings.Contains(strings.Join(strings.Fields(said), " "), "ok subscription the topic sends to arn:aws:sqs:"+awsfake.Region+":"+theirs+":"+queue) {
				t.Errorf("doctor of %s: exit code %d: %s", name, code, said)
			}
		}
	})
	for _, h := range s.hosts {
		h.terminate()
	}
	if said, code := s.hosts["web3"].commandIn(append(s.them.env(), "AWS_REGION="+near), "leave"); code != 0 {
		t.Errorf("leave: exit code %d: %s", code, said)
	}
	for _, queue := range []string{s.relay, s.relayDead} {
		_, err := s.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &queue})
		s.must(err)
	}
	s.apply("destroy", "-auto-approve")
	for _, who := range []*account{s.account, {s.them}} {
		left := who.left()
		delete(left, "sns list-subscriptions --query Subscriptions[].SubscriptionArn") // moto keeps those of a topic that is gone
		if len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// applyTwoSides applies the example.
func applyTwoSides(t *testing.T) *twoSides {
	with, tree := terraformTool(t), terraformTree(t)
	a := newAccount(t, moto.Start(t))
	role := "arn:aws:iam::" + theirs + ":role/terraform"
	dir := filepath.Join(tree, "examples", "two-regions-two-accounts")
	a.must(os.WriteFile(filepath.Join(tree, "host_queue", "moto_override.tf"), []byte(motoOverrides["host_queue"]), 0o644))
	a.must(os.WriteFile(filepath.Join(dir, "key.tf"), []byte("output \"key\" {\n  value = module.store.kms_key_arn\n}\n"), 0o644))
	flake, salt := filepath.Join(t.TempDir(), "nixos"), nixtest.Salt()
	env := append(a.env(), "PATH="+filepath.Dir(npcnix)+":"+os.Getenv("PATH"), "TF_VAR_bucket="+bucket, "TF_VAR_force_destroy=true",
		"TF_VAR_region="+awsfake.Region, "TF_VAR_hosts_region="+near, "TF_VAR_hosts_role_arn="+role, "TF_VAR_flake_dir="+flake)
	s := &twoSides{
		account: a, them: a.assume(role), hosts: map[string]*host{},
		apply: func(args ...string) string { return with.run(t, dir, env, args...) },
		edit: func(version string) {
			one := nixtest.System{Version: version}
			a.must(nixtest.Flake(flake, salt, map[string]nixtest.System{"web1": one, "web2": one, "web3": one}))
		},
	}
	s.edit("one")
	with.run(t, dir, nil, "init")
	s.apply("apply", "-auto-approve")
	s.apply("plan", "-detailed-exitcode")
	a.parse(s.apply("output", "-json"), &s.told)
	s.topic = s.told.Remote.Value.Topic
	s.them.topic = s.topic
	s.own = events.OwnQueueName(s.topic, remote, "web3")
	s.relay, s.relayDead = a.queue("relay", 10)
	return s
}

// startHosts starts the hosts' agents with credentials of their account.
func (s *twoSides) startHosts() {
	for name, region := range map[string]string{"web1": awsfake.Region, "web2": near, "web3": near} {
		queue := map[string]any{"queue_url": "auto", "topic_arn": s.topic}
		if made, known := s.told.Hosts.Value[name]; known {
			queue = map[string]any{"queue_url": made.QueueURL}
		}
		h := newHost(s.world, name)
		h.configure(map[string]any{"remote": remote, "remote_region": awsfake.Region, "configuration": name, "host": name})
		h.configure(queue)
		h.startIn(append(s.them.env(), "AWS_REGION="+region)) // a queue's URL names its region on AWS, and not on moto
		s.hosts[name] = h
	}
}

// carry sends what the topic sends to a queue of its account to the queues of the other.
func (s *twoSides) carry() {
	var event *string
	await(s.t, "what the topic sends", func() bool {
		got, err := s.sqs.ReceiveMessage(s.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &s.relay})
		s.must(err)
		for _, message := range got.Messages {
			event = message.Body
		}
		return event != nil
	})
	for queue, region := range map[string]string{
		s.told.Hosts.Value["web1"].QueueURL: awsfake.Region, s.told.Hosts.Value["web2"].QueueURL: near, s.them.queueURL(s.own): awsfake.Region,
	} {
		_, err := s.them.sqs.SendMessage(s.t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: event}, func(o *sqs.Options) { o.Region = region })
		s.must(err)
	}
}

// admits evaluates the policies of topic, bucket, key and queue, each as its side holds it.
func (s *twoSides) admits(t *testing.T) {
	a, b, keyARN, web2 := s.account, s.them, s.told.Key.Value, s.told.Hosts.Value["web2"]
	queueURL, policyARN := web2.QueueURL, web2.PolicyARN
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
