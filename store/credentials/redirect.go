package credentials

import (
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// maxRedirects is how many redirects a request follows. The SDK has no bound: a server that redirects to itself would
// be asked as fast as it answers.
const maxRedirects = 5

// bounded returns the client, which follows only so many redirects; nil stands for the SDK's own.
func bounded(client aws.HTTPClient) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	buildable, is := client.(*awshttp.BuildableClient)
	if !is {
		return client
	}
	frozen, is := buildable.Freeze().(*http.Client)
	if !is {
		return client
	}

	follow := frozen.CheckRedirect
	frozen.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return follow(r, via)
	}

	return frozen
}
