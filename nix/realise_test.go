package nix_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// prebuilt is a system that is in a signed cache, and not in the store.
type prebuilt struct {
	nix.System
	needs string // a path that the system refers to
	cache nix.Cache
	dir   string // of the cache
}

// deeper is a flake whose system refers to another path, as each real one does.
const deeper = `{ outputs = { self }: let
  make = name: text: derivation { inherit name; system = builtins.currentSystem or "SYSTEM"; builder = "/bin/sh"; args = [ "-c" "echo ${text} >$out" ]; };
in { nixosConfigurations.web1.config.system.build.toplevel = make "toplevel" (make "needed" "SALT"); }; }`

func newPrebuilt(t *testing.T, h *host) *prebuilt {
	t.Helper()
	dir := t.TempDir()
	flake := filepath.Join(dir, "flake")
	system := strings.TrimSpace(nixOutput(t, "eval", "--raw", "--impure", "--expr", "builtins.currentSystem"))
	text := strings.NewReplacer("SYSTEM", system, "SALT", nixtest.Salt()+filepath.Base(dir)).Replace(deeper)
	if err := os.MkdirAll(flake, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(flake, "flake.nix"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	p := &prebuilt{System: h.built(t, flake, "web1"), dir: filepath.Join(dir, "cache")}
	for line := range strings.Lines(output(t, "nix-store", "--query", "--references", p.Path)) {
		p.needs = strings.TrimSpace(line)
	}
	p.cache = nix.Cache{URL: "file://" + p.dir, Keys: []string{key(t, dir, "cache-1")}}
	nixOutput(t, "copy", "--to", p.cache.URL+"?secret-key="+filepath.Join(dir, "cache-1"), p.Path)
	p.forget(t, h)
	return p
}

// forget removes the system from the store.
func (p *prebuilt) forget(t *testing.T, h *host) {
	t.Helper()
	links, _ := filepath.Glob(filepath.Join(h.opts.Dir, "roots", "*"))
	for _, link := range links {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	nixtest.Delete(t, nil, p.Path, p.needs)
}

// key makes a pair of keys in dir, the secret one in the file name, and returns the public one.
func key(t *testing.T, dir, name string) string {
	t.Helper()
	secret, public := filepath.Join(dir, name), filepath.Join(dir, name+".pub")
	output(t, "nix-store", "--generate-binary-cache-key", name, secret, public)
	text, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func nixOutput(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, "nix", append([]string{"--extra-experimental-features", "nix-command flakes"}, args...)...)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, args, err, stderr.String())
	}
	return string(out)
}

func TestRealise(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		p := newPrebuilt(t, h)

		for name, c := range map[string]struct {
			change func(t *testing.T)
			caches []nix.Cache
			want   error
			says   string
		}{
			"a cache whose key is not trusted": {nil, []nix.Cache{{p.cache.URL, []string{key(t, t.TempDir(), "stranger-1")}}}, nix.ErrUntrusted, "stranger-1"},
			"a cache that lacks the system":    {nil, []nix.Cache{{"file://" + t.TempDir(), p.cache.Keys}}, nix.ErrNotCached, p.Path},
			"a cache that does not answer":     {nil, []nix.Cache{{"http://" + closedPort(t), p.cache.Keys}}, nix.ErrNotCached, "out of reach"},
			"a cache that lost a dependency": {func(t *testing.T) {
				hash, _, _ := strings.Cut(filepath.Base(p.needs), "-")
				hidden(t, filepath.Join(p.dir, hash+".narinfo"))
			}, []nix.Cache{p.cache}, nix.ErrNotCached, p.needs},
			"a cache that answers 403":          {nil, []nix.Cache{answering(t, http.StatusForbidden, p.cache)}, nix.ErrNotCached, p.Path},
			"a cache that answers 503":          {nil, []nix.Cache{answering(t, http.StatusServiceUnavailable, p.cache)}, nix.ErrNotCached, "503"},
			"a cache that answers with garbage": {nil, []nix.Cache{answering(t, http.StatusOK, p.cache)}, nix.ErrNotCached, ""},
			"a cache that lost its archives":    {func(t *testing.T) { hidden(t, filepath.Join(p.dir, "nar")) }, []nix.Cache{p.cache}, nix.ErrNotCached, "archive is missing"},
		} {
			t.Run(name, func(t *testing.T) {
				if c.change != nil {
					c.change(t)
				}
				if cache := c.caches[0]; strings.HasPrefix(cache.URL, "file:") && c.says != "archive is missing" { // others are tried again and again
					if err := h.CachedClosure(t.Context(), p.System, cache); !errors.Is(err, c.want) {
						t.Errorf("is it cached: %v, want %v", err, c.want)
					}
				}
				err := h.Realise(t.Context(), p.System, c.caches)
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v with %q", err, c.want, c.says)
				}
				if _, err := os.Lstat(p.Path); err == nil {
					t.Errorf("%s is in the store", p.Path)
				}
			})
		}

		t.Run("what a cache has is told without a download", func(t *testing.T) {
			if err := h.CachedClosure(t.Context(), p.System, p.cache); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(p.Path); err == nil {
				t.Errorf("%s is in the store", p.Path)
			}
		})

		t.Run("over HTTP", func(t *testing.T) {
			server := httptest.NewServer(http.FileServer(http.Dir(p.dir)))
			defer server.Close()
			if err := h.Realise(t.Context(), p.System, []nix.Cache{{URL: server.URL, Keys: p.cache.Keys}}); err != nil {
				t.Fatal(err)
			}
			p.forget(t, h)
		})

		t.Run("the whole system, held against garbage collection", func(t *testing.T) {
			if err := h.Realise(t.Context(), p.System, []nix.Cache{p.cache}); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("nix-store", "--delete", p.Path).Run(); err == nil {
				t.Error("the system could be deleted")
			}
			if err := h.Realise(t.Context(), p.System, []nix.Cache{{"http://" + closedPort(t), nil}}); err != nil {
				t.Errorf("again, with its cache gone: %v", err)
			}
		})
	})
}

func TestPasswordsOfCachesAreNowhere(t *testing.T) {
	const cache = "https://me:hunter2@cache.example"
	s := nix.System{Path: "/nix/store/00000000000000000000000000000000-x"}
	for name, ask := range map[string]func(*host) error{
		"realise": func(h *host) error { return h.Realise(t.Context(), s, []nix.Cache{{URL: cache}}) },
		"copy":    func(h *host) error { return h.CopyTo(t.Context(), s, cache, "") },
		"compare": func(h *host) error { _, _, err := h.Changes(t.Context(), s, s, cache); return err },
		"look":    func(h *host) error { return h.Cached(t.Context(), cache, []nix.System{s}) },
		"verify":  func(h *host) error { return h.CachedClosure(t.Context(), s, nix.Cache{URL: cache}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			fakeOnPath(t, "cannot reach caches")
			err := ask(h)
			if err == nil || !strings.Contains(err.Error(), "https://cache.example") {
				t.Errorf("error: %v", err)
			}
			kept, _ := os.ReadFile(filepath.Join(h.opts.Dir, "build.log"))
			var failed *nix.RealiseError
			if errors.As(err, &failed) {
				kept = append(kept, strings.Join(failed.Tail, "\n")...)
			}
			for what, text := range map[string]string{"error": fmt.Sprint(err), "log": h.log.String(), "build.log and tail": string(kept)} {
				if strings.Contains(text, "hunter2") {
					t.Errorf("the %s has the password: %s", what, text)
				}
			}
		})
	}
}

func TestRealiseEndsWithItsContext(t *testing.T) {
	nixtest.Installed(t)
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer hangs.Close()

	err := h.Realise(ctx, nix.System{Path: "/nix/store/" + strings.Repeat("0", 32) + "-absent"}, []nix.Cache{{URL: hangs.URL}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// answering is a cache that says what it is, and answers all else with a status and garbage.
func answering(t *testing.T, status int, like nix.Cache) nix.Cache {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/nix-cache-info" {
			_, _ = io.WriteString(w, "StoreDir: /nix/store\n")
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html>a captive portal</html>")
	}))
	t.Cleanup(server.Close)

	return nix.Cache{URL: server.URL, Keys: like.Keys}
}

// hidden moves a file away until the test ends.
func hidden(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".hidden"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(path) // nix may have made an empty one
		if err := os.Rename(path+".hidden", path); err != nil {
			t.Error(err)
		}
	})
}

// closedPort is an address that nobody listens on.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
