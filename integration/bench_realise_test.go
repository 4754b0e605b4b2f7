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

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// realising is a publisher with a cache, and hosts that begin with an empty nix store.
type realising struct {
	*testing.B
	dir, cacheKey string
	programs      string // PATH, without a host's
}

func newRealising(b *testing.B) *realising {
	b.Helper()
	need(b, "nix")
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		b.Skipf("a store of one's own needs root: %v", err)
	}
	r := &realising{B: b, dir: b.TempDir(), programs: os.Getenv("PATH")}
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
		"XDG_CACHE_HOME="+r.path(store, "cache"), "PATH="+r.programs)
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

// eachNix runs a benchmark with each nix that is there; bin is the folder of its programs, "" for those on PATH.
func (r *realising) eachNix(run func(b *testing.B, name, bin string)) {
	cache, err := filepath.Abs("../.cache")
	r.must(err)
	for name, bin := range map[string]string{"installed": "", "nix-next": filepath.Join(cache, "nix-next", "bin"), "nix-sid": filepath.Join(cache, "nix-sid", "bin")} {
		r.Run(name, func(b *testing.B) {
			program, err := exec.LookPath(filepath.Join(bin, "nix-store"))
			if err != nil {
				b.Skip(err)
			}
			version := strings.Fields(r.tool(program, "--version"))
			b.Logf("nix %s", version[len(version)-1])
			run(b, name, bin)
			quiet(b)
		})
	}
}

// host has a store of its own, which may be there already.
func (r *realising) host(b *testing.B, store, bin string) *nix.Host {
	b.Helper()
	env := r.inStore(store).Env[len(os.Environ()):]
	dir := b.TempDir()
	for _, name := range []string{"nix", "nix-store"} {
		program, err := exec.LookPath(filepath.Join(bin, name))
		r.must(err)
		text := fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -ec 'mount --bind \"$0\" /nix; exec \"$@\"' %s %s \"$@\"\n", r.path(store), program)
		r.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	for _, pair := range append(env, "PATH="+dir+":"+r.programs) {
		name, value, _ := strings.Cut(pair, "=")
		b.Setenv(name, value)
	}
	h, err := nix.New(nix.Options{Dir: r.path("data-" + store)})
	r.must(err)
	return h
}

// spent is what a piece of work took.
type spent struct {
	elapsed, cpu time.Duration
	peak         float64 // MiB, of all its processes
}

// measure runs nix, and adds up what its processes take.
func (r *realising) measure(work func() error) spent {
	r.Helper()
	var before, after unix.Rusage
	r.must(unix.Getrusage(unix.RUSAGE_CHILDREN, &before))
	begun, ended := time.Now(), make(chan error, 1)
	go func() { ended <- work() }()
	peak, err := r.watch(ended, func() int { return children(os.Getpid()) })
	r.must(err)
	elapsed := time.Since(begun)
	r.must(unix.Getrusage(unix.RUSAGE_CHILDREN, &after))
	cpu := func(u unix.Rusage) time.Duration { return time.Duration(u.Utime.Nano() + u.Stime.Nano()) }
	return spent{elapsed, cpu(after) - cpu(before), peak}
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
	r.eachNix(func(b *testing.B, name, bin string) {
		for b.Loop() {
			store := "host-" + name
			h := r.host(b, store, bin)
			took := r.measure(func() error {
				return h.Realise(b.Context(), nix.System{Path: system}, []nix.Cache{{URL: far.URL, Keys: []string{r.cacheKey}}})
			})
			b.ReportMetric(took.elapsed.Seconds(), "s")
			b.ReportMetric(took.peak, "peak-MiB")
			r.must(os.RemoveAll(r.path(store)))
		}
	})
}

// deep is a flake whose system has 2,000 derivations, each of which needs the one before. To evaluate it takes
// about as much memory as to evaluate a small NixOS.
const deep = `{
  outputs = { self }: let
    sh = name: script: env: derivation (env // { inherit name; system = "PLATFORM"; builder = "/bin/sh"; args = [ "-c" script ]; });
    step = before: n: let d = sh "step-${toString n}" "echo $before >$out" { inherit before; }; in builtins.seq d.drvPath d;
    chain = builtins.foldl' step "SALT" (builtins.genList (n: n) 2000);
    options = builtins.listToAttrs (builtins.genList (n: { name = "option-${toString n}"; value = { inherit n; text = toString n; }; }) 200000);
  in {
    nixosConfigurations.web.config.system.build.toplevel = sh "web-VERSION" "echo $chain >$out" {
      inherit chain;
      weight = builtins.deepSeq options (builtins.length (builtins.attrNames options));
    };
  };
}`

// BenchmarkEvaluateOrRealise compares what it takes a host to get a new version of a system of 2,000 derivations, of
// which only the last is new: evaluating and building it, or realising what the publisher has built.
func BenchmarkEvaluateOrRealise(b *testing.B) {
	r := newRealising(b)
	salt := nixtest.Salt()
	flake := func(version int) string {
		dir := r.path("flake", strconv.Itoa(version))
		r.must(os.MkdirAll(dir, 0o755))
		text := strings.NewReplacer("PLATFORM", nixtest.Platform(), "SALT", salt, "VERSION", strconv.Itoa(version)).Replace(deep)
		r.must(os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644))
		return dir
	}
	publish := func(version int) nix.System {
		script := `system=$(nix build --no-link --json "path:$1#nixosConfigurations.web.config.system.build.toplevel" | sed "s/.*\"out\":\"\([^\"]*\).*/\1/")
			nix copy --to "file://$2?compression=none&secret-key=$3" "$system"; echo "$system"`
		publisher := r.inStore("publisher", "sh", "-ec", script, "sh", flake(version), r.path("cache"), r.path("cache-key"))
		var stderr strings.Builder
		publisher.Stderr = &stderr
		out, err := publisher.Output()
		if err != nil {
			r.Fatalf("publish: %v\n%s", err, &stderr)
		}
		return nix.System{Path: strings.TrimSpace(string(out))}
	}
	caches := []nix.Cache{{URL: "file://" + r.path("cache"), Keys: []string{r.cacheKey}}}
	version := 0
	first := publish(version)
	r.eachNix(func(b *testing.B, name, bin string) {
		h := r.host(b, "host-"+name, bin)
		evaluate := func() spent {
			version++
			dir := flake(version)
			return r.measure(func() error { _, err := h.Build(b.Context(), dir, "web"); return err })
		}
		realise := func() spent {
			version++
			system := publish(version)
			return r.measure(func() error { return h.Realise(b.Context(), system, caches) })
		}
		r.must(h.Realise(b.Context(), first, caches))
		evaluate() // the first time, it writes 2,000 derivations
		var evaluated, realised spent
		n := 0.0
		for b.Loop() {
			for range 5 {
				n++
				evaluated.add(evaluate())
				realised.add(realise())
			}
		}
		b.ReportMetric(evaluated.elapsed.Seconds()/n, "evaluate-s")
		b.ReportMetric(evaluated.cpu.Seconds()/n, "evaluate-cpu-s")
		b.ReportMetric(evaluated.peak, "evaluate-peak-MiB")
		b.ReportMetric(realised.elapsed.Seconds()/n, "realise-s")
		b.ReportMetric(realised.cpu.Seconds()/n, "realise-cpu-s")
		b.ReportMetric(realised.peak, "realise-peak-MiB")
		b.ReportMetric(evaluated.elapsed.Seconds()/realised.elapsed.Seconds(), "s-ratio")
		b.ReportMetric(evaluated.cpu.Seconds()/realised.cpu.Seconds(), "cpu-ratio")
	})
}

// add has the times be those of both, and the peak the higher one.
func (s *spent) add(more spent) {
	s.elapsed += more.elapsed
	s.cpu += more.cpu
	s.peak = max(s.peak, more.peak)
}
