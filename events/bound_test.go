package events

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAnAnswerWithoutEndIsAnError(t *testing.T) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "1",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_SQS": "", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} {
		t.Setenv(name, value)
	}
	const most = 1 << 30
	var sent atomic.Int64
	block := bytes.Repeat([]byte(" "), 1<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // an answer that comes before may break it
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		for sent.Load() < most {
			n, err := w.Write(block)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}))
	defer server.Close()
	q, err := OpenQueue(t.Context(), QueueOptions{URL: server.URL + "/123456789012/web1", Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for try := 0; try < 10 && !strings.Contains(said, "too large"); try++ { // the client may close the connection under its read
		sent.Store(0)
		if _, err := q.Receive(t.Context()); err == nil {
			t.Fatal("an answer without an end was taken")
		} else {
			said = err.Error()
		}
	}
	if !strings.Contains(said, "too large") {
		t.Errorf("error is %v", said)
	}
	server.CloseClientConnections()
	server.Close()
	if n := sent.Load(); n >= 8*maxAnswer { // what sockets hold is beyond the bound
		t.Errorf("%d bytes were read", n)
	}
}
