package events

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/npcnix/npcnix/store/credentials"
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

// explainDenied is explain with a hint of the caller's, if AWS denies the call.
func explainDenied(ctx context.Context, op string, err error, hint string) error {
	api, is := errors.AsType[smithy.APIError](err)
	if is && ctx.Err() == nil && (strings.Contains(api.ErrorCode(), "AccessDenied") || api.ErrorCode() == "AuthorizationError") {
		return fmt.Errorf("%s: %w (%s)", op, err, hint)
	}
	return explain(ctx, op, err)
}

// hintFor says what to do about an error, by its code; "" if the code is not known.
func hintFor(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return hintForChain(err)
	}
	code, message := api.ErrorCode(), strings.ToLower(api.ErrorMessage())
	if strings.Contains(strings.ToLower(code), "kms") {
		return "the queue's KMS key must exist, be enabled and allow the host kms:Decrypt"
	}
	switch code[strings.LastIndexAny(code, ".#")+1:] {
	case "QueueDoesNotExist", "NonExistentQueue":
		return "the queue was deleted, or its URL or region is wrong"
	case "AccessDenied", "AccessDeniedException":
		return "the host's role must allow sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage on the queue, and kms:Decrypt if it has a key of its own"
	case "ExpiredToken", "ExpiredTokenException":
		return "the host's AWS credentials have expired: renew them"
	case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "MissingAuthenticationToken":
		return "AWS does not know these credentials: they were deleted, or are another account's or service's"
	case "RequestTimeTooSkewed", "RequestExpired":
		return clockHint
	case "SignatureDoesNotMatch", "InvalidSignatureException":
		if strings.Contains(message, "signature expired") || strings.Contains(message, "signature not yet current") {
			return clockHint
		}
		return "the secret key is wrong, or a proxy changes requests on their way"
	}
	return ""
}

const clockHint = "the clock of this machine is wrong: set it"

// hintForChain is hintFor of an error that no service answered. Those of the
// credentials chain have no type in the SDK.
func hintForChain(err error) string {
	if !strings.Contains(err.Error(), "get credentials") {
		return ""
	}
	return credentials.Hint(err)
}
