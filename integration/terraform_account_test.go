package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// account is an AWS account on a moto_server. Its administrator is a user of its IAM, so after enforce
// only the administrator's calls are answered, and those of the roles that were assumed before.
type account struct {
	*actor // the administrator
}

// actor is a role or user with credentials, and the clients that use them.
type actor struct {
	*world
	credentials aws.Credentials
}

func newAccount(t *testing.T, endpoint string) *account {
	t.Helper()
	anybody := newActor(t, endpoint, aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"})
	anybody.aws("iam", "create-user", "--user-name", "admin")
	anybody.aws("iam", "put-user-policy", "--user-name", "admin", "--policy-name", "all", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	var made struct {
		AccessKey struct{ AccessKeyId, SecretAccessKey string }
	}
	anybody.parse(anybody.aws("iam", "create-access-key", "--user-name", "admin"), &made)
	key := made.AccessKey
	return &account{newActor(t, endpoint, aws.Credentials{AccessKeyID: key.AccessKeyId, SecretAccessKey: key.SecretAccessKey})}
}

func newActor(t *testing.T, endpoint string, c aws.Credentials) *actor {
	cfg := awsfake.Config(endpoint)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
	return &actor{credentials: c, world: &world{
		t: t, endpoint: endpoint, sqs: sqs.NewFromConfig(cfg), sns: sns.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }),
	}}
}

// env is the environment of a child process that has the actor's credentials and no others.
func (a *actor) env() []string {
	env := append(a.world.env(), "AWS_ACCESS_KEY_ID="+a.credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+a.credentials.SecretAccessKey)
	if a.credentials.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+a.credentials.SessionToken)
	}
	return env
}

// aws runs the AWS CLI as the actor and returns what it printed.
func (a *actor) aws(args ...string) string {
	a.t.Helper()
	cmd := exec.Command(need(a.t, "aws"), append([]string{"--endpoint-url", a.endpoint, "--output", "json"}, args...)...)
	cmd.Env = a.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (a *actor) parse(data string, into any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(data), into); err != nil {
		a.t.Fatalf("%v in %s", err, data)
	}
}

// assume returns an actor with temporary credentials of a role. It works before enforce only: then moto
// would look at the trust policy, which lets EC2's machines assume a host's role, and nobody else.
func (a *account) assume(role string) *actor {
	a.t.Helper()
	var made struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	a.parse(a.aws("sts", "assume-role", "--role-arn", role, "--role-session-name", "test"), &made)
	c := made.Credentials
	return newActor(a.t.(*testing.T), a.endpoint, aws.Credentials{
		AccessKeyID: c.AccessKeyId, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
	})
}

// enforce makes moto check signatures and policies from now on.
func (a *account) enforce() {
	a.t.Helper()
	response, err := http.Post(a.endpoint+"/moto-api/reset-auth", "text/plain", strings.NewReader("0"))
	a.must(err)
	_ = response.Body.Close() // nothing was written
	if response.StatusCode != http.StatusOK {
		a.t.Fatalf("switch enforcement on: %s", response.Status)
	}
}

// left says what the account holds of all that the modules can make, by the command that lists it.
func (a *account) left() map[string]string {
	a.t.Helper()
	left := map[string]string{}
	for _, list := range []string{
		"s3api list-buckets --query Buckets[].Name",
		"sns list-topics --query Topics[].TopicArn",
		"sns list-subscriptions --query Subscriptions[].SubscriptionArn",
		"sqs list-queues --query QueueUrls",
		"cloudwatch describe-alarms --query MetricAlarms[].AlarmName",
		"iam list-roles --query Roles[].RoleName",
		"iam list-policies --scope Local --query Policies[].PolicyName",
		"iam list-instance-profiles --query InstanceProfiles[].InstanceProfileName",
		"autoscaling describe-auto-scaling-groups --query AutoScalingGroups[].AutoScalingGroupName",
		"ec2 describe-launch-templates --query LaunchTemplates[].LaunchTemplateName",
		"ec2 describe-instances --query Reservations[].Instances[?State.Name!='terminated'][].InstanceId",
		"ec2 describe-security-groups --query SecurityGroups[?GroupName!='default'].GroupId",
		"ec2 describe-volumes --query Volumes[].VolumeId",
		"ec2 describe-addresses --query Addresses[].PublicIp",
	} {
		switch found := strings.TrimSpace(a.aws(strings.Fields(list)...)); found {
		case "", "[]", "null":
		default:
			left[list] = found
		}
	}
	return left
}
