package store

import (
	"testing"

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
	}
	if len(warned) != 1 || warned[0] != "aws sdk: the clock is off by 7 s" {
		t.Errorf("warned %q", warned)
	}
}
