package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The commands that docs/aws.md tells an operator to run make a chain that works.
func TestDocsWiring(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "aws.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(doc), "```sh\n")
	script, _, found := strings.Cut(script, "```\n")
	if !found {
		t.Fatal("docs/aws.md holds no script")
	}
	w := worldAt(t, moto.Start(t))
	// AWS CLI 1 takes the endpoint of SQS from its flag alone.
	bin := t.TempDir()
	w.must(os.WriteFile(filepath.Join(bin, "aws"), []byte("#!/bin/sh\nexec "+need(t, "aws")+` --endpoint-url "$AWS_ENDPOINT_URL" "$@"`+"\n"), 0o755))
	cmd := exec.Command("bash", "-c", script)
	cmd.Env = append(w.env(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the script: %v\n%s", err, out)
	}
	lines := strings.Fields(string(out))
	queue := lines[len(lines)-1]
	if tags, err := w.sqs.ListQueueTags(t.Context(), &sqs.ListQueueTagsInput{QueueUrl: &queue}); err != nil || tags.Tags["npcnix:host"] != "web1" {
		t.Errorf("the queue's tags, by which npcnix wait knows the host: %v, %v", tags, err)
	}
	if !strings.Contains(queue, "/npcnix-dev-") {
		t.Errorf("the queue %s is none that the policy of the Terraform module gate lets CI read", queue)
	}

	h := newHost(w, "web1")
	h.pack(nixtest.System{Version: "one"})
	w.copy(h.path("flake.npcnix"), "s3://my-fleet/npcnix/remotes/dev.npcnix")
	await(t, "the event in the queue", func() bool { visible, _ := w.depth(queue); return visible != "0" })
}
