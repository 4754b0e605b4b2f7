package integration

import (
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// leastPrivilege tries calls of each kind as every actor. Each call is allowed to one of them, so that it is the
// policy that denies it to the others.
//
// moto compares a call's action and resource with the policies, but looks at no condition, so that a gate
// can list all of the bucket here, not just its records (and of a prefix with a slash it gets the signature
// wrong); and it compares SNS's calls, and sqs:GetQueueUrl, with the resource "*" only, so that nobody but
// the administrator may call them. The modules' own tests assert these in the policies.
func (f *wiredFleet) leastPrivilege(t *testing.T) {
	const (
		dev     = "npcnix/remotes/dev.npcnix"
		prod    = "npcnix/remotes/prod.npcnix"
		records = ".acks/"
	)
	everybody := map[string]*actor{"admin": f.actor, "ci/dev": f.ci["dev"], "ci/prod": f.ci["prod"]}
	for name, host := range f.hosts {
		everybody[name] = host
	}
	put := func(key string) func(*actor) error {
		return func(a *actor) error { return a.put(key) }
	}
	get := func(key string) func(*actor) error {
		return func(a *actor) error {
			out, err := a.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
			if err == nil {
				err = out.Body.Close()
			}
			return err
		}
	}
	remove := func(key string) func(*actor) error {
		return func(a *actor) error {
			_, err := a.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: &key})
			return err
		}
	}
	receive := func(host string) func(*actor) error {
		queue := f.told.Hosts[host].QueueURL
		return func(a *actor) error {
			_, err := a.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &queue, WaitTimeSeconds: 0, VisibilityTimeout: 1})
			return err
		}
	}
	send := func(host string) func(*actor) error {
		queue := f.told.Hosts[host].QueueURL
		return func(a *actor) error {
			_, err := a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: aws.String("{}")})
			return err
		}
	}
	attributes := func(queue string) func(*actor) error {
		return func(a *actor) error {
			_, err := a.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
				QueueUrl: &queue, AttributeNames: []sqstypes.QueueAttributeName{"All"},
			})
			return err
		}
	}
	list := func(prefix string) func(*actor) error {
		return func(a *actor) error {
			_, err := a.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix})
			return err
		}
	}

	// A CI publishes first, as there must be something that could be read.
	for _, call := range []struct {
		what    string
		do      func(*actor) error
		allowed []string // beside the administrator; all others are denied
	}{
		{"put the remote prod", put(prod), []string{"ci/prod"}},
		{"put the remote dev", put(dev), []string{"ci/dev"}},
		{"read the remote prod", get(prod), []string{"ci/prod", "prod/web1", "prod/web2"}},
		{"read the remote dev", get(dev), []string{"ci/dev", "dev/web1"}},
		{"write dev/web1's record", put(dev + records + "web1.dev.json"), []string{"dev/web1"}},
		{"write prod/web1's record", put(prod + records + "web1.prod.json"), []string{"prod/web1"}},
		{"write prod/web2's record", put(prod + records + "web2.prod.json"), []string{"prod/web2"}},
		{"read dev/web1's record", get(dev + records + "web1.dev.json"), []string{"ci/dev"}},
		{"read prod/web1's record", get(prod + records + "web1.prod.json"), []string{"ci/prod"}},
		{"list records", list("npcnix"), []string{"ci/dev", "ci/prod"}},
		{"receive from dev/web1's queue", receive("dev/web1"), []string{"dev/web1"}},
		{"receive from prod/web1's queue", receive("prod/web1"), []string{"prod/web1"}},
		{"receive from prod/web2's queue", receive("prod/web2"), []string{"prod/web2"}},
		{"send to prod/web1's queue", send("prod/web1"), nil},
		{"read the attributes of dev/web1's queue", attributes(f.told.Hosts["dev/web1"].QueueURL), []string{"ci/dev", "dev/web1"}},
		{"read the attributes of prod/web2's queue", attributes(f.told.Hosts["prod/web2"].QueueURL), []string{"ci/prod", "prod/web2"}},
		{"read the attributes of prod/web1's dead letters", attributes(f.told.Hosts["prod/web1"].DeadLetters), []string{"ci/prod"}},
		{"put beside the remotes", put("npcnix/remotes/other.npcnix"), nil},
		{"delete a record", remove(prod + records + "web1.prod.json"), nil},
		{"delete the remote prod", remove(prod), nil},
	} {
		allowed := map[string]bool{"admin": true}
		for _, name := range call.allowed {
			if everybody[name] == nil {
				t.Fatalf("nobody is %s", name)
			}
			allowed[name] = true
		}
		try := func(name string) {
			err := call.do(everybody[name])
			var answer *smithyhttp.ResponseError // of SQS the SDK cannot read more: moto denies in XML, not JSON
			switch {
			case allowed[name] && err != nil:
				t.Errorf("%s cannot %s: %v", name, call.what, err)
			case !allowed[name] && err == nil:
				t.Errorf("%s may %s", name, call.what)
			case !allowed[name] && (!errors.As(err, &answer) || answer.HTTPStatusCode() != http.StatusForbidden):
				t.Errorf("%s cannot %s, but not for want of permission: %v", name, call.what, err)
			}
		}
		// Those who may come last: what one of them deletes, nobody could after it.
		for name := range everybody {
			if !allowed[name] {
				try(name)
			}
		}
		for _, name := range append(call.allowed, "admin") {
			try(name)
		}
	}
}
