package store_test

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

func TestWebServersOfAllKindsServeVersions(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *webStore
		etag   string // beginning of it
	}{
		{"strong ETags", &webStore{}, ""},
		{"strong ETags, If-Match ignored", &webStore{ignoreIfMatch: true}, ""},
		{"weak ETags", &webStore{weakETags: true}, "W/"},
		{"no ETags but dates", &webStore{noETags: true}, "date:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate(t, c.server)
			remote := open(t, g.url+"/dev.npcnix")
			publish(t, remote, packed(t, "one"))
			one := latest(t, remote)
			if !strings.HasPrefix(one.ETag, c.etag) || strings.Contains(one.ETag, `"`) {
				t.Errorf("ETag %s, want %s…", one.ETag, c.etag)
			}
			g.take()
			wantFetch(t, remote, one, "one")
			if g.take()[0].Header.Get("Accept-Encoding") != "" {
				t.Error("the server may compress what it sends, and change its length")
			}
			if again, err := remote.Latest(t.Context(), one); err != nil || again != one {
				t.Errorf("got %+v, %v; want %+v", again, err, one)
			}
			asked := g.take()[0].Header
			if want := `"` + digest(packed(t, "one")) + `"`; !c.server.noETags && strings.TrimPrefix(asked.Get("If-None-Match"), c.etag) != want {
				t.Errorf("If-None-Match was %s, want %s%s", asked.Get("If-None-Match"), c.etag, want)
			}
			two := publish(t, remote, packed(t, "longer than one"))
			wantError(t, remote.Fetch(t.Context(), one, filepath.Join(t.TempDir(), "x")), store.ErrChanged, "")
			wantFetch(t, remote, two, "longer than one")
		})
	}
}

func TestWebServerThatTellsVersionsNotApartIsRefused(t *testing.T) {
	server := &webStore{noETags: true, noDates: true}
	server.put("/dev.npcnix", []byte("x"))
	_, err := open(t, newGate(t, server).url+"/dev.npcnix").Latest(t.Context(), store.Version{})
	if err == nil || !strings.Contains(err.Error(), "neither an ETag nor Last-Modified") {
		t.Errorf("got %v", err)
	}
}

func TestWebServerThatRefusesToPublishSaysWhy(t *testing.T) {
	for _, c := range []struct {
		status int
		want   error
		text   string
	}{
		{http.StatusMethodNotAllowed, nil, "a server that accepts PUT"},
		{http.StatusNotImplemented, nil, "a server that accepts PUT"},
		{http.StatusConflict, nil, "create the directory"},
		{http.StatusNotFound, store.ErrNotFound, "directory is missing"},
		{http.StatusUnauthorized, store.ErrForbidden, "remote_credentials_file"},
		{http.StatusForbidden, store.ErrForbidden, "403"},
		{http.StatusInsufficientStorage, nil, "507"},
	} {
		t.Run(http.StatusText(c.status), func(t *testing.T) {
			g := answers(t, c.status, nil, "")
			_, err := open(t, g.url+"/dev.npcnix").Publish(t.Context(), strings.NewReader("abc"), 3)
			if c.want == nil {
				c.want = err
			}
			wantError(t, err, c.want, c.text)
		})
	}
}

func TestRefusedArchiveIsNotSent(t *testing.T) {
	g := answers(t, http.StatusForbidden, nil, "")
	archive := bytes.NewReader(make([]byte, 8<<20))
	_, err := open(t, g.url+"/dev.npcnix").Publish(t.Context(), archive, archive.Size())
	wantError(t, err, store.ErrForbidden, "403")
	if read := archive.Size() - int64(archive.Len()); read > 0 {
		t.Errorf("%d bytes of it were", read)
	}
}

func TestPathIsSentAsItIsWritten(t *testing.T) {
	g := newGate(t, &webStore{})
	remote := open(t, g.url+"/a%2Fb")
	publish(t, remote, packed(t, "one"))
	if err := remote.PutRecord(t.Context(), "web_1", nil); err != nil {
		t.Fatal(err)
	}
	trace := g.take()
	object, record := trace[0].URL.EscapedPath(), trace[len(trace)-1].URL.EscapedPath()
	if object != "/a%2Fb" || record != "/a%2Fb.acks/web_1.json" {
		t.Errorf("went to %s and %s", object, record)
	}
}

func TestPasswordGoesToTheServerAndNowhereElse(t *testing.T) {
	g := newGate(t, &webStore{password: "s3cret"})
	right := strings.Replace(g.url, "//", "//npcnix:s3cret@", 1) + "/dev.npcnix?token=t0ken"
	remote := open(t, right)
	wantFetch(t, remote, publish(t, remote, packed(t, "one")), "one")
	if got := g.take()[0].URL.RawQuery; got != "token=t0ken" {
		t.Errorf("the query arrived as %q", got)
	}
	if err := remote.PutRecord(t.Context(), "web_1", []byte("{}")); err != nil {
		t.Error(err)
	}
	if got := g.take()[0].URL; got.Path != "/dev.npcnix.acks/web_1.json" || got.RawQuery != "token=t0ken" {
		t.Errorf("the record went to %s", got)
	}

	wrong := open(t, strings.Replace(right, "s3cret", "wr0ng", 1))
	_, refused := wrong.Latest(t.Context(), store.Version{})
	wantError(t, refused, store.ErrForbidden, "401")
	away := httptest.NewServer(nil)
	away.Close()
	_, unreachable := open(t, strings.Replace(away.URL, "//", "//npcnix:s3cret@", 1)+"/x?token=t0ken").Latest(t.Context(), store.Version{})
	for _, text := range []string{remote.URL(), refused.Error(), unreachable.Error()} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "wr0ng") || strings.Contains(text, "t0ken") || !strings.Contains(text, "127.0.0.1") {
			t.Errorf("shows %s", text)
		}
	}
}

func TestRedirects(t *testing.T) {
	server := &webStore{}
	target := newGate(t, server)
	redirect := func(status int) string {
		return newGate(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.url+r.URL.Path, status)
		})).url + "/dev.npcnix"
	}
	t.Run("are followed when reading", func(t *testing.T) {
		publish(t, open(t, target.url+"/dev.npcnix"), packed(t, "one"))
		remote := open(t, redirect(http.StatusFound))
		wantFetch(t, remote, latest(t, remote), "one")
	})
	t.Run("are told nothing of where they were sent from", func(t *testing.T) {
		target.take()
		latest(t, open(t, redirect(http.StatusFound)+"?token=s3cret"))
		if got := target.take()[0].Header; got.Get("Referer") != "" {
			t.Errorf("the Referer was %s", got.Get("Referer"))
		}
	})
	t.Run("are followed when publishing if they keep the method", func(t *testing.T) {
		remote := open(t, redirect(http.StatusTemporaryRedirect))
		wantFetch(t, remote, publish(t, remote, packed(t, "two")), "two")
	})
	t.Run("are no success when they make a PUT a GET", func(t *testing.T) {
		_, err := open(t, redirect(http.StatusFound)).Publish(t.Context(), strings.NewReader("abc"), 3)
		if err == nil || !strings.Contains(err.Error(), "drops the PUT") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("are not followed for ever", func(t *testing.T) {
		var g *gate
		g = newGate(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, g.url+"/dev.npcnix", http.StatusFound)
		}))
		_, err := open(t, g.url+"/dev.npcnix").Latest(t.Context(), store.Version{})
		if err == nil || !strings.Contains(err.Error(), "too many redirects") || len(g.take()) != 10 {
			t.Errorf("got %v", err)
		}
	})
}

func TestWebServerErrorsAreNotMistakenForAnObject(t *testing.T) {
	for _, status := range []int{http.StatusInternalServerError, http.StatusNoContent, http.StatusPartialContent} {
		g := answers(t, status, map[string]string{"ETag": `"x"`}, "")
		remote := open(t, g.url+"/dev.npcnix")
		if v, err := remote.Latest(t.Context(), store.Version{}); err == nil {
			t.Errorf("%d: latest is %+v", status, v)
		}
		if err := remote.Fetch(t.Context(), store.Version{ETag: "x"}, filepath.Join(t.TempDir(), "x")); err == nil {
			t.Errorf("%d was fetched", status)
		}
	}
}

func TestCredentialsComeFromAFileThatCanBeReplaced(t *testing.T) {
	server := &webStore{password: "first"}
	g := newGate(t, server)
	file := filepath.Join(t.TempDir(), "credentials")
	remote, err := store.Open(t.Context(), strings.Replace(g.url, "//", "//npcnix:wrong@", 1)+"/dev.npcnix", store.Options{CredentialsFile: file})
	if err != nil {
		t.Fatal(err)
	}
	_, err = remote.Latest(t.Context(), store.Version{})
	wantError(t, err, fs.ErrNotExist, "read the remote's credentials")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("npcnix:first\n")
	publish(t, remote, packed(t, "one"))
	server.password = "sec:ond"
	_, err = remote.Latest(t.Context(), store.Version{})
	wantError(t, err, store.ErrForbidden, "remote_credentials_file")
	write("npcnix:sec:ond\n")
	wantFetch(t, remote, latest(t, remote), "one")
	for _, bad := range []string{"", "password", "a:b\nc:d"} {
		write(bad)
		if _, err := remote.Latest(t.Context(), store.Version{}); err == nil || !strings.Contains(err.Error(), "one line USER:PASSWORD") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPlainHTTPIsWarnedOf(t *testing.T) {
	awsEnv(t)
	for url, want := range map[string]bool{
		"http://store.example/x":                      true,
		"http://192.0.2.1:8080/x":                     true,
		"https://store.example/x":                     false,
		"http://localhost:8080/x":                     false,
		"http://127.0.0.1/x":                          false,
		"http://[::1]/x":                              false,
		"s3://b/k?endpoint=http://minio.example:9000": true,
		"s3://b/k?endpoint=http://127.0.0.1:9000":     false,
		"s3://b/k":    false,
		"file:///x/y": false,
	} {
		var warned []string
		_, err := store.Open(t.Context(), url, store.Options{Region: "us-east-1", Warn: func(msg string) { warned = append(warned, msg) }})
		if err != nil || (len(warned) == 1) != want || want && !strings.Contains(warned[0], "use https") {
			t.Errorf("%s: warned %q, %v", url, warned, err)
		}
	}
	_, err := store.Open(t.Context(), "http://store.example/x", store.Options{Signed: true, Warn: func(msg string) { t.Errorf("warned %q", msg) }})
	if err != nil {
		t.Error(err)
	}
}
