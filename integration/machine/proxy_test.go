package machine

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProxy(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		}
		fmt.Fprint(w, "reached ", r.URL.Path)
	}))
	t.Cleanup(func() { close(hang); server.Close() })
	m := Boot(t, Options{})
	through := m.Proxy(server.URL)
	get := func() (string, error) {
		r, err := http.Get(through + "/a")
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return string(body), err
	}
	if body, err := get(); err != nil || body != "reached /a" {
		t.Errorf("through the machine: %q, %v", body, err)
	}
	long, err := http.Get(through + "/hangs")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	good := m.Install(System{Version: "good"})
	m.Install(System{Version: "cut", Units: map[string]string{"firewall.service": NetworkCut}})
	if _, err := io.ReadAll(long.Body); err == nil {
		t.Error("an open connection survives the network")
	}
	if body, err := get(); err == nil {
		t.Errorf("the server is reached without a network: %q", body)
	}
	m.Must(good+"/bin/switch-to-configuration", "switch")
	if body, err := get(); err != nil || body != "reached /a" {
		t.Errorf("after the rollback: %q, %v", body, err)
	}
}
