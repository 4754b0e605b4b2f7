package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

func TestPush(t *testing.T) {
	t.Run("is not superseded by what a cache still answers", pushOverCache)
	t.Run("to a store that names no version is unconfirmed", pushUnconfirmed)
}

// A web server behind a cache, which answers with the version before ours for some looks, is no newer publish.
func pushOverCache(t *testing.T) {
	var mu sync.Mutex
	published, late := false, 2
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		switch {
		case r.Method == http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body)
			published = true
			w.Header().Set("ETag", `"ours"`)
		case strings.Contains(r.URL.Path, ".acks/"):
			w.Header().Set("ETag", `"record"`)
			fmt.Fprintf(w, `{"schema": 1, "host": "web1", "remote": "%s/dev.npcnix", "version": {"etag": "none"}, "state": "applied"}`, server.URL)
		case published && late == 0:
			w.Header().Set("ETag", `"newest"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		default:
			if published {
				late--
			}
			w.Header().Set("ETag", `"older"`)
		}
	}))
	defer server.Close()
	flake := t.TempDir()
	if err := os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := execute(t.Context(), []string{"push", "--src", flake, "--remote", server.URL + "/dev.npcnix", "--wait", "--host", "web1", "--interval", "10ms"},
		io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "holds newest by now") || late != 0 {
		t.Errorf("%v, %d late answers left", err, late)
	}
}

// What was published but cannot be waited for has an exit code of its own.
func pushUnconfirmed(t *testing.T) {
	stored := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			stored++
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	defer server.Close()
	flake := t.TempDir()
	if err := os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{ outputs = _: { }; }"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	err := execute(t.Context(), []string{"push", "--src", flake, "--remote", server.URL + "/dev.npcnix"}, &stdout, &stderr)
	code := report(err, &stderr)
	if code != 6 || stored != 1 || stdout.String() != "" || !strings.Contains(stderr.String(), "published, but not confirmed") {
		t.Errorf("exit code %d, stored %d times: %s%s", code, stored, &stdout, &stderr)
	}
}

// The command that takes up a wait works as it is printed: a URL with secrets is left to a variable.
func TestCommandToGoOnHoldsNoSecret(t *testing.T) {
	for url, want := range map[string]string{
		"https://me:s3cret@host/dev.npcnix":      `--remote "$REMOTE" --etag x # REMOTE is the URL that was given`,
		"https://host/dev.npcnix?token=s3cret":   `--remote "$REMOTE" --etag x # REMOTE is the URL that was given`,
		"s3://b/dev.npcnix?region=eu-west-1":     `--remote 's3://b/dev.npcnix?region=eu-west-1' --etag x`,
		"file:///srv/it's here/dev.npcnix":       `--remote `,
		"https://host/npcnix/remotes/dev.npcnix": `--remote https://host/npcnix/remotes/dev.npcnix --etag x`,
	} {
		remote, err := store.Open(t.Context(), url, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := resume(newWaitCommand(&common{}).Flags(), remote, "x")
		if !strings.Contains(got, want) || strings.Contains(got, "s3cret") || strings.Contains(got, "redacted") {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// Where nix is missing a flake is published unseen, with a warning, unless a check was asked for.
func TestPushWithoutNixWarns(t *testing.T) {
	flake, remote := t.TempDir(), "file://"+t.TempDir()+"/dev.npcnix"
	if err := os.WriteFile(filepath.Join(flake, "flake.nix"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	var stderr strings.Builder
	if err := execute(t.Context(), []string{"push", "--src", flake, "--remote", remote}, io.Discard, &stderr); err != nil || !strings.Contains(stderr.String(), "there is no nix here") {
		t.Errorf("%v, said %s", err, stderr.String())
	}
	if err := execute(t.Context(), []string{"push", "--src", flake, "--remote", remote, "--check"}, io.Discard, io.Discard); err == nil {
		t.Error("--check passed without nix")
	}
}
