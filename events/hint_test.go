package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

func TestHintsGoByTheCode(t *testing.T) {
	for _, c := range []struct{ code, message, want string }{
		{"AWS.SimpleQueueService.NonExistentQueue", "", "was deleted"},
		{"com.amazonaws.sqs#QueueDoesNotExist", "", "was deleted"},
		{"KmsAccessDenied", "", "KMS key"},
		{"KMS.DisabledException", "", "KMS key"},
		{"AccessDeniedException", "", "sqs:ReceiveMessage"},
		{"ExpiredTokenException", "", "have expired"},
		{"InvalidClientTokenId", "", "does not know these credentials"},
		{"RequestTimeTooSkewed", "", "clock"},
		{"SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z", "clock"},
		{"InvalidSignatureException", "Signature not yet current: 20260101T003000Z is still later than 20260101T001000Z", "clock"},
		{"SignatureDoesNotMatch", "The request signature we calculated does not match", "secret key"},
		{"SomethingUnheardOf", "", ""},
	} {
		got := hintFor(fmt.Errorf("receive: %w", &smithy.GenericAPIError{Code: c.code, Message: c.message}))
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s %q: %q, want %q", c.code, c.message, got, c.want)
		}
	}
	for text, want := range map[string]string{
		"get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found": "attach a role to the instance",
		"get identity: get credentials: the SSO session has expired or is invalid":                    "aws sso login",
		"dial tcp: connection refused": "",
	} {
		if got := hintFor(errors.New(text)); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
