package awsfake_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// cli runs the real AWS CLI against a cloud and returns what it prints.
func cli(t *testing.T, cloud *awsfake.Cloud, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("aws")
	if err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	// The environment is enough but for "aws sqs", which has a notion of its own where SQS is.
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--endpoint-url", cloud.URL()}, args...)...)
	cmd.Env = append(os.Environ(), cloud.Env()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func TestCLI(t *testing.T) {
	t.Parallel()
	t.Run("copies files, and their events arrive", cliCopies)
	t.Run("sets up topics and queues", cliSetsUp)
}

func cliCopies(t *testing.T) {
	t.Parallel()
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket, queue := w.notified(t)
	dir := t.TempDir()
	for _, c := range []struct {
		key, event string
		size       int
	}{
		{"hosts/small one.npcnix", "ObjectCreated:Put", 1000},
		{"hosts/large.npcnix", "ObjectCreated:CompleteMultipartUpload", 9 << 20},
	} {
		t.Run(c.event, func(t *testing.T) {
			content := make([]byte, c.size)
			for i := range content {
				content[i] = byte(rand.Uint32())
			}
			up, down := filepath.Join(dir, "up"), filepath.Join(dir, "down")
			if err := os.WriteFile(up, content, 0o600); err != nil {
				t.Fatal(err)
			}
			object := "s3://" + bucket + "/" + c.key
			cli(t, cloud, "s3", "cp", "--no-progress", up, object)
			m := w.one(t, queue)
			if err := w.remove(t, queue, m.ReceiptHandle); err != nil { // else it comes back when the CLI is slow
				t.Fatal(err)
			}
			e := parse(t, *m.Body)
			if e.Name != c.event || e.S3.Object.Key != strings.ReplaceAll(c.key, " ", "+") || *e.S3.Object.Size != c.size {
				t.Errorf("event %+v", e)
			}
			cli(t, cloud, "s3", "cp", "--no-progress", object, down)
			if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(content))
			}
			var head struct {
				ContentLength int
				ETag          string
			}
			if err := json.Unmarshal([]byte(cli(t, cloud, "s3api", "head-object", "--bucket", bucket, "--key", c.key)), &head); err != nil {
				t.Fatal(err)
			}
			if head.ContentLength != c.size || strings.Trim(head.ETag, `"`) != e.S3.Object.ETag {
				t.Errorf("head %+v, event %+v", head, e)
			}
		})
	}
	if list := cli(t, cloud, "s3", "ls", "s3://"+bucket+"/hosts/"); !strings.Contains(list, "small one.npcnix") || !strings.Contains(list, "large.npcnix") {
		t.Errorf("listed:\n%s", list)
	}
}

func cliSetsUp(t *testing.T) {
	t.Parallel()
	cloud := start(t)
	var queue struct{ QueueUrl string }
	var topic struct{ TopicArn string }
	var received struct{ Messages []struct{ Body string } }
	for _, c := range []struct {
		into any
		args []string
	}{
		{&queue, []string{"sqs", "create-queue", "--queue-name", "web1", "--attributes", "VisibilityTimeout=120"}},
		{&topic, []string{"sns", "create-topic", "--name", "hosts"}},
	} {
		if err := json.Unmarshal([]byte(cli(t, cloud, c.args...)), c.into); err != nil {
			t.Fatal(err)
		}
	}
	cli(t, cloud, "sns", "subscribe", "--topic-arn", topic.TopicArn, "--protocol", "sqs",
		"--notification-endpoint", "arn:aws:sqs:us-east-1:123456789012:web1", "--attributes", "RawMessageDelivery=true")
	cli(t, cloud, "sns", "publish", "--topic-arn", topic.TopicArn, "--message", "hello")
	out := cli(t, cloud, "sqs", "receive-message", "--queue-url", queue.QueueUrl, "--wait-time-seconds", "5")
	if err := json.Unmarshal([]byte(out), &received); err != nil || len(received.Messages) != 1 || received.Messages[0].Body != "hello" {
		t.Errorf("received %s, %v", out, err)
	}
}
