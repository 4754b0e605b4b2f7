package store

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

func TestPathStyleFollowsTheEndpointUnlessTheURLSays(t *testing.T) {
	for _, c := range []struct {
		query string
		want  bool
	}{
		{"", false},
		{"path-style=true", true},
		{"endpoint=http://store.example", false},
		{"endpoint=http://store.example&path-style=1", true},
		{"endpoint=http://localhost:9000", true},
		{"endpoint=http://127.0.0.1:9000", true},
		{"endpoint=http://[::1]:9000", true},
		{"endpoint=http://127.0.0.1:9000&path-style=false", false},
	} {
		u, err := parseURL("s3://bucket/key?" + c.query)
		if err != nil {
			t.Fatal(err)
		}
		b, err := openS3(t.Context(), u, Options{Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := b.api.(*s3.Client).Options().UsePathStyle; got != c.want {
			t.Errorf("%q: path style %v, want %v", c.query, got, c.want)
		}
	}
}

func TestChecksumsAreTheSDKsOwnForAWSAlone(t *testing.T) {
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"} {
		t.Setenv(name, "")
	}
	for query, want := range map[string]bool{
		"": true,
		"endpoint=https://s3.eu-west-1.amazonaws.com":                true,
		"endpoint=https://bucket.vpce-1.s3.eu.vpce.amazonaws.com":    true,
		"endpoint=https://minio.example.org":                         false,
		"endpoint=https://amazonaws.com.example.org":                 false,
		"endpoint=https://minio.example.org&checksum=when-supported": true,
	} {
		u, err := parseURL("s3://bucket/key?" + query)
		if err != nil {
			t.Fatal(err)
		}
		b, err := openS3(t.Context(), u, Options{Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		o := b.api.(*s3.Client).Options()
		if got := o.RequestChecksumCalculation == aws.RequestChecksumCalculationWhenSupported; got != want || b.validates != want {
			t.Errorf("%q: sent %v, compared %v, want %v", query, got, b.validates, want)
		}
	}
}

func TestWarningsOfTheSDKGoToTheCaller(t *testing.T) {
	u, err := parseURL("s3://bucket/key")
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	for _, warn := range []func(string){nil, func(msg string) { warned = append(warned, msg) }} {
		b, err := openS3(t.Context(), u, Options{Region: "us-east-1", Warn: warn})
		if err != nil {
			t.Fatal(err)
		}
		b.api.(*s3.Client).Options().Logger.Logf(logging.Warn, "the clock is off by %d s", 7)
		b.api.(*s3.Client).Options().Logger.Logf(logging.Warn, "the clock is off by %d s", 8) // not again
	}
	if len(warned) != 1 || warned[0] != "aws sdk: the clock is off by 7 s" {
		t.Errorf("warned %q", warned)
	}
}
