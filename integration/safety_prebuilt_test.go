package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
)

const (
	publisherDir = "/var/lib/publisher" // its keys, and what it has in the place of the host's /nix
	evaluated    = "/var/lib/machine/evaluated"
)

// evaluatesNothing is a nix that refuses each command that would evaluate, and notes it. PROGRAMS has the real one.
const evaluatesNothing = `#!/bin/bash
for word in "${0##*/}" "$@"; do
	case $word in nix-build | nix-instantiate | build | copy | develop | eval | flake | profile | run | search | shell)
		echo "${0##*/} $*" >>` + evaluated + `
		echo "error: this host evaluates nothing" >&2
		exit 1 ;;
	esac
done
exec PROGRAMS/"${0##*/}" "$@"
`

// binaryCache is a cache that nix writes to and reads from by HTTP.
type binaryCache struct {
	mu    sync.Mutex
	files map[string][]byte
	hold  bool
	held  chan struct{} // gets one for each request for an archive that waits
	ended chan struct{} // closed when they need not wait any more
}

func (c *binaryCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	content, found := c.files[r.URL.Path]
	hold, held, ended := c.hold && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/nar/"), c.held, c.ended
	c.mu.Unlock()
	switch {
	case r.Method == http.MethodPut:
		content, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		c.files[r.URL.Path] = content
		c.mu.Unlock()
	case !found:
		http.NotFound(w, r)
	default:
		if hold {
			select {
			case held <- struct{}{}:
			default:
			}
			select {
			case <-ended:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write(content)
	}
}

// holding has requests for archives wait until it is called again.
func (c *binaryCache) holding(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hold {
		close(c.ended)
	}
	c.hold, c.held, c.ended = on, make(chan struct{}, 1), make(chan struct{})
}

// prebuild has all that is published from now on be signed and built elsewhere. The host's nix evaluates nothing.
func (g *guarded) prebuild() *binaryCache {
	g.t.Helper()
	c := &binaryCache{files: map[string][]byte{}}
	server := httptest.NewServer(c)
	g.t.Cleanup(server.Close)
	g.cache = g.m.Proxy(server.URL)
	key := filepath.Join(g.t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		g.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	secret, err := os.ReadFile(key)
	g.must(err)
	public, err := os.ReadFile(key + ".pub")
	g.must(err)
	g.m.Write(publisherDir+"/key", string(secret))
	g.m.Must("nix-store", "--generate-binary-cache-key", "cache-1", publisherDir+"/cache-key", publisherDir+"/cache-key.pub")
	g.settings["signers"] = []string{strings.TrimSpace(string(public))}
	g.settings["evaluation"] = "never"
	g.set(nil)
	for _, program := range []string{"nix", "nix-build", "nix-instantiate"} {
		g.m.Write("/usr/local/bin/"+program, strings.ReplaceAll(evaluatesNothing, "PROGRAMS", g.programs()))
	}
	return c
}

// programs is the folder of the machine's own nix.
func (g *guarded) programs() string {
	if g.nix == "" {
		return "/usr/bin"
	}
	return g.nix + "/bin"
}

var md5Alone = regexp.MustCompile(`(?m)^[0-9a-f]{32}$`)

// pushPrebuilt publishes the flake in dir from within the machine, where the publisher has a nix store of its own.
func (g *guarded) pushPrebuilt(dir, remote string) (etag string) {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "flake.nix"))
	g.must(err)
	src := publisherDir + "/flake"
	g.m.Write(src+"/flake.nix", string(text))
	out := g.m.Must("unshare", "--mount", "sh", "-ec", `mkdir -p $0/store/var/nix; mount --bind $0/store /nix; exec "$@"`, publisherDir,
		"env", "PATH="+g.programs()+":/usr/bin:/bin", agentBinary, "push", "--src", src, "--remote", remote,
		"--sign-key", publisherDir+"/key", "--prebuild", "--cache", g.cache, "--cache-key", publisherDir+"/cache-key")
	if etag = md5Alone.FindString(out); etag == "" {
		g.t.Fatalf("push names no version:\n%s", out)
	}
	return etag
}

// TestPrebuilt has nix 2.26 and 2.8, or the one in the folder that NPCNIX_NIX_NEXT names: make newest.
func TestPrebuilt(t *testing.T) {
	t.Parallel()
	if folder := os.Getenv("NPCNIX_NIX_NEXT"); folder != "" {
		g := newGuarded(t, withNix(nspawn.Options{}, folder), nil)
		g.nix = folder
		appliesPrebuilt(t, g)
		return
	}
	eachSuite(t, func(t *testing.T, suite string) { appliesPrebuilt(t, newGuarded(t, nspawn.Options{Suite: suite}, nil)) })
}

// appliesPrebuilt publishes prebuilt systems: a good one, one that breaks, and two whose download is killed.
func appliesPrebuilt(t *testing.T, g *guarded) {
	t.Helper()
	t.Log(strings.TrimSpace(g.m.Must("nix", "--version")))
	cache := g.prebuild()
	g.meet(t, []fate{
		{name: "good", state: record.Applied},
		{name: "broken", system: nspawn.System{After: "echo bad luck; exit 1"}, state: record.RolledBack, says: []string{"exit status 1", "bad luck"}},
	})
	for i, victim := range []string{killAgent, killMachine} {
		cache.holding(true)
		p := g.publish(nspawn.System{Version: fmt.Sprintf("%d-killed", i)})
		<-cache.held
		if victim == killAgent {
			g.killAgent()
		} else {
			g.m.Kill()
			g.m.Boot()
		}
		cache.holding(false)
		p.want(record.Applied)
		p.activated(1)
	}
	if commands := g.m.Read(evaluated); commands != "" {
		t.Errorf("the agent ran\n%s", commands)
	}
	if out, err := g.m.Run("nix", "eval", "--expr", "1"); err == nil || !g.m.Exists(evaluated) {
		t.Errorf("the host's nix evaluates: %s", out)
	}
}
