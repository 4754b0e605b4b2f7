package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// credentialProcess prints what a file has, valid for ten seconds, and notes that it was asked.
const credentialProcess = `#!/bin/sh
cd "$(dirname "$0")" || exit
echo asked >>asked
sed "s/EXPIRES/$(date --utc --date '10 seconds' +%Y-%m-%dT%H:%M:%SZ)/" keys.json
`

const outsidePolicy = `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/KEY"},
{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::BUCKET/KEY.acks/web1.json"},
{"Effect":"Allow","Action":["sqs:ReceiveMessage","sqs:DeleteMessage*","sqs:ChangeMessageVisibility*","sqs:GetQueueAttributes"],"Resource":"*"}]}`

// A host outside EC2 has its credentials from a process, as docs/aws.md shows it. They are valid for a short time, and
// the ones before are deleted while the agent runs.
func TestAHostOutsideEC2(t *testing.T) {
	t.Parallel()
	endpoint := moto.Start(t)
	a := newAccount(t, endpoint)
	w := newWorld(t, endpoint)
	queue, _ := w.queue("web1", 10)
	h := newHost(a.world, "web1")
	a.aws("iam", "create-user", "--user-name", "web1")
	a.aws("iam", "put-user-policy", "--user-name", "web1", "--policy-name", "npcnix", "--policy-document",
		strings.NewReplacer("BUCKET", bucket, "KEY", key).Replace(outsidePolicy))
	newKey := func() (id string) {
		t.Helper()
		var made struct {
			AccessKey struct{ AccessKeyId, SecretAccessKey string }
		}
		a.parse(a.aws("iam", "create-access-key", "--user-name", "web1"), &made)
		h.must(os.WriteFile(h.path("keys.json.new"), []byte(`{"Version": 1, "AccessKeyId": "`+made.AccessKey.AccessKeyId+
			`", "SecretAccessKey": "`+made.AccessKey.SecretAccessKey+`", "Expiration": "EXPIRES"}`), 0o600))
		h.must(os.Rename(h.path("keys.json.new"), h.path("keys.json")))
		return made.AccessKey.AccessKeyId
	}
	first := newKey()
	h.must(os.WriteFile(h.path("credentials.sh"), []byte(credentialProcess), 0o755))
	h.must(os.WriteFile(h.path("aws"), []byte("[default]\ncredential_process = "+h.path("credentials.sh")+"\n"), 0o600))
	a.enforce()

	flake := filepath.Join(t.TempDir(), "nixos")
	publish := func(version string) {
		t.Helper()
		h.must(nixtest.Flake(flake, h.salt, map[string]nixtest.System{"web1": {Version: version}}))
		if out, code := h.commandIn(append(a.env(), nixtest.Env()...), "push", "--src", flake, "--remote", remote); code != 0 {
			t.Fatalf("push: exit code %d: %s", code, out)
		}
	}
	publish("one")
	h.configure(map[string]any{"remote": remote, "remote_region": awsfake.Region, "configuration": "web1", "host": "web1", "queue_url": queue, "poll_interval_secs": 3600})
	h.startIn(append(h.env(), "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_CONFIG_FILE="+h.path("aws"),
		"AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "AWS_EC2_METADATA_DISABLED=true"))
	h.await("the record", func() bool { return h.record().Status == record.Applied })

	newKey()
	a.aws("iam", "delete-access-key", "--user-name", "web1", "--access-key-id", first)
	publish("two")
	h.await("the second version", func() bool { return h.marker() == "two" && h.record().Status == record.Applied })
	asked, err := os.ReadFile(h.path("asked"))
	if n := strings.Count(string(asked), "asked"); err != nil || n < 2 {
		t.Errorf("the process was asked %d times, %v", n, err)
	}
}
