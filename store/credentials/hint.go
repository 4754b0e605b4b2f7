package credentials

import (
	"os"
	"strings"
)

// Hint says what to do after an error of the credentials chain. Most of its errors have no type in the SDK.
func Hint(err error) string {
	if !strings.Contains(err.Error(), "SSO") {
		return "on EC2 attach a role to the instance; elsewhere sign in with `aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
	}
	if profile := os.Getenv("AWS_PROFILE"); profile != "" {
		return "the SSO session has expired: run `aws sso login --profile " + profile + "`"
	}
	return "the SSO session has expired: run `aws sso login`"
}
