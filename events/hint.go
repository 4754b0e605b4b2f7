package events

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// explain wraps an error of the SDK, adding what an operator can do about it. If ctx has
// ended, its error is what matters.
func explain(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	if hint := hintFor(err); hint != "" {
		return fmt.Errorf("%s: %w (%s)", op, err, hint)
	}
	return fmt.Errorf("%s: %w", op, err)
}

func hintFor(err error) string {
	var apiErr smithy.APIError
	if !errors.As(err, &apiErr) {
		if strings.Contains(err.Error(), "get credentials") { // of no type in the SDK
			return "no AWS credentials were found: give the host an instance role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
		}
		return ""
	}
	code := apiErr.ErrorCode()
	switch code = code[strings.LastIndexAny(code, ".#")+1:]; {
	case code == "QueueDoesNotExist", code == "NonExistentQueue":
		return "the queue was deleted, or its URL or region is wrong"
	case strings.Contains(strings.ToLower(apiErr.ErrorCode()), "kms"):
		return "the queue's KMS key must exist, be enabled and allow the host kms:Decrypt"
	case code == "AccessDenied", code == "AccessDeniedException":
		return "the host's role must allow sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage on the queue, and kms:Decrypt if it has a key of its own"
	case code == "ExpiredToken", code == "ExpiredTokenException", code == "InvalidClientTokenId",
		code == "UnrecognizedClientException", code == "InvalidAccessKeyId", code == "MissingAuthenticationToken":
		return "the host's AWS credentials have expired or are not known: renew them"
	case code == "SignatureDoesNotMatch", code == "InvalidSignatureException", code == "RequestTimeTooSkewed":
		return "the secret key is wrong, or the host's clock is"
	}
	return ""
}
