package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// s3API is what is used of the SDK's client.
type s3API interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	ListObjectVersions(context.Context, *s3.ListObjectVersionsInput, ...func(*s3.Options)) (*s3.ListObjectVersionsOutput, error)
}

// s3Backend is an object in an S3 bucket, of AWS or another maker. A host needs
// s3:GetObject on it and no more; pinning is by If-Match for that reason.
type s3Backend struct {
	api    s3API
	bucket string
	key    string

	version   string // id of the only version to read; empty: the present one
	region    string
	endpoint  string // empty: AWS's own for the region
	pathStyle bool
	validates bool // compares checksums that the store sends
}

func (b *s3Backend) head(ctx context.Context, suffix string, have Version) (Version, error) {
	in := &s3.HeadObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix)}
	if have.ETag != "" {
		in.IfNoneMatch = aws.String(quoteETag(have.ETag))
	}
	out, err := b.api.HeadObject(ctx, in)
	switch status(err) {
	case http.StatusNotModified:
		if have.ETag != "" {
			return have, nil
		}
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return b.headByGet(ctx, in, have)
	}
	if err != nil {
		return Version{}, b.explain(err, "read")
	}
	return identified(Version{
		ETag:     unquoteETag(aws.ToString(out.ETag)),
		ID:       aws.ToString(out.VersionId),
		Size:     aws.ToInt64(out.ContentLength),
		Modified: aws.ToTime(out.LastModified),
	})
}

// headByGet asks for the first byte if HEAD was refused. Some stores accept only GET,
// and only the refusal of a GET has a body that says why.
func (b *s3Backend) headByGet(ctx context.Context, in *s3.HeadObjectInput, have Version) (Version, error) {
	out, err := b.api.GetObject(ctx, &s3.GetObjectInput{
		Bucket: in.Bucket, Key: in.Key, IfNoneMatch: in.IfNoneMatch, Range: aws.String("bytes=0-0"),
	})
	if have.ETag != "" && status(err) == http.StatusNotModified {
		return have, nil
	}
	if err != nil {
		return Version{}, b.explain(err, "read")
	}
	out.Body.Close()
	return identified(versionOfGet(out))
}

// versionOfGet is the version of an answer that may hold only a part of it.
func versionOfGet(out *s3.GetObjectOutput) Version {
	v := Version{
		ETag:     unquoteETag(aws.ToString(out.ETag)),
		ID:       aws.ToString(out.VersionId),
		Size:     aws.ToInt64(out.ContentLength),
		Modified: aws.ToTime(out.LastModified),
	}
	if _, total, found := strings.Cut(aws.ToString(out.ContentRange), "/"); found {
		v.Size, _ = strconv.ParseInt(total, 10, 64)
	}
	return v
}

// identified refuses a version without an ETag.
func identified(v Version) (Version, error) {
	if v.ETag == "" {
		return Version{}, fmt.Errorf("the store gives no ETag, without which %w", errNoVersion)
	}
	return v, nil
}

func (b *s3Backend) get(ctx context.Context, suffix string, v Version) (io.ReadCloser, int64, error) {
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix), VersionId: b.pinnedTo()}
	if v.ETag != "" {
		in.IfMatch = aws.String(quoteETag(v.ETag))
	}
	out, err := b.api.GetObject(ctx, in)
	if b.deniesItself(ctx, suffix, v, err) {
		in.IfMatch = nil
		out, err = b.api.GetObject(ctx, in)
	}
	if err != nil {
		return nil, 0, b.explain(err, "read")
	}
	// Some stores ignore If-Match.
	if got := unquoteETag(aws.ToString(out.ETag)); v.ETag != "" && got != v.ETag {
		out.Body.Close()
		if got == "" {
			return nil, 0, errors.New("the store's answer to GET has no ETag: it cannot be told whether it is the version asked for")
		}
		return nil, 0, fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got, v.ETag)
	}
	length := int64(-1)
	if out.ContentLength != nil {
		length = *out.ContentLength
	}
	return s3Body{out.Body, b.validates && hasChecksum(out), ofOwnKey(out)}, length, nil
}

// deniesItself reports whether the store says that the object is not v, and shows v: some do not recognize their own
// ETags. It is then read without the condition, and the answer's ETag is checked anyway.
func (b *s3Backend) deniesItself(ctx context.Context, suffix string, v Version, err error) bool {
	if v.ETag == "" || status(err) != http.StatusPreconditionFailed {
		return false
	}
	now, err := b.head(ctx, suffix, Version{})
	return err == nil && now.Same(v)
}

// pinnedTo is the version that a GET must name; nil for the present one.
func (b *s3Backend) pinnedTo() *string {
	if b.version == "" {
		return nil
	}
	return &b.version
}

// ofOwnKey reports whether the object is encrypted by another key than the store's own. Then the ETag is not
// made of the content.
func ofOwnKey(out *s3.GetObjectOutput) bool {
	return out.ServerSideEncryption != "" && out.ServerSideEncryption != types.ServerSideEncryptionAes256 || out.SSECustomerAlgorithm != nil
}

// s3Body is a body that the SDK compares with the store's checksum, if there is one.
type s3Body struct {
	io.ReadCloser
	checked   bool
	encrypted bool // see ofOwnKey
}

func (b s3Body) verified() bool { return b.checked }
func (b s3Body) opaque() bool   { return b.encrypted }

// hasChecksum reports whether the store sent a checksum of the whole content. One of
// an upload in parts, which the SDK does not compare, ends in the number of parts.
func hasChecksum(out *s3.GetObjectOutput) bool {
	for _, sum := range []*string{out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256} {
		if sum != nil && !strings.Contains(*sum, "-") {
			return true
		}
	}
	return false
}

func (b *s3Backend) put(ctx context.Context, suffix string, body io.ReadSeeker, size int64, over *Version) (Version, error) {
	// The SDK sends what comes after the place where the body stands.
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return Version{}, fmt.Errorf("read what is to be written: %w", err)
	}
	in := &s3.PutObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix), Body: body, ContentLength: &size}
	switch {
	case over == nil:
	case over.ETag == "":
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = aws.String(quoteETag(over.ETag))
	}
	sent := time.Now()
	out, err := b.api.PutObject(ctx, in)
	if over != nil && status(err) == http.StatusNotImplemented {
		return Version{}, fmt.Errorf("%w: %w", errNoConditions, err)
	}
	if over != nil && status(err) == http.StatusConflict {
		return Version{}, fmt.Errorf("%w: %w: %w", ErrChanged, errConflict, err)
	}
	if over != nil && over.ETag != "" && status(err) == http.StatusNotFound {
		return Version{}, fmt.Errorf("%w: %w", ErrChanged, err) // deleted at the same time
	}
	if err != nil && status(err) == 0 && !errors.As(err, new(*credentialsError)) {
		return Version{}, noAnswer{b.explain(err, "write")}
	}
	if err != nil {
		return Version{}, b.explain(err, "write")
	}
	answered, _ := awsmiddleware.GetServerTime(out.ResultMetadata)
	return Version{
		ETag: unquoteETag(aws.ToString(out.ETag)), ID: aws.ToString(out.VersionId), Size: size, Modified: began(answered, sent),
	}, nil
}

func (b *s3Backend) list(ctx context.Context, suffix string) (found []RecordInfo, err error) {
	err = b.pages(ctx, suffix, func(name string, o types.Object) {
		found = append(found, RecordInfo{Host: name, ETag: unquoteETag(aws.ToString(o.ETag)), Modified: aws.ToTime(o.LastModified)})
	})
	return found, err
}

// pages asks for a page of 1,000 after another, S3's limit, of the objects whose keys begin with the suffix. The name
// is what follows.
func (b *s3Backend) pages(ctx context.Context, suffix string, each func(name string, o types.Object)) error {
	prefix := b.key + suffix
	in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}
	for {
		out, err := b.api.ListObjectsV2(ctx, in)
		if err != nil {
			return b.explain(err, "list")
		}
		for _, o := range out.Contents {
			each(strings.TrimPrefix(aws.ToString(o.Key), prefix), o)
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		if in.ContinuationToken = out.NextContinuationToken; in.ContinuationToken == nil {
			return errors.New("the store says that its listing goes on, but not where")
		}
	}
}

func status(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}
