package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/store/credentials"
)

func openS3(ctx context.Context, u *url.URL, o Options) (*s3Backend, error) {
	q, err := parseS3Query(u)
	if err != nil {
		return nil, err
	}
	if q.region == "" {
		q.region = o.Region
	}
	load := []func(*config.LoadOptions) error{
		config.WithRegion(q.region), // empty leaves it to the chain
		config.WithLogger(credentials.Logger(o.Warn)),
	}
	if o.profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.profile))
	}
	if o.Dial != nil {
		client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DialContext = o.Dial })
		load = append(load, config.WithHTTPClient(client))
	}
	cfg, err := credentials.Load(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	cfg.Credentials = hintedCredentials(cfg.Credentials)
	client := s3.NewFromConfig(cfg, func(so *s3.Options) { q.apply(so, cfg.ConfigSources) })
	options := client.Options()
	b := &s3Backend{
		api: client, bucket: u.Host, key: strings.TrimPrefix(u.Path, "/"), region: options.Region,
		endpoint: aws.ToString(options.BaseEndpoint), pathStyle: options.UsePathStyle,
		validates: options.ResponseChecksumValidation != aws.ResponseChecksumValidationWhenRequired,
	}
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

// apply adjusts the client. The query takes precedence over the SDK's own settings,
// and those over what suits stores that are not AWS.
func (q s3Query) apply(so *s3.Options, sources []any) {
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
		if !isAWS(*so.BaseEndpoint) && !setsChecksum(sources) {
			// The SDK sends checksums in a framing that some stores keep as content.
			so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	}
	if q.pathStyle != nil {
		so.UsePathStyle = *q.pathStyle
	}
	if q.requestChecksum != 0 {
		so.RequestChecksumCalculation = q.requestChecksum
		so.ResponseChecksumValidation = q.responseChecksum
	}
}

// setsChecksum reports whether the environment or the shared configuration decides
// on checksums.
func setsChecksum(sources []any) bool {
	for _, source := range sources {
		switch s := source.(type) {
		case config.EnvConfig:
			if s.RequestChecksumCalculation != 0 || s.ResponseChecksumValidation != 0 {
				return true
			}
		case config.SharedConfig:
			if s.RequestChecksumCalculation != 0 || s.ResponseChecksumValidation != 0 {
				return true
			}
		}
	}
	return false
}

func parseS3Query(u *url.URL) (s3Query, error) {
	var q s3Query
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return q, fmt.Errorf("%w: query: %v", ErrURL, err)
	}
	for name := range values {
		if err := q.set(name, values.Get(name)); err != nil {
			return q, err
		}
	}
	return q, nil
}

func (q *s3Query) set(name, value string) error {
	switch name {
	case "region":
		q.region = value
	case "endpoint":
		e, err := url.Parse(value)
		if err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
			return fmt.Errorf("%w: endpoint %q: want http://HOST or https://HOST", ErrURL, Redact(value))
		}
		if e.User != nil || e.RawQuery != "" {
			return fmt.Errorf("%w: endpoint %q: want nothing but http(s)://HOST; credentials come from the environment", ErrURL, Redact(value))
		}
		q.endpoint = value
	case "path-style":
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%w: path-style %q: want true or false", ErrURL, value)
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
			return fmt.Errorf("%w: checksum %q: want when-required or when-supported", ErrURL, value)
		}
	default:
		return fmt.Errorf("%w: unknown parameter %q: want region, endpoint, path-style or checksum", ErrURL, name)
	}
	return nil
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

// isAWS reports whether an endpoint is one of AWS's own.
func isAWS(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	for _, suffix := range []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
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
