package doctor

import (
	"net/url"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/events"
)

func TestPolicy(t *testing.T) {
	ask := question{
		service: "s3.amazonaws.com", action: "sns:Publish", resource: "arn:aws:sns:eu-west-1:123456789012:dev",
		context: map[string]string{"aws:sourcearn": "arn:aws:s3:::fleet", "aws:securetransport": "true"},
	}
	allow := func(rest string) string {
		return `{"Statement":[{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"sns:Publish","Resource":"*"` + rest + `}]}`
	}
	deny := func(rest string) string {
		return strings.TrimSuffix(allow(""), "]}") + `,{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"` + rest + `}]}`
	}
	for _, row := range []struct {
		name, policy string
		want         Verdict
		why          string
	}{
		{"none", "", Wrong, "no policy"},
		{"garbage", "{", Unknown, "cannot be read"},
		{"the plainest", allow(""), OK, ""},
		{"one statement without a list", `{"Statement":{"Effect":"Allow","Principal":"*","Action":["SNS:*"],"Resource":["arn:aws:sns:*:*:dev"]}}`, OK, ""},
		{"everyone of AWS", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sns:Pub*","Resource":"*"}]}`, OK, ""},
		{"another action", `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sns:Subscribe","Resource":"*"}]}`, Wrong, "no statement"},
		{"another resource", `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sns:Publish","Resource":"arn:aws:sns:eu-west-1:123456789012:prod"}]}`, Wrong, "no statement"},
		{"a role", `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sns:Publish","Resource":"*"}]}`, Wrong, "no statement"},
		{"the bucket, by a pattern", allow(`,"Condition":{"ArnLike":{"aws:SourceArn":["arn:aws:s3:*:*:fl??t"]}}`), OK, ""},
		{"the bucket, in another case of the key", allow(`,"Condition":{"StringEquals":{"AWS:SourceArn":"arn:aws:s3:::fleet"}}`), OK, ""},
		{"another bucket", allow(`,"Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:s3:::other"}}`), Wrong, "arn:aws:s3:::other, and not for arn:aws:s3:::fleet"},
		{"an account that is not known", allow(`,"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}`), Unknown, "aws:SourceAccount"},
		{"another bucket, and an account that is not known", allow(`,"Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:s3:::other"},"StringEquals":{"aws:SourceAccount":"1"}}`), Wrong, "arn:aws:s3:::other"},
		{"an operator that is not known", allow(`,"Condition":{"StringNotLike":{"aws:SourceArn":"x"}}`), Unknown, "StringNotLike"},
		{"plain transport denied", deny(`,"Condition":{"Bool":{"aws:SecureTransport":"false"}}`), OK, ""},
		{"plain transport denied, as a boolean", deny(`,"Condition":{"Bool":{"aws:SecureTransport":false}}`), OK, ""},
		{"everything denied", deny(""), Wrong, "denies"},
		{"a denial that cannot be evaluated", deny(`,"Condition":{"StringNotEquals":{"aws:PrincipalOrgID":"o-1"}}`), Unknown, "denial"},
		{"a NotPrincipal", `{"Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"Action":"sns:Publish","Resource":"*"}]}`, Unknown, "NotPrincipal"},
	} {
		t.Run(row.name, func(t *testing.T) {
			verdict, why := allows(row.policy, ask)
			if verdict != row.want || !strings.Contains(why, row.why) {
				t.Errorf("%s, %q; want %s, %q", verdict, why, row.want, row.why)
			}
		})
	}
}

func TestQueueAddress(t *testing.T) {
	for url, want := range map[string][3]string{
		"https://sqs.eu-west-1.amazonaws.com/123456789012/web1":                {"eu-west-1", "", "arn:aws:sqs:eu-west-1:123456789012:web1"},
		"https://sqs.cn-north-1.amazonaws.com.cn/123456789012/web1":            {"cn-north-1", "", "arn:aws-cn:sqs:cn-north-1:123456789012:web1"},
		"https://eu-west-1.queue.amazonaws.com/123456789012/web1":              {"eu-west-1", "", "arn:aws:sqs:eu-west-1:123456789012:web1"},
		"https://queue.amazonaws.com/123456789012/web1":                        {"us-east-1", "", "arn:aws:sqs:us-east-1:123456789012:web1"},
		"http://127.0.0.1:4566/000000000000/web1":                              {"", "http://127.0.0.1:4566", ""},
		"https://sqs.eu-west-1.localhost.localstack.cloud/0000/web1":           {"eu-west-1", "https://sqs.eu-west-1.localhost.localstack.cloud", ""},
		"https://sqs-fips.us-east-1.amazonaws.com/123456789012/web1":           {"us-east-1", "https://sqs-fips.us-east-1.amazonaws.com", ""},
		"https://vpce-0a1b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/web1": {"eu-west-1", "https://vpce-0a1b.sqs.eu-west-1.vpce.amazonaws.com", ""},
		"": {"", "", ""},
	} {
		region, base := events.QueueEndpoint(url)
		if got := [3]string{region, base, arnOf(url)}; got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}

func TestPathStyle(t *testing.T) {
	for query, want := range map[string]bool{
		"":                                       true, // the endpoint is an address
		"endpoint=http://store.example":          false,
		"path-style=false":                       false,
		"path-style=1&endpoint=http://s.example": true,
	} {
		t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
		u, err := url.Parse("s3://bucket/key?" + query)
		if err != nil {
			t.Fatal(err)
		}
		c, err := newClients(t.Context(), u, Options{Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.s3.Options().UsePathStyle; got != want {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}
