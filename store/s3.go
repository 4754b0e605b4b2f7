package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3API is what is used of the SDK's client.
type s3API interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

// s3Backend is an object in an S3 bucket, of AWS or another maker. A host needs
// s3:GetObject on it and no more; pinning is by If-Match for that reason.
type s3Backend struct {
	api    s3API
	bucket string
	key    string
	region string
}

func openS3(ctx context.Context, u *url.URL, o Options) (*s3Backend, error) {
	q, err := parseS3Query(u)
	if err != nil {
		return nil, err
	}
	if q.region == "" {
		q.region = o.Region
	}
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(q.region), // empty leaves it to the chain
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			if o.Warn != nil {
				o.Warn("aws sdk: " + fmt.Sprintf(format, args...))
			}
		})))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	cfg.Credentials = hintedCredentials(cfg.Credentials)
	client := s3.NewFromConfig(cfg, func(so *s3.Options) {
		// Third-party stores send no checksums; saying so at each request is noise.
		so.DisableLogOutputChecksumValidationSkipped = true
		if q.endpoint != "" {
			so.BaseEndpoint = &q.endpoint
		}
		if so.BaseEndpoint != nil {
			so.UsePathStyle = so.UsePathStyle || IsLocal(*so.BaseEndpoint)
			if so.Region == "" {
				so.Region = "us-east-1" // what other makers' stores take, if they look at all
			}
		}
		if q.pathStyle != nil {
			so.UsePathStyle = *q.pathStyle
		}
		if q.requestChecksum != 0 {
			so.RequestChecksumCalculation = q.requestChecksum
			so.ResponseChecksumValidation = q.responseChecksum
		}
	})
	b := &s3Backend{api: client, bucket: u.Host, key: strings.TrimPrefix(u.Path, "/"), region: client.Options().Region}
	if b.region == "" {
		return nil, errors.New("no AWS region: add ?region=REGION to the URL or set AWS_REGION")
	}
	return b, nil
}

// s3Query is what a URL's query may set.
type s3Query struct {
	region           string
	endpoint         string
	pathStyle        *bool
	requestChecksum  aws.RequestChecksumCalculation
	responseChecksum aws.ResponseChecksumValidation
}

func parseS3Query(u *url.URL) (s3Query, error) {
	var q s3Query
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return q, fmt.Errorf("%w: query: %v", ErrURL, err)
	}
	for name := range values {
		value := values.Get(name)
		switch name {
		case "region":
			q.region = value
		case "endpoint":
			e, err := url.Parse(value)
			if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
				return q, fmt.Errorf("%w: endpoint %q: want http://HOST or https://HOST", ErrURL, Redact(value))
			}
			if e.User != nil || e.RawQuery != "" {
				return q, fmt.Errorf("%w: endpoint %q: want nothing but http(s)://HOST; credentials come from the environment", ErrURL, Redact(value))
			}
			q.endpoint = value
		case "path-style":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return q, fmt.Errorf("%w: path-style %q: want true or false", ErrURL, value)
			}
			q.pathStyle = &on
		case "checksum":
			switch value {
			case "when-required":
				q.requestChecksum = aws.RequestChecksumCalculationWhenRequired
				q.responseChecksum = aws.ResponseChecksumValidationWhenRequired
			case "when-supported":
				q.requestChecksum = aws.RequestChecksumCalculationWhenSupported
				q.responseChecksum = aws.ResponseChecksumValidationWhenSupported
			default:
				return q, fmt.Errorf("%w: checksum %q: want when-required or when-supported", ErrURL, value)
			}
		default:
			return q, fmt.Errorf("%w: unknown parameter %q: want region, endpoint, path-style or checksum", ErrURL, name)
		}
	}
	return q, nil
}

// IsLocal reports whether bucket names cannot be put in front of the endpoint's host.
func IsLocal(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || u.Hostname() == "localhost"
}

func (b *s3Backend) head(ctx context.Context, suffix string, have Version) (Version, error) {
	in := &s3.HeadObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix)}
	if have.ETag != "" {
		in.IfNoneMatch = aws.String(quoteETag(have.ETag))
	}
	out, err := b.api.HeadObject(ctx, in)
	if err != nil {
		if have.ETag != "" && status(err) == http.StatusNotModified {
			return have, nil
		}
		return Version{}, b.explain(err, "read")
	}
	v := Version{
		ETag:     unquoteETag(aws.ToString(out.ETag)),
		ID:       aws.ToString(out.VersionId),
		Size:     aws.ToInt64(out.ContentLength),
		Modified: aws.ToTime(out.LastModified),
	}
	if v.ETag == "" {
		return Version{}, errors.New("the store gives no ETag, without which versions cannot be told apart")
	}
	return v, nil
}

func (b *s3Backend) get(ctx context.Context, suffix string, v Version) (io.ReadCloser, int64, error) {
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix)}
	if v.ETag != "" {
		in.IfMatch = aws.String(quoteETag(v.ETag))
	}
	out, err := b.api.GetObject(ctx, in)
	if err != nil {
		return nil, 0, b.explain(err, "read")
	}
	// Some stores ignore If-Match.
	if got := unquoteETag(aws.ToString(out.ETag)); v.ETag != "" && got != v.ETag {
		out.Body.Close()
		return nil, 0, fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got, v.ETag)
	}
	length := int64(-1)
	if out.ContentLength != nil {
		length = *out.ContentLength
	}
	return out.Body, length, nil
}

func (b *s3Backend) put(ctx context.Context, suffix string, body io.ReadSeeker, size int64) (Version, error) {
	// The SDK sends what comes after the place where the body stands.
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return Version{}, fmt.Errorf("read what is to be written: %w", err)
	}
	out, err := b.api.PutObject(ctx, &s3.PutObjectInput{
		Bucket:        &b.bucket,
		Key:           aws.String(b.key + suffix),
		Body:          body,
		ContentLength: &size,
	})
	if err != nil {
		return Version{}, b.explain(err, "write")
	}
	return Version{ETag: unquoteETag(aws.ToString(out.ETag)), ID: aws.ToString(out.VersionId), Size: size}, nil
}

// list asks for a page of 1,000 after another, S3's limit.
func (b *s3Backend) list(ctx context.Context, suffix string) ([]RecordInfo, error) {
	prefix := b.key + suffix
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}
	var found []RecordInfo
	for {
		out, err := b.api.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, b.explain(err, "list")
		}
		for _, o := range out.Contents {
			found = append(found, RecordInfo{
				Host: strings.TrimPrefix(aws.ToString(o.Key), prefix),
				ETag: unquoteETag(aws.ToString(o.ETag)), Modified: aws.ToTime(o.LastModified),
			})
		}
		if !aws.ToBool(out.IsTruncated) {
			return found, nil
		}
		if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
			return nil, errors.New("the store says that its listing goes on, but not where")
		}
	}
}

// explain maps the SDK's errors to this package's, and adds what an operator can do.
func (b *s3Backend) explain(err error, action string) error {
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return fmt.Errorf("%w: attach a role to the instance, or set AWS_PROFILE or AWS_ACCESS_KEY_ID: %w", ErrCredentials, err)
	}
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok {
		return err
	}
	code := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	home := answer.Response.Header.Get("X-Amz-Bucket-Region")
	switch answer.HTTPStatusCode() {
	case http.StatusNotFound:
		if code == "NoSuchBucket" {
			return fmt.Errorf("%w: there is no bucket %s: create it, or mend the URL: %w", ErrNotFound, b.bucket, err)
		}
		return fmt.Errorf("%w: bucket %s has no such key: publish it with npcnix push: %w", ErrNotFound, b.bucket, err)
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return b.wrongRegion(home, err)
	case http.StatusBadRequest:
		switch {
		case code == "ExpiredToken" || code == "InvalidToken":
			return fmt.Errorf("%w: the credentials have expired: renew them: %w", ErrForbidden, err)
		case code == "AuthorizationHeaderMalformed" || home != "" && home != b.region:
			return b.wrongRegion(home, err)
		}
		// A HEAD's answer has no body to tell these two apart.
		return fmt.Errorf("the bucket may not be in region %s, or the credentials have expired: %w", b.region, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		switch action {
		case "list":
			return fmt.Errorf("%w: these credentials lack s3:ListBucket on bucket %s for the prefix %s: %w", ErrForbidden, b.bucket, b.key+recordsSuffix, err)
		case "write":
			return fmt.Errorf("%w: these credentials lack s3:PutObject on this key: %w", ErrForbidden, err)
		}
		return fmt.Errorf("%w, or missing (S3 says 403 for a missing key without s3:ListBucket): check the URL, and that these credentials have s3:GetObject on it: %w", ErrForbidden, err)
	}
	return err
}

func (b *s3Backend) wrongRegion(home string, err error) error {
	if home == "" {
		home = "REGION"
	}
	return fmt.Errorf("the bucket is not in region %s: add ?region=%s to the URL: %w", b.region, home, err)
}

func status(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// credentialsError marks an error of the credentials chain, which the SDK leaves
// to the reader of its text.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

func hintedCredentials(chain aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := chain.Retrieve(ctx)
		if err != nil && ctx.Err() == nil {
			err = &credentialsError{err}
		}
		return c, err
	})
}
