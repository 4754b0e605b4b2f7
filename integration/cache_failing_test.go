package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/nixtest"
	"github.com/npcnix/npcnix/store/release"
)

// cacheFailure is a way in which a cache fails, and what a host's record says of it: an expression, in which NEEDED is the
// path that is missing.
type cacheFailure struct {
	name, says string
	begin      func(*failingCache)
}

var cacheFailures = []cacheFailure{
	{"is down", "out of reach: ", (*failingCache).down},
	{"answers 403", "absent or forbidden: |HTTP error 403", answering(http.StatusForbidden)},
	{"answers 503", "out of reach: .*503", answering(http.StatusServiceUnavailable)},
	{"answers garbage", "corrupt", answering(http.StatusOK)},
	{"lost one dependency", "absent or forbidden: NEEDED", func(c *failingCache) { c.lose(c.narinfo(c.needed)) }},
	{"lost an archive but not its narinfo", "a path's archive is missing: ", func(c *failingCache) { c.lose(c.archive(c.needed)) }},
}

// Whatever keeps a cache from giving a prebuilt system, its hosts wait for it, tell so, and take the system as soon as
// the cache has it again. A host that may evaluate at last does not do so before its time.
func TestACacheThatFails(t *testing.T) {
	t.Parallel()
	for _, f := range cacheFailures {
		t.Run("one that "+f.name, func(t *testing.T) {
			t.Parallel()
			c := newFailingCache(t)
			c.publish("never", "rescue")
			f.begin(c)
			hosts := []*waitingHost{c.join("never", config.EvaluateNever, 0), c.join("rescue", config.EvaluateRescue, 3600)}
			for _, h := range hosts {
				h.waits(strings.ReplaceAll(f.says, "NEEDED", regexp.QuoteMeta(c.needed)))
			}
			c.heal()
			for _, h := range hosts {
				h.applies()
				if did := h.evaluated(); len(did) > 0 {
					t.Errorf("%s has evaluated: %q", h.name, did)
				}
			}
		})
	}
}

// While the cache is down, only those evaluate whose setting says so.
func TestWhoEvaluatesWithoutACache(t *testing.T) {
	t.Parallel()
	c := newFailingCache(t)
	c.publish("fallback", "rescue")
	c.down()
	named, rescue := c.join("fallback", config.EvaluateFallback, 1), c.join("rescue", config.EvaluateRescue, 1)
	unnamed := c.join("unnamed", config.EvaluateFallback, 3600)
	for _, h := range []*waitingHost{rescue, unnamed} {
		h.applies()
		if did := h.evaluated(); len(did) == 0 {
			t.Errorf("%s runs the system, and has evaluated nothing", h.name)
		}
	}
	named.waits("out of reach: ")
	if did := named.evaluated(); len(did) > 0 {
		t.Errorf("the system that the release names was evaluated: %q", did)
	}
}

// failingCache is a binary cache on HTTP that can fail, and what is published with it.
type failingCache struct {
	*world
	binaryCache
	address   string
	server    *http.Server
	fails     func(http.ResponseWriter)
	publisher *host
	systems   map[string]release.System
	needed    string // a path that each system refers to
}

func newFailingCache(t *testing.T) *failingCache {
	t.Helper()
	w := newFakeWorld(t)
	c := &failingCache{world: w, binaryCache: binaryCache{files: map[string][]byte{}}, publisher: newHost(w, "publisher")}
	// An address that no other test's programs get while the cache is down.
	c.address = "127.0.9.1:0"
	c.up()
	t.Cleanup(c.down)
	return c
}

func (c *failingCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	fails := c.fails
	c.mu.Unlock()
	if fails != nil {
		fails(w)
		return
	}
	c.binaryCache.ServeHTTP(w, r)
}

func (c *failingCache) up() {
	c.t.Helper()
	l, err := net.Listen("tcp", c.address)
	c.must(err)
	c.address, c.server = l.Addr().String(), &http.Server{Handler: c}
	go func(s *http.Server) { _ = s.Serve(l) }(c.server)
}

func (c *failingCache) down() { _ = c.server.Close() }

// answering has a cache answer everything with a status and a text that means nothing to nix.
func answering(status int) func(*failingCache) {
	return func(c *failingCache) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fails = func(w http.ResponseWriter) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>a captive portal</html>")
		}
	}
}

func (c *failingCache) narinfo(storePath string) string {
	id, _, _ := strings.Cut(filepath.Base(storePath), "-")
	return "/" + id + ".narinfo"
}

// archive is the name of the file that a path's narinfo names.
func (c *failingCache) archive(storePath string) string {
	c.t.Helper()
	url := regexp.MustCompile(`(?m)^URL: (.*)$`).FindSubmatch(c.files[c.narinfo(storePath)])
	if url == nil {
		c.t.Fatalf("the cache has no %s", storePath)
	}
	return "/" + string(url[1])
}

// lost is the suffix of a lost file's name.
const lost = ".lost"

func (c *failingCache) lose(name string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[name] == nil {
		c.t.Fatalf("the cache has no %s", name)
	}
	c.files[name+lost] = c.files[name]
	delete(c.files, name)
}

// heal ends whatever fails.
func (c *failingCache) heal() {
	c.t.Helper()
	c.down()
	c.mu.Lock()
	c.fails = nil
	for name, content := range c.files {
		c.files[strings.TrimSuffix(name, lost)] = content
	}
	c.mu.Unlock()
	c.up()
}

// publish pushes a release that names systems for hosts, and a flake that has one for "unnamed" too. The machine's store,
// which is that of the hosts and of the publisher, loses the systems.
func (c *failingCache) publish(names ...string) {
	c.t.Helper()
	p := c.publisher
	tool := func(name string, args ...string) string {
		c.t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(p.nixEnv(), "XDG_CACHE_HOME="+p.path("cache"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			c.t.Fatalf("%s %s: %v\n%s", name, args, err, &stderr)
		}
		return strings.TrimSpace(string(out))
	}
	tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", p.path("key"))
	tool("nix-store", "--generate-binary-cache-key", "cache-1", p.path("cache.sec"), p.path("cache.pub"))
	systems := map[string]nixtest.System{}
	for _, name := range append(names, "unnamed") {
		systems[name] = nixtest.System{Version: "one", SwitchRuns: ": NEEDED"}
	}
	c.must(nixtest.Flake(p.path("flake"), p.salt, systems))
	needed := fmt.Sprintf(`${derivation { name = "needed"; system = %q; builder = "/bin/sh"; args = [ "-c" "echo %s >$out" ]; }}`, nixtest.Platform(), p.salt)
	flake := bytes.ReplaceAll(p.read("flake/flake.nix"), []byte("NEEDED"), []byte(needed))
	c.must(os.WriteFile(p.path("flake", "flake.nix"), flake, 0o644))
	args := []string{"push", "--src", p.path("flake"), "--remote", remote, "--sign-key", p.path("key"),
		"--prebuild", "--cache", "http://" + c.address, "--cache-key", p.path("cache.sec")}
	for _, name := range names {
		args = append(args, "--prebuild-configuration", name)
	}
	tool(npcnix, args...)
	c.systems = p.published().Systems
	var toplevels []string
	for _, name := range names {
		toplevels = append(toplevels, c.systems[name].Toplevel)
	}
	c.needed = tool("nix-store", "--query", "--references", toplevels[0])
	tool("nix-store", append([]string{"--delete", c.needed}, toplevels...)...)
}

// waitingHost is a host whose nix notes what it is called for.
type waitingHost struct {
	*host
	cache *failingCache
}

// join starts the agent of a host. It retries a version for some seconds.
func (c *failingCache) join(name, evaluation string, retries int) *waitingHost {
	c.t.Helper()
	h := &waitingHost{newHost(c.world, name), c}
	for _, program := range []string{"nix", "nix-build", "nix-env", "nix-instantiate", "nix-store"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$*\" >>%s\nexec %s \"$@\"\n", program, h.path("called"), need(c.t, program))
		c.must(os.MkdirAll(h.path("bin"), 0o755))
		c.must(os.WriteFile(h.path("bin", program), []byte(script), 0o755))
	}
	h.nixConfig = "download-attempts = 1" // of a look: it looks again soon
	h.configure(map[string]any{
		"remote": remote, "configuration": name, "evaluation": evaluation, "retry_delays_secs": []int{retries},
		"signers": []string{strings.TrimSpace(string(c.publisher.read("key.pub")))}, "min_sleep_secs": 1, "max_sleep_secs": 1,
	})
	c.settings = []string{"PATH=" + h.path("bin") + ":" + os.Getenv("PATH")}
	h.start()
	c.settings = nil
	return h
}

// called are the commands that were run and have one of the words.
func (h *waitingHost) called(words ...string) (commands []string) {
	data, _ := os.ReadFile(h.path("called"))
	for line := range strings.Lines(string(data)) {
		for _, word := range strings.Fields(line) {
			for _, w := range words {
				if word == w {
					commands = append(commands, line)
				}
			}
		}
	}
	return commands
}

func (h *waitingHost) evaluated() []string {
	return h.called("nix-build", "nix-instantiate", "build", "copy", "develop", "eval", "flake", "profile", "run", "search", "shell")
}

// waits waits until the host has tried again, and says why that has failed.
func (h *waitingHost) waits(says string) {
	h.t.Helper()
	h.await("a second try to fetch the system", func() bool { return len(h.called("--realise")) > 1 })
	var r record.Record
	h.await("a record of trouble", func() bool { r = h.record(); return r.Trouble != nil })
	if r.Trouble.Kind != string(health.Cache) || !strings.Contains(r.Trouble.Error, "the system cannot be had from its caches") ||
		!regexp.MustCompile(says).MatchString(r.Trouble.Error) || r.Status != record.Building {
		h.t.Errorf("%s is %s: %+v, want %s", h.name, r.Status, r.Trouble, says)
	}
	if h.marker() != "" {
		h.t.Errorf("%s runs %q", h.name, h.marker())
	}
}

// applies waits until the system of the release runs.
func (h *waitingHost) applies() {
	h.t.Helper()
	var r record.Record
	h.await("the system is applied", func() bool { r = h.record(); return r.Status == record.Applied && r.Trouble == nil })
	if r.Attempt != 1 || h.marker() != "one" {
		h.t.Errorf("%s runs %q: %+v", h.name, h.marker(), r)
	}
	if s, named := h.cache.systems[h.name]; named && r.System != s.Toplevel || filepath.Dir(r.System) != "/nix/store" {
		h.t.Errorf("%s runs %s, want %+v", h.name, r.System, s)
	}
}
