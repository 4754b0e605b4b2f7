package events

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// endpoint is what a queue's URL says about where to send requests.
type endpoint struct {
	region string // empty if the host does not name one
	base   string // scheme and host; empty where the SDK's endpoint for the region is right
}

var (
	// sqs.R.amazonaws.com, sqs-fips.R…, ….sqs.R.vpce.…, sqs.R.api.aws, sqs.R.localhost…
	regionInHost = regexp.MustCompile(`(?:^|\.)sqs(?:-fips)?\.([a-z]+(?:-[a-z]+)+-[0-9]+)\.`)
	// The form of older queues; it has no endpoint of its own for the SDK's protocol.
	oldHost = regexp.MustCompile(`^(?:([a-z0-9-]+)\.)?queue\.amazonaws\.com(?:\.cn)?$`)
	// Hosts the SDK finds by the region alone.
	usualHost = regexp.MustCompile(`^sqs\.[a-z]+(?:-[a-z]+)+-[0-9]+\.amazonaws\.com(?:\.cn)?$`)
	awsPath   = regexp.MustCompile(`^/[0-9]{12}/[A-Za-z0-9_-]+$`)
)

// parseQueueURL checks a queue's URL as far as that goes without asking, and reads the
// endpoint from it. Its errors say what a right one looks like.
func parseQueueURL(raw string) (endpoint, error) {
	const want = "want https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
	if raw == "" {
		return endpoint{}, fmt.Errorf("queue URL is empty: %s", want)
	}
	if arn := strings.Split(raw, ":"); arn[0] == "arn" && len(arn) == 6 && arn[2] == "sqs" {
		return endpoint{}, fmt.Errorf("queue URL %q is an ARN: want https://sqs.%s.amazonaws.com/%s/%s", raw, arn[3], arn[4], arn[5])
	}
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, fmt.Errorf("queue URL: %w; %s", err, want)
	}
	name := u.Path[strings.LastIndex(u.Path, "/")+1:]
	host := strings.ToLower(u.Hostname())
	old := oldHost.FindStringSubmatch(host)
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || host == "":
		return endpoint{}, fmt.Errorf("queue URL %q is not an http(s) URL: %s", u.Redacted(), want)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, fmt.Errorf("queue URL %q has more than host and path: %s", u.Redacted(), want)
	case name == "":
		return endpoint{}, fmt.Errorf("queue URL %q does not end in a queue's name: %s", raw, want)
	case strings.HasSuffix(name, ".fifo"):
		return endpoint{}, fmt.Errorf("queue URL %q is of a FIFO queue, to which S3 and standard SNS topics do not deliver: use a standard queue", raw)
	case (usualHost.MatchString(host) || old != nil) && !awsPath.MatchString(u.Path):
		return endpoint{}, fmt.Errorf("queue URL %q lacks the account's 12 digits or a plain queue name: %s", raw, want)
	}
	if old != nil {
		if old[1] == "" {
			old[1] = "us-east-1"
		}
		return endpoint{region: old[1]}, nil
	}
	var e endpoint
	if m := regionInHost.FindStringSubmatch(host); m != nil {
		e.region = m[1]
	}
	if !usualHost.MatchString(host) {
		e.base = u.Scheme + "://" + u.Host
	}
	return e, nil
}

// QueueEndpoint returns what a queue's URL says about where to send requests: the region, and scheme and
// host where the SDK's endpoint for the region is not right. Both are empty where it says nothing.
func QueueEndpoint(raw string) (region, base string) {
	e, _ := parseQueueURL(raw)
	return e.region, e.base
}

// CheckQueueURL returns an error that says what is wrong with a queue's URL, as far as that
// shows without asking.
func CheckQueueURL(raw string) error {
	if raw == AutoQueue {
		return nil
	}
	if _, err := parseQueueURL(raw); err != nil {
		return fmt.Errorf("%w, or auto for a queue that the host makes", err)
	}
	return nil
}
