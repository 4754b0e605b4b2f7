package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
)

// A fleet whose hosts a change of user data would replace, in a bucket that others look after too.
const changingRoot = `
provider "aws" {
  s3_use_path_style = true
}

variable "ami" {
  type = string
}

variable "versioning" {
  type    = string
  default = "Suspended"
}

variable "hosts" {
  type    = set(string)
  default = ["a"]
}

variable "replace" {
  type    = bool
  default = true
}

variable "manage_notification" {
  type    = bool
  default = true
}

variable "history" {
  type    = object({})
  default = null
}

resource "aws_s3_bucket" "fleet" {
  bucket        = "fleet"
  force_destroy = true
}

resource "aws_s3_bucket_versioning" "fleet" {
  bucket = aws_s3_bucket.fleet.id
  versioning_configuration {
    status = var.versioning
  }
}

module "store" {
  source              = "MODULES/store_s3"
  bucket              = aws_s3_bucket.fleet
  prefix              = "npcnix/remotes"
  remotes             = ["dev", "prod"]
  kms                 = true
  manage_notification = var.manage_notification
  history             = var.history
  topic_policy_statements = {
    Pipeline = { principals = [{ type = "AWS", identifiers = ["arn:aws:iam::123456789012:role/pipeline"] }] }
  }

  depends_on = [aws_s3_bucket_versioning.fleet] # nothing is published before there are versions
}

module "remote" {
  source = "MODULES/remote_s3"
  store  = module.store
  name   = "dev"
}

module "install" {
  source = "MODULES/install"
}

resource "aws_vpc" "fleet" {
  cidr_block = "10.0.0.0/16"
}

resource "aws_subnet" "fleet" {
  vpc_id     = aws_vpc.fleet.id
  cidr_block = "10.0.0.0/24"
}

module "web" {
  source                      = "MODULES/instance_multi"
  remote                      = module.remote
  install                     = module.install
  hostname_base               = "web"
  hosts                       = { for name in var.hosts : name => { subnet = aws_subnet.fleet } }
  vpc                         = aws_vpc.fleet
  ami                         = var.ami
  user_data_replace_on_change = var.replace
  tags                        = { team = "web" }
}

module "gate" {
  source = "MODULES/gate"
  remote = module.remote
}

output "applied" {
  value = {
    topics  = module.store.topic_arns
    key     = module.store.kms_key_arn
    queues  = { for name, queue in module.web.host_queue : name => { arn = queue.queue_arn, url = queue.queue_url, dead_arn = queue.dead_letter_queue_arn, dead_url = queue.dead_letter_queue_url } }
    roles   = { for name, role in module.web.role : name => role.name }
    names   = { for name, queue in module.web.host_queue : name => queue.policy_name }
    volumes = { for name, instance in module.web.instance : name => instance.root_block_device[0].volume_id }
    gate    = module.gate.policy_arn
  }
}
`

type appliedFleet struct {
	Topics map[string]string
	Key    string
	Queues map[string]struct {
		ARN, URL string
		DeadARN  string `json:"dead_arn"`
		DeadURL  string `json:"dead_url"`
	}
	Roles, Names, Volumes map[string]string
	Gate                  string
}

// A fleet is applied once, by OpenTofu, and then changed as fleets are.
func TestTerraformChangesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	a := newAccount(t, moto.Start(t))
	r := newRoot(t, tofuTool(t), changingRoot)
	a.must(os.WriteFile(filepath.Join(r.dir, "..", "host_queue", "moto_override.tf"), []byte(motoOverrides["host_queue"]), 0o644))
	image := strings.Trim(strings.TrimSpace(a.aws("ec2", "describe-images", "--query", "Images[0].ImageId")), `"`)
	r.env = append(a.env(), "TF_VAR_ami="+image)
	r.must("apply", "-auto-approve")
	r.must("plan", "-detailed-exitcode")
	var out struct{ Applied struct{ Value appliedFleet } }
	a.parse(r.tool.run(t, r.dir, r.env, "output", "-json"), &out)
	fleet := out.Applied.Value

	t.Run("the policies admit each step of a publish, and nobody else", func(t *testing.T) {
		policiesAdmit(t, a, fleet)
	})
	t.Run("AWS takes the policies", func(*testing.T) {
		r.policySizes("aws_iam_policy", "aws_iam_role", "aws_iam_role_policy", "aws_kms_key", "aws_sns_topic_policy", "aws_sqs_queue_policy")
	})
	t.Run("the root volume has the tags of its host", func(t *testing.T) {
		tags := a.aws("ec2", "describe-volumes", "--volume-ids", fleet.Volumes["a"], "--query", "Volumes[].Tags[]")
		if !strings.Contains(tags, `"a.web"`) || !strings.Contains(tags, `"team"`) {
			t.Errorf("tags: %s", tags)
		}
	})
	changesOfPlans(t, r)
	handOvers(t, a, r, fleet)
}

// changesOfPlans plans and applies nothing.
func changesOfPlans(t *testing.T, r *root) {
	t.Run("another versioning of the bucket changes no host", func(t *testing.T) {
		p := r.plan("-var", "versioning=Enabled")
		want := []string{"aws_s3_bucket_versioning.fleet: update", "module.store.aws_kms_key.store[0]: update"}
		if got := p.changes(""); !slices.Equal(got, want) {
			t.Errorf("it changes %q, want %q", got, want)
		}
	})
	t.Run("a history of the bucket changes no host", func(t *testing.T) {
		p := r.plan("-var", "history={}")
		want := []string{"module.store.aws_s3_bucket_lifecycle_configuration.store[0]: create", "module.store.aws_s3_bucket_versioning.store[0]: create"}
		if got := p.changes(""); !slices.Equal(got, want) {
			t.Errorf("it changes %q, want %q", got, want)
		}
	})
	t.Run("a host more or less changes no other, and no policy of what all share", func(t *testing.T) {
		changesOneHost(t, r.plan("-var", `hosts=["a", "b"]`), "b", "create")
		changesOneHost(t, r.plan("-var", "hosts=[]"), "a", "delete")
	})
	t.Run("a host that is renamed is destroyed, unless a moved block says what became of it", func(t *testing.T) {
		renamed := []string{"-var", `hosts=["b"]`}
		if got := r.plan(renamed...).changes("aws_instance"); !slices.Equal(got, []string{
			`module.web.module.instance["a"].aws_instance.host[0]: delete`, `module.web.module.instance["b"].aws_instance.host[0]: create`,
		}) {
			t.Errorf("without a moved block: %q; docs/terraform.md says otherwise", got)
		}
		r.write("moved.tf", readmeBlock(t, "instance_multi", "moved {", `"c"`, `"b"`))
		defer os.Remove(filepath.Join(r.dir, "moved.tf"))
		if got := r.plan(append(renamed, "-var", "replace=false")...).changes("aws_instance"); !slices.Equal(got, []string{
			`module.web.module.instance["b"].aws_instance.host[0]: update`,
		}) {
			t.Errorf("with a moved block: %q", got)
		}
	})
}

// handOvers moves the store's key and the bucket's notification to the root, and destroys all in the end.
func handOvers(t *testing.T, a *account, r *root, fleet appliedFleet) {
	t.Run("the store's key is handed over, and not deleted", func(t *testing.T) {
		r.write("key.tf", "data \"aws_caller_identity\" \"current\" {}\n"+readmeBlock(t, "store_s3", `resource "aws_kms_key" "fleet" {`)+readmeBlock(t, "store_s3", "moved {\n  from = module.store.aws_kms_key.store[0]"))
		r.write("key_override.tf", "module \"store\" {\n  kms         = false\n  kms_key_arn = aws_kms_key.fleet.arn\n}\n")
		if got := r.plan().changes(""); !slices.Equal(got, []string{"aws_kms_key.fleet: update"}) {
			t.Errorf("it changes %q", got)
		}
		r.must("apply", "-auto-approve", "plan")
		r.must("plan", "-detailed-exitcode")
		policiesAdmit(t, a, fleet)
	})
	t.Run("the notification is handed over without a gap", func(t *testing.T) {
		r.write("owner.tf", readmeBlock(t, "store_s3", `resource "aws_s3_bucket_notification" "owner" {`)+readmeBlock(t, "store_s3", "moved {"))
		args := []string{"-var", "manage_notification=false"}
		for _, change := range r.plan(args...).changes("aws_s3_bucket_notification") {
			if strings.Contains(change, "create") || strings.Contains(change, "delete") || !strings.HasPrefix(change, "aws_s3_bucket_notification.owner: ") {
				t.Errorf("it is not moved: %s", change)
			}
		}
		r.must(append([]string{"apply", "-auto-approve"}, args...)...)
		if got := a.aws("s3api", "get-bucket-notification-configuration", "--bucket", bucket); strings.Count(got, fleet.Topics["dev"])+strings.Count(got, fleet.Topics["prod"]) != 2 {
			t.Errorf("the bucket's notification: %s", got)
		}
		r.must(append([]string{"plan", "-detailed-exitcode"}, args...)...)
		r.must(append([]string{"destroy", "-auto-approve"}, args...)...)
	})
}

// changesOneHost checks that a plan does one thing, and that to what one host of instance_multi has.
func changesOneHost(t *testing.T, p plan, host, action string) {
	t.Helper()
	changes := p.changes("")
	if len(changes) < 8 {
		t.Errorf("it changes too little: %q", changes)
	}
	for _, change := range changes {
		if !strings.Contains(change, `.module.instance["`+host+`"].`) || !strings.HasSuffix(change, ": "+action) {
			t.Errorf("%s of %s: it changes %s", action, host, change)
		}
	}
}

const takenOver = `
provider "aws" {}

variable "region" {
  type = string
}

variable "bucket" {
  type = string
}

resource "aws_s3_bucket" "store" {
  bucket        = var.bucket
  force_destroy = true
}

module "store" {
  source  = "MODULES/store_s3"
  bucket  = aws_s3_bucket.store
  prefix  = "npcnix/remotes"
  remotes = ["dev"]
}
`

// The bucket of store_s3 becomes that of the example bring-your-own-topic: its one notification is updated, and is at
// no time absent.
func TestTheExampleOfAnOwnTopicTakesOver(t *testing.T) {
	t.Parallel()
	a := newAccount(t, moto.Start(t))
	r := newRoot(t, terraformTool(t), takenOver)
	r.env = append(a.env(), "TF_VAR_region="+awsfake.Region, "TF_VAR_bucket="+bucket)
	r.write("provider_override.tf", "provider \"aws\" {\n  s3_use_path_style = true\n}\n")
	r.must("apply", "-auto-approve")

	example, err := os.ReadFile(filepath.Join("..", "terraform", "examples", "bring-your-own-topic", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	variables, err := os.ReadFile(filepath.Join("..", "terraform", "examples", "bring-your-own-topic", "variables.tf"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("main.tf", moduleSource.ReplaceAllString(string(example), "module \"$1\" {\n  source = \"../$2\""))
	r.write("variables.tf", string(variables))
	r.must("init")
	if got := r.plan().changes("aws_s3_bucket_notification"); !slices.Equal(got, []string{"aws_s3_bucket_notification.store: update"}) {
		t.Errorf("the plan of the example: %q", got)
	}
}

// readmeBlock takes the first block of HCL with that opening line from a module's README.
func readmeBlock(t *testing.T, module, opening string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "terraform", module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n"+opening)
	body, _, closed := strings.Cut(rest, "\n}\n")
	if !found || !closed {
		t.Fatalf("the README of %s has no block %q", module, opening)
	}
	return strings.NewReplacer(replace...).Replace(opening+body) + "\n}\n"
}

// policiesAdmit evaluates the policies that the account holds: moto enforces none of them.
func policiesAdmit(t *testing.T, a *account, fleet appliedFleet) {
	const us, bucketARN = "123456789012", "arn:aws:s3:::" + bucket
	document := func(query string, args ...string) policy {
		t.Helper()
		text := strings.TrimSpace(a.aws(append(args, "--query", query)...))
		if strings.HasPrefix(text, `"`) {
			var inner string
			a.parse(text, &inner)
			text = inner
		}
		return parsePolicy(t, text)
	}
	topic, queue := fleet.Topics["dev"], fleet.Queues["a"]
	sqsPolicy := func(url string) policy {
		return document("Attributes.Policy", "sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names", "Policy")
	}
	gate := document("PolicyVersion.Document", "iam", "get-policy-version", "--policy-arn", fleet.Gate, "--version-id", "v1")
	host := document("PolicyDocument", "iam", "get-role-policy", "--role-name", fleet.Roles["a"], "--policy-name", fleet.Names["a"])
	topicPolicy := document("Attributes.Policy", "sns", "get-topic-attributes", "--topic-arn", topic)
	keyPolicy := document("Policy", "kms", "get-key-policy", "--key-id", fleet.Key, "--policy-name", "default")
	queuePolicy, deadPolicy := sqsPolicy(queue.URL), sqsPolicy(queue.DeadURL)

	from := func(source, account string) map[string]string {
		return map[string]string{"aws:SourceArn": source, "aws:SourceAccount": account}
	}
	object := bucketARN + "/" + key
	const s3Service, snsService = "Service s3.amazonaws.com", "Service sns.amazonaws.com"
	for _, c := range []struct {
		what   string
		policy policy
		request
		allowed bool
	}{
		{"the bucket publishes", topicPolicy, request{s3Service, "sns:Publish", topic, from(bucketARN, us)}, true},
		{"another bucket publishes", topicPolicy, request{s3Service, "sns:Publish", topic, from("arn:aws:s3:::other", us)}, false},
		{"a bucket of that name in another account publishes", topicPolicy, request{s3Service, "sns:Publish", topic, from(bucketARN, "210987654321")}, false},
		{"a request without a source publishes", topicPolicy, request{s3Service, "sns:Publish", topic, nil}, false},
		{"the pipeline publishes, by a statement that was added", topicPolicy, request{"AWS arn:aws:iam::" + us + ":role/pipeline", "sns:Publish", topic, nil}, true},
		{"the pipeline subscribes", topicPolicy, request{"AWS arn:aws:iam::" + us + ":role/pipeline", "sns:Subscribe", topic, nil}, false},
		{"another role publishes", topicPolicy, request{"AWS arn:aws:iam::" + us + ":role/other", "sns:Publish", topic, nil}, false},
		{"the bucket encrypts what it publishes", keyPolicy, request{s3Service, "kms:GenerateDataKey", fleet.Key, from(bucketARN, us)}, true},
		{"another bucket encrypts", keyPolicy, request{s3Service, "kms:GenerateDataKey", fleet.Key, from("arn:aws:s3:::other", us)}, false},
		{"the topic decrypts that", keyPolicy, request{snsService, "kms:Decrypt", fleet.Key, from(topic, us)}, true},
		{"the topic encrypts for the queue", keyPolicy, request{snsService, "kms:GenerateDataKey", fleet.Key, from(topic, us)}, true},
		{"a topic of another account decrypts", keyPolicy, request{snsService, "kms:Decrypt", fleet.Key, from(strings.Replace(topic, us, "210987654321", 1), "210987654321")}, false},
		{"the account's IAM decides about the key", keyPolicy, request{"AWS arn:aws:iam::" + us + ":root", "kms:Decrypt", fleet.Key, nil}, true},
		{"the topic sends", queuePolicy, request{snsService, "sqs:SendMessage", queue.ARN, from(topic, us)}, true},
		{"another topic sends", queuePolicy, request{snsService, "sqs:SendMessage", queue.ARN, from(fleet.Topics["prod"], us)}, false},
		{"the topic receives", queuePolicy, request{snsService, "sqs:ReceiveMessage", queue.ARN, from(topic, us)}, false},
		{"the bucket sends, past the topic", queuePolicy, request{s3Service, "sqs:SendMessage", queue.ARN, from(bucketARN, us)}, false},
		{"the topic sends what it could not deliver", deadPolicy, request{snsService, "sqs:SendMessage", queue.DeadARN, from(topic, us)}, true},
		{"the host receives", host, request{"", "sqs:ReceiveMessage", queue.ARN, nil}, true},
		{"the host takes from its dead letters", host, request{"", "sqs:ReceiveMessage", queue.DeadARN, nil}, false},
		{"the host fetches", host, request{"", "s3:GetObject", object, nil}, true},
		{"the host decrypts the remote", host, request{"", "kms:Decrypt", fleet.Key, nil}, true},
		{"the host encrypts its record", host, request{"", "kms:GenerateDataKey", fleet.Key, nil}, true},
		{"the host schedules the key's deletion", host, request{"", "kms:ScheduleKeyDeletion", fleet.Key, nil}, false},
		{"the host fetches another remote", host, request{"", "s3:GetObject", bucketARN + "/npcnix/remotes/prod.npcnix", nil}, false},
		{"the host writes its record", host, request{"", "s3:PutObject", object + ".acks/a.web.json", nil}, true},
		{"the host writes another's record", host, request{"", "s3:PutObject", object + ".acks/b.web.json", nil}, false},
		{"the host publishes", host, request{"", "s3:PutObject", object, nil}, false},
		{"CI publishes", gate, request{"", "s3:PutObject", object, nil}, true},
		{"CI lists records", gate, request{"", "s3:ListBucket", bucketARN, map[string]string{"s3:prefix": key + ".acks/"}}, true},
		{"CI lists the bucket", gate, request{"", "s3:ListBucket", bucketARN, map[string]string{"s3:prefix": "npcnix/"}}, false},
		{"CI lists the subscriptions", gate, request{"", "sns:ListSubscriptionsByTopic", topic, nil}, true},
		{"CI lists those of another remote", gate, request{"", "sns:ListSubscriptionsByTopic", fleet.Topics["prod"], nil}, false},
		{"CI reads the queue's depth", gate, request{"", "sqs:GetQueueAttributes", queue.ARN, nil}, true},
		{"CI takes messages", gate, request{"", "sqs:ReceiveMessage", queue.ARN, nil}, false},
		{"CI writes a record", gate, request{"", "s3:PutObject", object + ".acks/a.web.json", nil}, false},
	} {
		if got := c.policy.allows(c.request); got != c.allowed {
			shown, _ := json.Marshal(c.policy)
			t.Errorf("%s: allowed: %v, by %s", c.what, got, shown)
		}
	}
}
