package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/npcnix/npcnix/store/credentials"
)

// explain maps the SDK's errors to this package's, and adds what an operator can
// do. It goes by the error's code, which says more than the HTTP status; what is
// not known is quoted and not guessed. The action is read, write, delete, list or
// list versions.
func (b *s3Backend) explain(err error, action string) error {
	if broken, ok := errors.AsType[*credentialsError](err); ok {
		return explainCredentials(broken, err)
	}
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || answer.HTTPStatusCode() == 0 {
		if hint := b.hintForNetwork(err); hint != "" {
			return fmt.Errorf("%s: %w", hint, err)
		}
		return err
	}
	code, message := "", ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	hint := b.hintForCode(code, message, action)
	if hint == "" {
		hint = b.hintForRegion(answer, code, message)
	}
	kind := kindOf(answer.HTTPStatusCode(), code)
	switch {
	case kind != nil && hint != "":
		return fmt.Errorf("%w: %s: %w", kind, hint, err)
	case kind != nil:
		return fmt.Errorf("%w: %w", kind, err)
	case hint != "":
		return fmt.Errorf("%s: %w", hint, err)
	}
	return err
}

// kindOf returns the error of this package that an answer amounts to, or nil.
func kindOf(status int, code string) error {
	switch code {
	case "NoSuchKey", "NoSuchBucket":
		return ErrNotFound
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return ErrForbidden
	case "PreconditionFailed", "ConditionalRequestConflict":
		return ErrChanged
	case "InvalidObjectState", "QuotaExceeded", "XMinioStorageFull":
		return nil
	}
	switch status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusPreconditionFailed:
		return ErrChanged
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrForbidden
	}
	return nil
}

// hintForCode says what to do about an error by its code; "" where that is unknown.
func (b *s3Backend) hintForCode(code, message, action string) string {
	switch code {
	case "NoSuchBucket":
		return "there is no bucket " + b.bucket + ": create it, or fix the URL"
	case "NoSuchKey", "NotFound":
		return "bucket " + b.bucket + " has no such key: publish it with npcnix push"
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return b.hintForDenied(message, action)
	case "Forbidden": // the SDK's word for a 403 that no store has explained
		return "the answer names no reason, so a proxy or firewall can have refused it; or else " + b.hintForDenied(message, action)
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return "the credentials have expired: renew them"
	case "InvalidAccessKeyId":
		return "the store does not know this access key: it was deleted, or belongs to another store than " + b.where()
	case "SignatureDoesNotMatch":
		return "the secret key is wrong, or a proxy changes requests on their way"
	case "RequestTimeTooSkewed", "RequestExpired":
		return "the clock of this machine is wrong: set it"
	case "InvalidObjectState":
		return "the object was moved to an archive storage class: restore it or publish again, and exempt it from the bucket's lifecycle rule"
	case "EntityTooLarge":
		return "the store takes no object of this size"
	case "QuotaExceeded", "XMinioStorageFull":
		return "the store has no room left for it: delete something, or raise the quota"
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return "it was damaged on its way, or the store does not understand the SDK's checksums: try again, then with checksum=when-required in the URL"
	}
	if strings.HasPrefix(code, "KMS.") {
		return hintForKMS(action)
	}
	return ""
}

func (b *s3Backend) hintForDenied(message, action string) string {
	switch {
	case strings.Contains(strings.ToLower(message), "kms:"):
		return hintForKMS(action)
	case action == "list versions":
		return "these credentials lack s3:ListBucketVersions on bucket " + b.bucket + " for the prefix " + b.key
	case b.version != "":
		return "these credentials lack s3:GetObjectVersion on this key"
	case action == "list":
		return "these credentials lack s3:ListBucket on bucket " + b.bucket + " for the prefix " + b.key + recordsSuffix
	case action == "write":
		return "these credentials lack s3:PutObject on this key"
	case action == "delete":
		return "these credentials lack s3:DeleteObject on " + b.key + recordsSuffix + "*"
	}
	return "it may also be missing (S3 says 403 for a missing key without s3:ListBucket): check the URL, and that these credentials have s3:GetObject on it"
}

func hintForKMS(action string) string {
	needs := "kms:Decrypt"
	if action == "write" {
		needs = "kms:GenerateDataKey and kms:Decrypt"
	}
	return "the bucket's KMS key must exist, be enabled and allow these credentials " + needs
}

// namedRegion finds the region in the message of AuthorizationHeaderMalformed.
var namedRegion = regexp.MustCompile(`expecting '([a-z0-9-]+)'`)

// hintForRegion says to which region a bucket belongs, where the answer says that
// the request went to another.
func (b *s3Backend) hintForRegion(answer *smithyhttp.ResponseError, code, message string) string {
	home := answer.Response.Header.Get("X-Amz-Bucket-Region")
	if found := namedRegion.FindStringSubmatch(message); found != nil && home == "" {
		home = found[1]
	}
	moved := answer.HTTPStatusCode()/100 == 3 || code == "AuthorizationHeaderMalformed"
	switch {
	case home != "" && home != b.region:
		return fmt.Sprintf("the bucket is not in region %s: add ?region=%s to the URL", b.region, home)
	case moved:
		return fmt.Sprintf("the bucket is not in region %s: add ?region=REGION to the URL", b.region)
	}
	return ""
}

func (b *s3Backend) where() string {
	if b.endpoint != "" {
		return b.endpoint
	}
	return "AWS"
}

func (b *s3Backend) hintForNetwork(err error) string {
	dns, ok := errors.AsType[*net.DNSError](err)
	if !ok || !dns.IsNotFound || b.endpoint == "" || b.pathStyle || !strings.HasPrefix(dns.Name, b.bucket+".") {
		return ""
	}
	return "the endpoint has no host of the bucket's own: add path-style=true to the URL's query"
}

// explainCredentials ends with what to do if nothing is configured anywhere: the SDK then tells only of the last
// place where it looked. Of what is configured and does not work, it tells the cause.
func explainCredentials(broken *credentialsError, err error) error {
	if strings.Contains(broken.Error(), "no EC2 IMDS role found") && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %s", ErrCredentials, credentials.Hint(broken))
	}
	return fmt.Errorf("%w: %w: %s", ErrCredentials, err, credentials.Hint(broken))
}
