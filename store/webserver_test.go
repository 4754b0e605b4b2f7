package store_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// webStore is a web server that keeps what is PUT, as a DAV server does. Its
// fields make it as poor as servers in the field are; set them before use.
type webStore struct {
	weakETags     bool // W/"…"
	noETags       bool
	noDates       bool
	ignoreIfMatch bool
	readOnly      bool
	password      string // of the user npcnix; empty: anybody

	mu    sync.Mutex
	files map[string]webFile
}

type webFile struct {
	body     []byte
	etag     string
	modified time.Time
}

func (s *webStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); s.password != "" && password != s.password {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	if s.ignoreIfMatch {
		r.Header.Del("If-Match")
	}
	s.mu.Lock()
	f, found := s.files[r.URL.Path]
	s.mu.Unlock()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if !found {
			http.NotFound(w, r)
			return
		}
		switch {
		case s.noETags:
		case s.weakETags:
			w.Header().Set("ETag", `W/"`+f.etag+`"`)
		default:
			w.Header().Set("ETag", `"`+f.etag+`"`)
		}
		if s.noDates {
			f.modified = time.Time{}
		}
		http.ServeContent(w, r, "", f.modified, bytes.NewReader(f.body))
	case http.MethodPut:
		if s.readOnly {
			http.Error(w, "no", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.put(r.URL.Path, body)
		w.WriteHeader(http.StatusCreated)
	}
}

func (s *webStore) put(path string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string]webFile{}
	}
	s.files[path] = webFile{body, digest(body), time.Now()}
}

// gate stands before a server, writes down what passes, and spoils it on demand.
type gate struct {
	url string

	mu       sync.Mutex
	trace    []*http.Request
	forbid   bool
	truncate bool
}

func newGate(tb testing.TB, next http.Handler) *gate {
	g := &gate{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.trace = append(g.trace, r.Clone(r.Context()))
		forbid, truncate := g.forbid, g.truncate
		g.mu.Unlock()
		switch {
		case forbid:
			w.WriteHeader(http.StatusForbidden)
		case truncate && r.Method == http.MethodGet:
			answer := httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			next.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(srv.Close)
	g.url = srv.URL
	return g
}

// proxyTo passes requests on as they are, Host header included.
func proxyTo(tb testing.TB, target string) http.Handler {
	to, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
}

// take returns the requests since it was called last.
func (g *gate) take() []*http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	trace := g.trace
	g.trace = nil
	return trace
}

func (g *gate) set(forbid, truncate bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forbid, g.truncate = forbid, truncate
}
