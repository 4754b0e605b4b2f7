package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/integration/moto"
)

const fleetRoot = `
provider "aws" {
  s3_use_path_style = true
}

variable "ami" {
  type = string
}

variable "hosts" {
  type = number
}

resource "aws_s3_bucket" "fleet" {
  bucket = "fleet"
}

module "store" {
  source  = "MODULES/store_s3"
  bucket  = aws_s3_bucket.fleet
  prefix  = "npcnix/remotes"
  remotes = ["dev"]
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
  cidr_block = "10.0.0.0/20"
}

module "hosts" {
  source        = "MODULES/instance_multi"
  remote        = module.remote
  install       = module.install
  hostname_base = "web"
  hosts         = { for i in range(var.hosts) : format("h%03d", i) => { subnet = aws_subnet.fleet } }
  vpc           = aws_vpc.fleet
  ami           = var.ami
  alarms        = { actions = [] }
}

output "user_data" {
  value = module.hosts.user_data
}

output "policies" {
  value = module.hosts.policy_json
}
`

// A fleet larger than those of the other tests, for its size: make matrix prints the log.
func TestALargeFleetIsPlannedAppliedAndDestroyed(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_FLEET") == "" {
		t.Skip("it takes long: make matrix sets NPCNIX_TEST_FLEET")
	}
	var applied, planned int
	if _, err := fmt.Sscanf(os.Getenv("NPCNIX_TEST_FLEET"), "%d,%d", &applied, &planned); err != nil {
		t.Fatalf("NPCNIX_TEST_FLEET is not APPLIED,PLANNED: %v", err)
	}
	a := newAccount(t, moto.Start(t))
	r := newRoot(t, terraformTool(t), fleetRoot)
	r.limit = 40 * time.Minute // moto takes most of it
	a.must(os.WriteFile(filepath.Join(r.dir, "..", "host_queue", "moto_override.tf"), []byte(motoOverrides["host_queue"]), 0o644))
	image := strings.Trim(strings.TrimSpace(a.aws("ec2", "describe-images", "--query", "Images[0].ImageId")), `"`)
	size := func(hosts int) { r.env = append(a.env(), "TF_VAR_ami="+image, fmt.Sprint("TF_VAR_hosts=", hosts)) }
	timed := func(what string, do func()) {
		start := time.Now()
		do()
		t.Logf("%s: %.0f s", what, time.Since(start).Seconds())
	}

	size(planned)
	timed(fmt.Sprintf("plan of %d hosts", planned), func() {
		t.Logf("%d hosts are %d resources", planned, len(r.plan().changes("")))
	})
	size(applied)
	timed(fmt.Sprintf("apply of %d hosts", applied), func() { r.must("apply", "-auto-approve", "-parallelism=50") })
	timed("the plan after it, which is empty", func() { r.must("plan", "-detailed-exitcode") })

	size(applied + 1)
	changesOneHost(t, r.plan(), fmt.Sprintf("h%03d", applied), "create")
	size(applied - 1)
	changesOneHost(t, r.plan(), fmt.Sprintf("h%03d", applied-1), "delete")
	size(applied)

	var out struct {
		UserData struct{ Value map[string]string } `json:"user_data"`
		Policies struct{ Value map[string]string } `json:"policies"`
	}
	if err := json.Unmarshal([]byte(r.tool.run(t, r.dir, r.env, "output", "-json")), &out); err != nil {
		t.Fatal(err)
	}
	largest := func(what string, texts map[string]string, limit int) {
		longest := 0
		for _, text := range texts {
			longest = max(longest, len(text))
		}
		t.Logf("largest %s: %d bytes of %d", what, longest, limit)
		if len(texts) != applied || longest == 0 || longest > limit {
			t.Errorf("%d of %s, the largest of %d bytes", len(texts), what, longest)
		}
	}
	largest("user data", out.UserData.Value, 16384)
	largest("policy of a host", out.Policies.Value, 10240)
	r.policySizes("aws_iam_role", "aws_iam_role_policy", "aws_sns_topic_policy", "aws_sqs_queue_policy")

	timed("destroy", func() { r.must("destroy", "-auto-approve", "-parallelism=50") })
	if left := a.left(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
