package store

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestTLSIsSpokenAndNotLeft(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/leave" {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusFound)
			return
		}
		w.Header().Set("ETag", `"x"`)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // a handshake is meant to fail
	srv.StartTLS()
	defer srv.Close()
	head := func(path string) (Version, error) {
		u, err := url.Parse(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b := newHTTP(u, "")
		// Nothing but the root certificates is the test's.
		b.client.Transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
		return b.head(t.Context(), "", Version{})
	}
	if v, err := head("/stay"); err != nil || v.ETag != "x" {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := head("/leave"); err == nil || !strings.Contains(err.Error(), "redirects from https") {
		t.Errorf("got %v", err)
	}
	u, _ := url.Parse(srv.URL + "/stay")
	if _, err := newHTTP(u, "").head(t.Context(), "", Version{}); err == nil {
		t.Error("an unknown certificate was accepted")
	}
}
