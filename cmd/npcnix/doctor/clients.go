package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/credentials"
)

// clients are those of AWS's services, by the environment's settings and the chain's own addresses.
type clients struct {
	credentials aws.CredentialsProvider
	s3          *s3.Client
	sns         *sns.Client
	sqs         *sqs.Client
	sts         *sts.Client
	foreign     bool // the store is not AWS's
	times       times
}

const requestLimit = 10 * time.Second // for one attempt at a request

func newClients(ctx context.Context, remote *url.URL, o Options) (*clients, error) {
	c := &clients{}
	query := url.Values{}
	if remote.Scheme == "s3" {
		query = remote.Query()
	}
	queueRegion, base := events.QueueEndpoint(o.QueueURL)
	region := queueRegion
	for _, r := range []string{o.Region, query.Get("region")} {
		if r != "" {
			region = r
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithRetryMaxAttempts(2),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestLimit)))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1" // to ask for the credentials' owner; an S3 remote needs its own
	}
	cfg.APIOptions = append(cfg.APIOptions, c.times.note)
	c.credentials = cfg.Credentials
	c.foreign = query.Get("endpoint") != ""
	c.s3 = s3.NewFromConfig(cfg, func(s *s3.Options) {
		if c.foreign {
			s.BaseEndpoint = aws.String(query.Get("endpoint"))
		}
		// As package store does.
		s.UsePathStyle = s.BaseEndpoint != nil && store.IsLocal(*s.BaseEndpoint)
		if style, err := strconv.ParseBool(query.Get("path-style")); err == nil {
			s.UsePathStyle = style
		}
	})
	c.sns, c.sts = sns.NewFromConfig(cfg), sts.NewFromConfig(cfg)
	c.sqs = sqs.NewFromConfig(cfg, func(s *sqs.Options) {
		if queueRegion != "" {
			s.Region = queueRegion
		}
		if s.BaseEndpoint == nil && base != "" {
			s.BaseEndpoint = &base
		}
	})
	return c, nil
}

// topicIn and queueIn send a request to the region of an ARN.
func topicIn(arn string) func(*sns.Options) {
	return func(o *sns.Options) { o.Region = regionOf(arn, o.Region) }
}

func queueIn(arn string) func(*sqs.Options) {
	return func(o *sqs.Options) { o.Region = regionOf(arn, o.Region) }
}

func regionOf(arn, otherwise string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 3 && parts[3] != "" {
		return parts[3]
	}
	return otherwise
}

// times keeps how far this machine's clock is from that of the server that answered last.
type times struct {
	mu   sync.Mutex
	seen bool
	skew time.Duration
}

// note adds to an SDK client what reads the time of its answers.
func (t *times) note(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("npcnixClock",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			if answer, ok := out.RawResponse.(*smithyhttp.Response); ok {
				if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
					t.mu.Lock()
					t.seen, t.skew = true, time.Since(at)
					t.mu.Unlock()
				}
			}
			return out, metadata, err
		}), middleware.After)
}

func (t *times) get() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skew, t.seen
}

// credentials says who owns the credentials.
func (c *chain) credentials(ctx context.Context) Finding {
	const link = "credentials"
	if _, err := c.aws.credentials.Retrieve(ctx); err != nil {
		c.blind = "not checked, because there are no AWS credentials"
		return wrong(link, "there are none: "+err.Error(), credentials.Hint(err))
	}
	if c.aws.foreign {
		return unknown(link, "there are some; their owner is unknown, because the store is not AWS's", "")
	}
	out, err := c.aws.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err == nil {
		c.account = aws.ToString(out.Account)
		return ok(link, "%s", aws.ToString(out.Arn))
	}
	switch errorCode(err) {
	case "ExpiredToken", "ExpiredTokenException":
		c.blind = "not checked, because the credentials have expired"
		return wrong(link, "they have expired", "renew them: sign in again, or fix what issues them")
	case "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "IncompleteSignature":
		c.blind = "not checked, because the credentials are not valid"
		return wrong(link, "AWS does not accept them: "+brief(err), "fix AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile; check the clock too")
	}
	return unknown(link, "there are some, but their owner cannot be determined: "+brief(err), "")
}

// clock compares the clock with AWS's.
func (c *chain) clock(ctx context.Context) Finding {
	if _, seen := c.aws.times.get(); !seen && c.bucket != "" && c.blind == "" {
		_, _ = c.aws.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &c.bucket}) // any answer has a time
	}
	skew, seen := c.aws.times.get()
	if !seen {
		return unknown("clock", "no server answered, so there is no clock to compare with", "")
	}
	return judgeClock(skew, "AWS")
}

// unasked is the finding if a request got no answer.
func unasked(link, what string, err error, permission string) Finding {
	if !isForbidden(err) {
		return unknown(link, what+" cannot be read: "+brief(err), "")
	}
	return unknown(link, "these credentials cannot read "+what,
		"give them "+permission+", or run the doctor with credentials that have it")
}

func errorCode(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// brief is an error without the SDK's words around the service's.
func brief(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode() + ": " + e.ErrorMessage()
	}
	return err.Error()
}

func status(err error) int {
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

func isForbidden(err error) bool {
	return errors.Is(err, store.ErrForbidden) || status(err) == http.StatusForbidden || status(err) == http.StatusUnauthorized ||
		strings.Contains(errorCode(err), "AccessDenied")
}

func isNotFound(err error) bool {
	code := errorCode(err)
	return errors.Is(err, store.ErrNotFound) || status(err) == http.StatusNotFound || strings.Contains(code, "NonExistentQueue") || strings.Contains(code, "QueueDoesNotExist")
}

func isNetwork(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, context.DeadlineExceeded)
}
