package main

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/kmsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// flake DIR NAME[,NAME...] VERSION [fails|throws|breaks]: writes a flake with a configuration of each name; it may be
// one that does not build, does not evaluate or does not switch.
func flakeCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 3, 4, "flake DIR NAME[,NAME...] VERSION [fails|throws|breaks]")
	s := nixtest.System{Version: args[2]}
	if len(args) == 4 {
		switch args[3] {
		case "fails":
			s.BuildFails = true
		case "throws":
			s.EvalFails = true
		case "breaks":
			s.SwitchExit = 1
		default:
			ts.Fatalf("there is no flake that %s", args[3])
		}
	}
	systems := map[string]nixtest.System{}
	for name := range strings.SplitSeq(args[1], ",") {
		systems[name] = s
	}
	ts.Check(nixtest.Flake(ts.MkAbs(args[0]), rigOf(ts).salt, systems))
}

const bucket = "fleet"

// cloud: starts an AWS with the bucket fleet and makes it the script's.
func cloudCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "cloud")
	cloud, err := awsfake.Start("")
	ts.Check(err)
	ts.Defer(cloud.Close)
	rigOf(ts).cloud = cloud
	for _, pair := range cloud.Env() {
		name, value, _ := strings.Cut(pair, "=")
		ts.Setenv(name, value)
	}
	_, err = s3Client(cloud).CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	ts.Check(err)
}

// kms: starts a KMS with a key of each name of kmsfake.ARN, and makes it the script's. $KMS begins their ARNs.
func kmsCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 0, 0, "kms")
	fake, err := kmsfake.Start()
	ts.Check(err)
	ts.Defer(fake.Close)
	for _, pair := range fake.Env() {
		name, value, _ := strings.Cut(pair, "=")
		ts.Setenv(name, value)
	}
	ts.Setenv("KMS", kmsfake.ARN(""))
}

func s3Client(cloud *awsfake.Cloud) *s3.Client {
	return s3.NewFromConfig(awsfake.Config(cloud.URL()), func(o *s3.Options) { o.UsePathStyle = true })
}

// bucket put FILE KEY, bucket delete KEY, bucket versioning STATUS: does that in the bucket fleet, as any tool can.
func bucketCmd(ts *testscript.TestScript, neg bool, args []string) {
	const synopsis = "bucket put FILE KEY | delete KEY | versioning STATUS"
	arguments(ts, neg, args, 2, 3, synopsis)
	ctx, client := context.Background(), s3Client(rigOf(ts).cloud)
	var err error
	switch args[0] {
	case "put":
		_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &args[2], Body: strings.NewReader(ts.ReadFile(args[1]))})
	case "delete":
		_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &args[1]})
	case "versioning":
		_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: aws.String(bucket), VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatus(args[1])},
		})
	default:
		ts.Fatalf("usage: %s", synopsis)
	}
	ts.Check(err)
}

// queue NAME: makes a queue that is told of everything put into the bucket; its URL is in $QUEUE.
func queueCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "queue NAME")
	ctx, cloud := context.Background(), rigOf(ts).cloud
	client := sqs.NewFromConfig(awsfake.Config(cloud.URL()))
	q, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &args[0]})
	ts.Check(err)
	a, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: q.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"},
	})
	ts.Check(err)
	_, err = s3Client(cloud).PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String(bucket),
		NotificationConfiguration: &s3types.NotificationConfiguration{QueueConfigurations: []s3types.QueueConfiguration{{
			QueueArn: aws.String(a.Attributes["QueueArn"]), Events: []s3types.Event{"s3:ObjectCreated:*"},
		}}},
	})
	ts.Check(err)
	ts.Setenv("QUEUE", *q.QueueUrl)
}

// fault SERVICE ACTION STATUS CODE: from now on the cloud answers these requests so.
func faultCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 4, 4, "fault SERVICE ACTION STATUS CODE")
	status, err := strconv.Atoi(args[2])
	ts.Check(err)
	rigOf(ts).cloud.Fault(awsfake.Call{Service: args[0], Action: args[1]}, awsfake.Effect{Status: status, Code: args[3]})
}

// webserver DIR [CERTIFICATE]: serves a folder at $WEB, which is http://$WEBHOST, or https if the file of its
// certificate is asked for. Files can be put into it; below /forbidden/ and /broken/ the answers are 403 and 500.
func webServerCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 2, "webserver DIR [CERTIFICATE]")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/forbidden/"):
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/broken/"):
			w.WriteHeader(http.StatusInternalServerError)
		case r.Method == http.MethodPut:
			body, err := io.ReadAll(r.Body)
			name := filepath.Join(dir, filepath.Clean("/"+r.URL.Path))
			if err == nil {
				err = os.MkdirAll(filepath.Dir(name), 0o755)
			}
			if err == nil {
				err = os.WriteFile(name, body, 0o644)
			}
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			w.WriteHeader(http.StatusCreated)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	if len(args) == 2 {
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
		server.StartTLS()
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644))
	} else {
		server.Start()
	}
	ts.Defer(server.Close)
	ts.Setenv("WEB", server.URL)
	ts.Setenv("WEBHOST", server.Listener.Addr().String())
}

// smalldisk DIR SIZE: mounts an empty file system of that size.
func smallDiskCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, 2, "smalldisk DIR SIZE")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	unmount, err := mountSmallDisk(dir, args[1])
	if err != nil {
		missing(ts, err)
	}
	ts.Defer(func() {
		if err := unmount(); err != nil {
			ts.Logf("unmount %s: %v", dir, err)
		}
	})
}
