package events

import (
	"context"
	"net/http"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxAnswer bounds the body of an answer, in bytes. A message has 1 MiB at most (Amazon SQS developer guide,
// "message quotas"), and ten of them come at once.
const maxAnswer = 12 << 20

// boundAnswers makes an error of an answer that is longer, which the SDK would read into memory whole.
func boundAnswers(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("npcnixBound",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			if answer, is := out.RawResponse.(*smithyhttp.Response); is && answer.Body != nil {
				answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
			}
			return out, metadata, err
		}), middleware.After)
}
