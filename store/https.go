package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// httpBackend is a file on a web server that sends ETags, or at least Last-Modified.
// Publishing needs a server that accepts PUT.
type httpBackend struct {
	base   url.URL // without userinfo
	user   *url.Userinfo
	file   string // with USER:PASSWORD, in place of user; empty: none
	client *http.Client
}

// datePrefix begins the ETags that are made here for servers that send none.
const datePrefix = "date:"

func newHTTP(u *url.URL, credentialsFile string) *httpBackend {
	b := &httpBackend{base: *u, user: u.User, file: credentialsFile}
	b.base.User = nil
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // an archive is compressed, and lengths must be the object's
	}
	b.client = &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	return b
}

// checkRedirect refuses redirects that net/http would follow: a PUT that becomes a GET,
// whose 200 is no publish, and a redirect from https to http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	req.Header.Del("Referer") // a query may hold a token
	first := via[0]
	switch {
	case len(via) >= 10:
		return errors.New("too many redirects")
	case req.Method != first.Method:
		return fmt.Errorf("the server redirects to %s and drops the %s: use that URL", redact(req.URL), first.Method)
	case first.URL.Scheme == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("the server redirects from https to %s", redact(req.URL))
	}
	return nil
}

func (b *httpBackend) do(ctx context.Context, method, suffix string, prepare func(*http.Request)) (*http.Response, error) {
	u := b.base
	u.Path += suffix
	if u.RawPath != "" {
		u.RawPath += (&url.URL{Path: suffix}).EscapedPath()
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if err := b.authorize(req); err != nil {
		return nil, err
	}
	prepare(req)
	resp, err := b.client.Do(req)
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // ue repeats the URL, with tokens in its query
	}
	switch {
	case err != nil && resp != nil: // a redirect that is not followed
		return nil, fmt.Errorf("%s: %w", method, err)
	case err != nil:
		return nil, noAnswer{fmt.Errorf("%s: %w", method, err)}
	}
	return resp, nil
}

// authorize reads the file for each request, so that it can be replaced at any time.
func (b *httpBackend) authorize(req *http.Request) error {
	if b.file == "" {
		if b.user != nil {
			password, _ := b.user.Password()
			req.SetBasicAuth(b.user.Username(), password)
		}
		return nil
	}
	content, err := os.ReadFile(b.file)
	if err != nil {
		return fmt.Errorf("read the remote's credentials: %w", err)
	}
	user, password, found := strings.Cut(strings.TrimSpace(string(content)), ":")
	if !found || strings.ContainsAny(password, "\r\n") {
		return fmt.Errorf("read the remote's credentials: %s does not hold one line USER:PASSWORD", b.file)
	}
	req.SetBasicAuth(user, password)
	return nil
}

func (b *httpBackend) head(ctx context.Context, suffix string, have Version) (Version, error) {
	resp, err := b.header(ctx, http.MethodHead, suffix, have)
	if err == nil && (resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusMethodNotAllowed || resp.StatusCode == http.StatusNotImplemented) {
		// Some servers accept only GET, and a signed URL is valid for one method.
		resp, err = b.header(ctx, http.MethodGet, suffix, have)
	}
	if err != nil {
		return Version{}, err
	}
	if resp.StatusCode == http.StatusNotModified && have.ETag != "" {
		return have, nil
	}
	partial := resp.Request.Method == http.MethodGet && resp.StatusCode == http.StatusPartialContent
	if resp.StatusCode != http.StatusOK && !partial {
		return Version{}, refused(resp, "npcnix push publishes it")
	}
	return versionOf(resp)
}

// header asks for the header. By GET it asks for the first byte too.
func (b *httpBackend) header(ctx context.Context, method, suffix string, have Version) (*http.Response, error) {
	span := ""
	if method == http.MethodGet {
		span = "bytes=0-0"
	}
	resp, err := b.ask(ctx, method, suffix, have, span)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// ask asks for what is not have, and for a range of it unless that is empty.
func (b *httpBackend) ask(ctx context.Context, method, suffix string, have Version, span string) (*http.Response, error) {
	return b.do(ctx, method, suffix, func(req *http.Request) {
		if have.ETag != "" {
			req.Header.Set("If-None-Match", quoteETag(have.ETag))
		} else {
			req.Header.Set("Cache-Control", "no-cache")
		}
		if span != "" {
			req.Header.Set("Range", span)
		}
	})
}

func (b *httpBackend) get(ctx context.Context, suffix string, v Version) (io.ReadCloser, int64, error) {
	// If-Match never matches a weak ETag, nor one that was made here.
	pin := v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") && !strings.HasPrefix(v.ETag, datePrefix)
	resp, err := b.open(ctx, suffix, v, pin)
	if err == nil && pin && resp.StatusCode == http.StatusPreconditionFailed {
		resp.Body.Close()
		// Some servers do not recognize their own ETags. The answer's ETag is checked anyway.
		resp, err = b.open(ctx, suffix, v, false)
	}
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, 0, refused(resp, "npcnix push publishes it")
	}
	if v.ETag != "" {
		got, err := versionOf(resp)
		if err == nil && !got.Same(v) {
			err = fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got.ETag, v.ETag)
		}
		if err != nil {
			resp.Body.Close()
			return nil, 0, err
		}
	}
	return resp.Body, resp.ContentLength, nil
}

func (b *httpBackend) open(ctx context.Context, suffix string, v Version, pin bool) (*http.Response, error) {
	return b.do(ctx, http.MethodGet, suffix, func(req *http.Request) {
		if pin {
			req.Header.Set("If-Match", quoteETag(v.ETag))
		}
	})
}

func (b *httpBackend) put(ctx context.Context, suffix string, body io.ReadSeeker, size int64, over *Version) (Version, error) {
	rewind := func() (io.ReadCloser, error) {
		_, err := body.Seek(0, io.SeekStart)
		return io.NopCloser(body), err
	}
	first, err := rewind()
	if err != nil {
		return Version{}, err
	}
	sent := time.Now()
	resp, err := b.do(ctx, http.MethodPut, suffix, func(req *http.Request) {
		req.Body, req.GetBody, req.ContentLength = first, rewind, size
		req.Header.Set("Content-Type", "application/octet-stream")
		switch {
		case over == nil:
		case over.ETag == "":
			req.Header.Set("If-None-Match", "*")
		default:
			req.Header.Set("If-Match", quoteETag(over.ETag))
		}
		req.Header.Set("Expect", "100-continue") // hear a refusal before sending the body
	})
	if err != nil {
		return Version{}, err
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return Version{}, refused(resp, "its directory is missing on the server")
	}
	answered, _ := http.ParseTime(resp.Header.Get("Date")) // zero without one
	return Version{ETag: unquoteETag(resp.Header.Get("ETag")), Size: size, Modified: began(answered, sent)}, nil
}

// refused is the error for an answer other than success.
func refused(resp *http.Response, ifMissing string) error {
	said := resp.Request.Method + ": the server says " + resp.Status
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: %s: %s", ErrNotFound, said, ifMissing)
	case http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %s", ErrChanged, said)
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %s: put USER:PASSWORD into a file and name it by remote_credentials_file (--remote-credentials-file), or fix it", ErrForbidden, said)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrForbidden, said)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fmt.Errorf("%s: it does not take this method here; publishing takes a server that accepts PUT", said)
	case http.StatusConflict:
		return fmt.Errorf("%s: create the directory on the server first", said)
	}
	return errors.New(said)
}

// versionOf reads a version from an answer's header.
func versionOf(resp *http.Response) (Version, error) {
	length := resp.ContentLength
	if _, total, found := strings.Cut(resp.Header.Get("Content-Range"), "/"); found {
		var err error
		if length, err = strconv.ParseInt(total, 10, 64); err != nil {
			length = -1
		}
	}
	v := Version{ETag: unquoteETag(resp.Header.Get("ETag")), Size: max(length, 0)}
	modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err == nil {
		v.Modified = modified
	}
	if v.ETag == "" {
		if err != nil || length < 0 {
			return Version{}, fmt.Errorf("the server gives neither an ETag nor Last-Modified with a length, so %w", errNoVersion)
		}
		v.ETag = datePrefix + strconv.FormatInt(modified.Unix(), 10) + ":" + strconv.FormatInt(length, 10)
	}
	return v, nil
}

// quoteETag gives an ETag the form of a header, unquoteETag the form of a
// Version: without quotes, but weak ones still marked.
func quoteETag(etag string) string {
	if opaque, ok := strings.CutPrefix(etag, "W/"); ok {
		return `W/"` + opaque + `"`
	}
	return `"` + etag + `"`
}

func unquoteETag(header string) string {
	weak := ""
	if opaque, ok := strings.CutPrefix(header, "W/"); ok {
		weak, header = "W/", opaque
	}
	if header = strings.Trim(header, `"`); header == "" {
		return ""
	}
	return weak + header
}
