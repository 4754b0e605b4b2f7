package store

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
)

// CheckURL returns ErrURL, with the reason, if Open would refuse the URL.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

// parseURL accepts the three kinds of remotes. Errors wrap ErrURL and never repeat a
// password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) && !strings.ContainsAny(raw, "@?") {
			return nil, fmt.Errorf("%w %q: %v", ErrURL, raw, ue.Err)
		}
		return nil, fmt.Errorf("%w: it does not parse", ErrURL)
	}
	bad := func(format string, args ...any) (*url.URL, error) {
		return nil, fmt.Errorf("%w %q: %s", ErrURL, redact(u), fmt.Sprintf(format, args...))
	}
	switch u.Scheme {
	case "s3", "https", "http", "file":
	case "":
		return bad("no scheme: want s3://BUCKET/KEY, https://HOST/PATH or file:///PATH")
	default:
		return bad("unknown scheme %q: want s3://BUCKET/KEY, https://HOST/PATH or file:///PATH", u.Scheme)
	}
	if u.Opaque != "" {
		return bad("want // after %s:", u.Scheme)
	}
	if u.Fragment != "" {
		return bad("a # must be written %%23")
	}
	if u.Scheme == "file" {
		switch {
		case u.Host != "" && u.Host != "localhost":
			return bad("it names the host %q: want three slashes, file:///PATH", u.Host)
		case u.RawQuery != "":
			return bad("a ? must be written %%3F")
		}
	} else if u.Hostname() == "" {
		return bad("no %s", map[bool]string{true: "bucket", false: "host"}[u.Scheme == "s3"])
	}
	if u.Scheme == "s3" && (u.User != nil || u.Port() != "") {
		return bad("want s3://BUCKET/KEY; credentials come from the environment, the endpoint from ?endpoint=URL")
	}
	if u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return bad("it names no object: want a path that does not end in /")
	}
	if u.Scheme == "s3" {
		if _, err := parseS3Query(u); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// SameObject reports whether two remotes' URLs name the same object. Regions,
// endpoints and credentials are not part of the name.
func SameObject(a, b string) bool {
	x, errX := parseURL(a)
	y, errY := parseURL(b)
	if errX != nil || errY != nil {
		return false
	}
	return x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host) && path.Clean(x.Path) == path.Clean(y.Path)
}

// plainHTTP returns the host of a remote that is reached without TLS; empty if there
// is TLS, or no network in between.
func plainHTTP(u *url.URL) string {
	if u.Scheme == "s3" {
		e, err := url.Parse(u.Query().Get("endpoint"))
		if err != nil {
			return ""
		}
		u = e
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "http" || u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return ""
	}
	return u.Host
}

// Redact returns the one form in which a remote's URL is printed, logged and
// recorded. It has no userinfo, and values in its query that can be secret are masked.
// It still names the object, see SameObject. A text that is no URL is not shown.
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	return redact(u)
}

func redact(u *url.URL) string {
	c := *u
	c.User = nil
	if c.RawQuery != "" {
		var kept []string
		for parameter := range strings.SplitSeq(c.RawQuery, "&") {
			kept = append(kept, redactParameter(c.Scheme, parameter))
		}
		c.RawQuery = strings.Join(kept, "&")
	}
	return c.String()
}

// redactParameter masks the value of one "name=value" of a query. What an s3
// remote's query may set is no secret, unless userinfo stands in the endpoint.
func redactParameter(scheme, parameter string) string {
	name, value, hasValue := strings.Cut(parameter, "=")
	open := scheme == "s3" && slices.Contains([]string{"region", "endpoint", "path-style", "checksum"}, name)
	plain, err := url.QueryUnescape(value)
	switch {
	case open && err == nil && !strings.ContainsAny(plain, "@?#"):
		return parameter
	case hasValue:
		return name + "=***"
	case scheme == "s3":
		return name
	}
	return "***" // a value without a name
}

// NameOf is what releases call the remote with that URL: the bucket and the key, or for other stores the host
// and the path.
func NameOf(rawURL string) (string, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return "", err
	}
	return nameOf(u), nil
}

func nameOf(u *url.URL) string { return u.Host + u.Path }
