// Package credentials keeps an AWS client's credentials fresh for as long as a process runs.
//
// The SDK reads credentials files once, when its configuration is loaded. This package promises that a
// process which runs for months follows what an operator does meanwhile: if a credentials file changes, the
// next request uses the new one; if AWS refuses credentials, whatever they came from, the whole chain is
// loaded again, at most once in 30 seconds. It also bounds what the SDK does not: the number of redirects.
package credentials

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// pace is the least time between two loads that a refusal asks for.
const pace = 30 * time.Second

// Load is config.LoadDefaultConfig, with credentials that stay fresh.
func Load(ctx context.Context, options ...func(*config.LoadOptions) error) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, err
	}

	cfg.HTTPClient = bounded(cfg.HTTPClient)

	f := &fresh{chain: cfg.Credentials, files: filesOf(cfg)}
	f.seen = look(f.files)
	f.load = func(ctx context.Context) (aws.CredentialsProvider, error) {
		again, err := config.LoadDefaultConfig(ctx, append(slices.Clone(options), config.WithRegion(cfg.Region))...)
		return again.Credentials, err
	}
	cfg.Credentials = f
	cfg.APIOptions = append(cfg.APIOptions, f.watch)

	return cfg, nil
}

// filesOf returns the files from which the SDK has read credentials, or would have.
func filesOf(cfg aws.Config) []string {
	files := []string{config.DefaultSharedCredentialsFilename(), config.DefaultSharedConfigFilename()}
	for _, source := range cfg.ConfigSources {
		if env, is := source.(config.EnvConfig); is {
			if env.SharedCredentialsFile != "" {
				files[0] = env.SharedCredentialsFile
			}
			if env.SharedConfigFile != "" {
				files[1] = env.SharedConfigFile
			}
		}
	}

	return files
}

// fresh is a credentials chain that is loaded again when it is out of date.
type fresh struct {
	files []string
	load  func(context.Context) (aws.CredentialsProvider, error)

	mu      sync.Mutex
	chain   aws.CredentialsProvider
	seen    []os.FileInfo // of files, when the chain was loaded
	refused bool          // since the chain was loaded
	loaded  time.Time     // when it was last loaded again; zero: never
}

// Retrieve returns the credentials in force.
func (f *fresh) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := f.current(ctx).Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		f.refuse()
	}

	return c, err
}

// current returns the chain, which it loads again first if that is due. A chain that cannot be loaded, such
// as from a file that is half written, leaves the one before in force.
func (f *fresh) current(ctx context.Context) aws.CredentialsProvider {
	f.mu.Lock()
	defer f.mu.Unlock()

	now := look(f.files)
	if same(now, f.seen) && !(f.refused && time.Since(f.loaded) >= pace) {
		return f.chain
	}

	chain, err := f.load(ctx)
	f.seen, f.loaded, f.refused = now, time.Now(), err != nil
	if err == nil && chain != nil {
		f.chain = chain
	}

	return f.chain
}

func (f *fresh) refuse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = true
}

// watch adds to an SDK client what takes note of refusals.
func (f *fresh) watch(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("npcnixCredentials",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleFinalize(ctx, in)
			if Refused(err) {
				f.refuse()
			}
			return out, metadata, err
		}), middleware.Before)
}

// codes are those of AWS with which a request is refused for its credentials, under a status that others
// have too.
var codes = []string{"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "UnrecognizedClientException",
	"InvalidClientTokenId", "IncompleteSignature", "MissingAuthenticationToken"}

// Refused reports whether a request was refused, possibly for its credentials.
func Refused(err error) bool {
	if answer, is := errors.AsType[*smithyhttp.ResponseError](err); is {
		if s := answer.HTTPStatusCode(); s == http.StatusUnauthorized || s == http.StatusForbidden {
			return true
		}
	}
	coded, is := errors.AsType[smithy.APIError](err)

	return is && slices.Contains(codes, coded.ErrorCode())
}

// look returns what the files are; nil stands for one that is not there.
func look(files []string) []os.FileInfo {
	found := make([]os.FileInfo, len(files))
	for i, path := range files {
		found[i], _ = os.Stat(path)
	}

	return found
}

func same(a, b []os.FileInfo) bool {
	return slices.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	})
}
