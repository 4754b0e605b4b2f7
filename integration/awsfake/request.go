package awsfake

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// request is one API call: what it asks, and its body read to the end, so that the server notices when
// the client goes away.
type request struct {
	Call
	*http.Request
	query  url.Values
	body   []byte
	form   url.Values // of SNS and STS
	handle func(*Cloud, *request) (*answer, error)
}

// newRequest reads a request and finds out which service and action it is for: SQS speaks JSON with a
// target header, SNS and STS send forms, everything else is S3.
func newRequest(hr *http.Request) (*request, error) {
	body, err := io.ReadAll(hr.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	r := &request{Request: hr, query: hr.URL.Query(), body: body}
	credential := r.query.Get("X-Amz-Credential")
	if _, rest, found := strings.Cut(hr.Header.Get("Authorization"), "Credential="); found {
		credential = rest
	}
	r.AccessKey, _, _ = strings.Cut(credential, "/")

	if action, found := strings.CutPrefix(hr.Header.Get("X-Amz-Target"), "AmazonSQS."); found {
		r.Service, r.Action = "sqs", action
		routeSQS(r)
		return r, nil
	}
	if hr.Method == http.MethodPost && strings.HasPrefix(hr.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		r.form, err = url.ParseQuery(string(body))
		if err == nil && r.form.Has("Action") {
			r.Service, r.Action = "sns", r.form.Get("Action")
			if r.form.Get("Version") == stsVersion {
				r.Service = "sts"
				routeSTS(r)
				return r, nil
			}
			routeSNS(r)
			return r, nil
		}
	}
	r.Service = "s3"
	r.Bucket, r.Key = address(hr)
	routeS3(r)
	return r, nil
}

// address splits an S3 request's address into bucket and key: the bucket is a label of the host
// (bucket.localhost, bucket.s3.…) or else the first part of the path.
func address(hr *http.Request) (bucket, key string) {
	path := strings.TrimPrefix(hr.URL.Path, "/")
	host := hr.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, mark := range []string{".localhost", ".s3.", ".s3-"} {
		if i := strings.Index(host, mark); i > 0 {
			return host[:i], path
		}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// answer is a whole HTTP response; a handler never writes to the connection itself.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) send(w http.ResponseWriter, method string, truncate bool) {
	if truncate && (len(a.body) == 0 || method == http.MethodHead) {
		reset(w)
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	id := newID()
	w.Header().Set("X-Amz-Request-Id", id) // S3's
	w.Header().Set("X-Amzn-Requestid", id) // SQS's and SNS'
	body := a.body
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		if w.Header().Get("Content-Length") == "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		if truncate {
			body = body[:len(body)/2] // net/http closes a connection that is owed bytes
		}
	} else {
		body = nil
	}
	w.WriteHeader(a.status)
	if method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone gets no answer
	}
}

// with sets a header.
func (a *answer) with(name, value string) *answer {
	if value != "" {
		a.header.Set(name, value)
	}
	return a
}

func answerEmpty(status int) *answer { return &answer{status: status, header: http.Header{}} }

func answerXML(v any) (*answer, error) {
	body, err := xml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	a := answerEmpty(http.StatusOK).with("Content-Type", "application/xml")
	a.body = append([]byte(xml.Header), body...)
	return a, nil
}

func answerJSON(v any) (*answer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	a := answerEmpty(http.StatusOK).with("Content-Type", "application/x-amz-json-1.0")
	a.body = body
	return a, nil
}

// apiError is a refusal that the client sees.
type apiError struct {
	status  int
	code    string // for SQS the query-protocol code, which the SDKs show
	message string
	header  http.Header
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...), header: http.Header{}}
}

// failure makes an error into a refusal, if it is not one already.
func failure(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	return refuse(http.StatusInternalServerError, "InternalError", "%v", err)
}

// sqsShapes are the JSON names of errors whose query-protocol code is not the same.
var sqsShapes = map[string]string{
	"AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
	"QueueAlreadyExists":                      "QueueNameExists",
}

// answer puts a refusal into the form of the request's service.
func (e *apiError) answer(r *request) *answer {
	a := &answer{status: e.status, header: e.header}
	id, fault := newID(), "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	var err error
	switch r.Service {
	case "sqs":
		shape, found := sqsShapes[e.code]
		if !found {
			shape = e.code[strings.LastIndex(e.code, ".")+1:]
		}
		a.with("Content-Type", "application/x-amz-json-1.0").with("X-Amzn-Query-Error", e.code+";"+fault)
		a.body, err = json.Marshal(map[string]string{"__type": "com.amazonaws.sqs#" + shape, "message": e.message})
	case "sns", "sts":
		a.with("Content-Type", "text/xml")
		a.body, err = xml.Marshal(struct {
			XMLName   xml.Name `xml:"http://sns.amazonaws.com/doc/2010-03-31/ ErrorResponse"`
			Type      string   `xml:"Error>Type"`
			Code      string   `xml:"Error>Code"`
			Message   string   `xml:"Error>Message"`
			RequestID string   `xml:"RequestId"`
		}{Type: fault, Code: e.code, Message: e.message, RequestID: id})
	default:
		a.with("Content-Type", "application/xml")
		a.body, err = xml.Marshal(struct {
			XMLName   xml.Name `xml:"Error"`
			Code      string
			Message   string
			RequestID string `xml:"RequestId"`
			HostID    string `xml:"HostId"`
		}{Code: e.code, Message: e.message, RequestID: id, HostID: id})
	}
	if err != nil {
		a.status, a.body = http.StatusInternalServerError, nil
	}
	return a
}

// newID is a random identifier in the form that AWS gives messages, requests and subscriptions.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
