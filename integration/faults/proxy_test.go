package faults

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// proxy stands before the cloud. It does to requests and answers of the agent what awsfake, which is an honest AWS,
// does not.
type proxy struct {
	cloud *awsfake.Cloud

	mu       sync.Mutex
	rule     *rule
	fetching func() // is called once, when the agent fetches a flake
	requests int    // of the agent, since the start
}

// rule says what becomes of some of the agent's requests.
type rule struct {
	match  func(*http.Request) bool
	strike func(w http.ResponseWriter, r *http.Request, cloud http.Handler)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if byPublisher(r) {
		p.cloud.ServeHTTP(w, r)
		return
	}

	p.mu.Lock()
	p.requests++
	var fetching func()
	if isFetch(r) {
		fetching, p.fetching = p.fetching, nil
	}
	p.mu.Unlock()
	if fetching != nil {
		fetching()
	}

	p.mu.Lock()
	rule := p.rule
	p.mu.Unlock()
	if rule != nil && rule.match(r) {
		rule.strike(w, r, p.cloud)
		return
	}
	p.cloud.ServeHTTP(w, r)
}

// use puts a rule in force until end is called.
func (p *proxy) use(match func(*http.Request) bool, strike func(w http.ResponseWriter, r *http.Request, cloud http.Handler)) (end func()) {
	set := func(r *rule) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rule = r
	}
	set(&rule{match, strike})

	return func() { set(nil) }
}

// alter changes the answers to some of the agent's requests.
func (p *proxy) alter(match func(*http.Request) bool, change func(*httptest.ResponseRecorder)) (end func()) {
	return p.use(match, func(w http.ResponseWriter, r *http.Request, cloud http.Handler) {
		answer := httptest.NewRecorder()
		cloud.ServeHTTP(answer, r)
		change(answer)
		send(w, answer)
	})
}

// body gives the answers to some requests another body, after the same headers.
func (p *proxy) body(match func(*http.Request) bool, write func(ctx context.Context, w io.Writer, body []byte)) (end func()) {
	return p.use(match, func(w http.ResponseWriter, r *http.Request, cloud http.Handler) {
		answer := httptest.NewRecorder()
		cloud.ServeHTTP(answer, r)
		copyHeader(w, answer)
		w.WriteHeader(answer.Code)
		write(r.Context(), w, answer.Body.Bytes())
	})
}

func send(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	copyHeader(w, answer)
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func copyHeader(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
}

func byPublisher(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Authorization"), "Credential="+publisher+"/")
}

func isFlake(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+key) }
func isFetch(r *http.Request) bool {
	return isFlake(r) && r.Method == http.MethodGet && r.Header.Get("Range") == ""
}
func isLook(r *http.Request) bool { return isFlake(r) && !isFetch(r) }
func isS3(r *http.Request) bool   { return !isSQS(r) }
func isSQS(r *http.Request) bool  { return r.Header.Get("X-Amz-Target") != "" }
func isAny(*http.Request) bool    { return true }
func receives(r *http.Request) bool {
	return r.Header.Get("X-Amz-Target") == "AmazonSQS.ReceiveMessage"
}

// refuse answers as S3 and SQS refuse.
func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	if isSQS(r) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws.sqs#`+code+`","message":"injected by a test"}`)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>`+code+`</Code><Message>injected by a test</Message></Error>`)
}

// portal answers as the login page of a network does.
func portal(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<html>Please log in.</html>")
}

// skewed refuses requests of a host whose clock differs from the cloud's by more than 15 minutes, as AWS does.
func skewed(by time.Duration) func(w http.ResponseWriter, r *http.Request, cloud http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, cloud http.Handler) {
		now := time.Now().Add(by)
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		if off := now.Sub(signed); err == nil && (off > 15*time.Minute || off < -15*time.Minute) {
			refuse(w, r, http.StatusForbidden, "RequestTimeTooSkewed")
			return
		}
		cloud.ServeHTTP(w, r)
	}
}

// length returns an answer's Content-Length, changed by some bytes.
func length(answer *httptest.ResponseRecorder, more int) string {
	return strconv.Itoa(answer.Body.Len() + more)
}
