package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// realising is a publisher with a cache, and hosts that begin with an empty nix store.
type realising struct {
	*testing.B
	dir, cacheKey string
}

func newRealising(b *testing.B) *realising {
	b.Helper()
	need(b, "nix")
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		b.Skipf("a store of one's own needs root: %v", err)
	}
	r := &realising{B: b, dir: b.TempDir()}
	r.tool("nix-store", "--generate-binary-cache-key", "cache-1", r.path("cache-key"), r.path("cache-key.pub"))
	r.cacheKey = strings.TrimSpace(r.read("cache-key.pub"))
	return r
}

func (r *realising) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

func (r *realising) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *realising) read(name string) string {
	r.Helper()
	text, err := os.ReadFile(r.path(name))
	r.must(err)
	return string(text)
}

func (r *realising) tool(name string, args ...string) string {
	r.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), nixtest.Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// inStore is a command whose /nix is a folder of its own.
func (r *realising) inStore(store string, args ...string) *exec.Cmd {
	r.Helper()
	r.must(os.MkdirAll(r.path(store, "var", "nix"), 0o755))
	script := `mount --bind "$0" /nix; exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-ec", script, r.path(store)}, args...)...)
	cmd.Env = append(os.Environ(), nixtest.Env()[0]+"\nexperimental-features = nix-command flakes",
		"XDG_CACHE_HOME="+r.path(store, "cache"))
	return cmd
}

// watch waits for the end of something, and returns the most that it had in memory, in MiB.
func (r *realising) watch(ended <-chan error, size func() int) (peak float64, err error) {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	most := 0
	for {
		select {
		case err := <-ended:
			return float64(most) / (1 << 20), err
		case <-look.C:
			most = max(most, size())
		}
	}
}

// resident is what a process and its descendants have in memory, in bytes.
func resident(pid int) int {
	statm, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	var size, pages int
	_, _ = fmt.Sscan(string(statm), &size, &pages) // none of one that has ended
	return pages*os.Getpagesize() + children(pid)
}

func children(pid int) (all int) {
	tasks, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	for _, task := range tasks {
		pids, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(pids)) {
			if n, err := strconv.Atoi(child); err == nil {
				all += resident(n)
			}
		}
	}
	return all
}

// wide is a system that refers to 1,000 paths.
const wide = `derivation {
  name = "wide"; system = "PLATFORM"; builder = "/bin/sh"; args = [ "-c" "echo $paths >$out" ];
  paths = builtins.genList (n: builtins.toFile "path-${toString n}" "SALT ${toString n}") 1000;
}`

// BenchmarkFarCache fetches 1,001 paths from a cache that answers each request after 50 ms, as the agent does it, with
// each nix that is there.
func BenchmarkFarCache(b *testing.B) {
	r := newRealising(b)
	expr := strings.NewReplacer("PLATFORM", nixtest.Platform(), "SALT", nixtest.Salt()).Replace(wide)
	script := `system=$(nix-build --no-out-link --expr "$1"); nix copy --to "file://$2?compression=none&secret-key=$3" "$system"; echo "$system"`
	out, err := r.inStore("publisher", "sh", "-ec", script, "sh", expr, r.path("cache"), r.path("cache-key")).Output()
	r.must(err)
	system := strings.TrimSpace(string(out))
	files := http.FileServer(http.Dir(r.path("cache")))
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		time.Sleep(50 * time.Millisecond)
		files.ServeHTTP(w, hr)
	}))
	b.Cleanup(far.Close)

	cache, err := filepath.Abs("../.cache")
	r.must(err)
	path := os.Getenv("PATH")
	for name, bin := range map[string]string{"installed": "", "nix-next": filepath.Join(cache, "nix-next", "bin"), "nix-sid": filepath.Join(cache, "nix-sid", "bin")} {
		b.Run(name, func(b *testing.B) {
			program, err := exec.LookPath(filepath.Join(bin, "nix-store"))
			if err != nil {
				b.Skip(err)
			}
			version := strings.Fields(r.tool(program, "--version"))
			b.Logf("nix %s", version[len(version)-1])
			for b.Loop() {
				store := "host-" + name
				wrapper := r.inStore(store, program)
				r.must(os.MkdirAll(r.path("bin"), 0o755))
				r.must(os.WriteFile(r.path("bin", "nix-store"), fmt.Appendf(nil, "#!/bin/sh\nexec unshare --mount sh -ec 'mount --bind \"$0\" /nix; exec \"$@\"' %s %s \"$@\"\n", r.path(store), program), 0o755))
				for _, pair := range append(wrapper.Env[len(os.Environ()):], "PATH="+r.path("bin")+":"+path) {
					name, value, _ := strings.Cut(pair, "=")
					b.Setenv(name, value)
				}
				h, err := nix.New(nix.Options{Dir: r.path("data-" + name)})
				r.must(err)
				begun, fetched := time.Now(), make(chan error, 1)
				go func() {
					fetched <- h.Realise(b.Context(), nix.System{Path: system}, []nix.Cache{{URL: far.URL, Keys: []string{r.cacheKey}}})
				}()
				peak, err := r.watch(fetched, func() int { return children(os.Getpid()) })
				r.must(err)
				b.ReportMetric(time.Since(begun).Seconds(), "s")
				b.ReportMetric(peak, "peak-MiB")
				r.must(os.RemoveAll(r.path(store)))
			}
			quiet(b)
		})
	}
}
