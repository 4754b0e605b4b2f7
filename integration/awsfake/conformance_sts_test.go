package awsfake_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/npcnix/npcnix/integration/awsfake"
)

var stsBehaviours = []behaviour{
	{"who asks is told who they are", func(t *testing.T, w world) {
		out, err := w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Account != awsfake.Account || !strings.HasPrefix(*out.Arn, "arn:aws:") || !strings.Contains(*out.Arn, "::"+awsfake.Account+":") || *out.UserId == "" {
			t.Errorf("account %s, ARN %s, user %s", *out.Account, *out.Arn, *out.UserId)
		}
	}},
}
