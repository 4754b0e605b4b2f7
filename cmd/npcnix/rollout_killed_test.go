package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// killedWaves are the waves of the rollout whose command is killed: each host by its name.
var killedWaves = [][]string{{"web1"}, {"web2", "web3"}, {"web4"}}

// killer stands between the rollout's command and the bucket. It kills the command at one of its requests.
type killer struct {
	*testing.T
	remote *store.Remote // past the killer

	mu    sync.Mutex
	cmd   *exec.Cmd
	left  int             // requests until it is killed; it is not at 0
	done  bool            // that request is carried out
	takes map[string]bool // hosts that run the release
}

// held is the release that the remote holds, and how far it has come; nil if it is none with waves.
func (k *killer) held() (m *release.Manifest, p *release.Progress) {
	v, err := k.remote.Latest(k.Context(), store.Version{})
	if err != nil {
		return nil, nil
	}
	f, _, err := publish.Read(k.Context(), k.remote, v)
	if err != nil || f == nil || len(f.Progress) == 0 {
		return nil, nil
	}
	m, err = release.Parse(f.Manifest)
	if err == nil {
		p, err = release.ParseProgress(f.Progress, m)
	}
	if err != nil {
		k.Error(err)
	}
	return m, p
}

// request reports whether a request of the command is carried out, and whether it is killed then.
func (k *killer) request() (carriedOut, killed bool, took map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left--
	return k.left != 0 || k.done, k.left == 0, maps.Clone(k.takes)
}

// before returns the URL of a bucket that the killer stands before.
func (k *killer) before(remote string) string {
	k.Helper()
	location, query, _ := strings.Cut(remote, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		k.Fatal(err)
	}
	behind, err := url.Parse(values.Get("endpoint"))
	if err != nil {
		k.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of requests beside the one that it is killed at
	server := httptest.NewServer(k.serve(proxy))
	k.Cleanup(server.Close)
	values.Set("endpoint", server.URL)
	return location + "?" + values.Encode()
}

func (k *killer) serve(to http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		carriedOut, killed, took := k.request()
		answer := w
		if killed {
			answer = httptest.NewRecorder() // the command does not see it
		}
		if carriedOut {
			to.ServeHTTP(answer, r)
		}
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "dev.npcnix") {
			k.inOrder(took)
		}
		if killed {
			_ = k.cmd.Process.Kill()
			panic(http.ErrAbortHandler)
		}
	}
}

// inOrder tells whether all hosts of the waves before the last admitted one have taken the release: those that had
// when the step was asked for.
func (k *killer) inOrder(took map[string]bool) {
	_, p := k.held()
	if p == nil {
		return
	}
	for _, wave := range killedWaves[:max(p.Admitted-1, 0)] {
		for _, host := range wave {
			if !took[host] {
				k.Errorf("step %d admits %d waves, and %s has not taken the release", p.Step, p.Admitted, host)
			}
		}
	}
}

// run runs a command that is killed at the given request, while one admitted host after the other takes the release, or
// none does. It returns how the command ended.
func (k *killer) run(kill int, random *rand.Rand, remote string, args ...string) error {
	k.Helper()
	k.mu.Lock()
	k.cmd, k.left, k.done = exec.Command("npcnix", append(args, "--remote", remote, "--wave-interval", "10ms")...), kill, random.IntN(2) == 0
	var out strings.Builder
	k.cmd.Stdout, k.cmd.Stderr = &out, &out
	err := k.cmd.Start()
	k.mu.Unlock()
	if err != nil {
		k.Fatal(err)
	}
	quick := kill == 0 || random.IntN(3) == 0 // otherwise no host takes anything meanwhile
	ended := make(chan error, 1)
	go func() { ended <- k.cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			if err != nil && k.cmd.ProcessState.Exited() {
				k.Fatalf("%q: %v\n%s", args, err, out.String())
			}
			return err
		case <-time.After(time.Duration(random.IntN(50)) * time.Millisecond):
			if quick {
				k.take()
			}
		}
	}
}

// take has one host of the admitted waves take the release.
func (k *killer) take() {
	k.Helper()
	m, p := k.held()
	if p == nil {
		return
	}
	for _, wave := range killedWaves[:p.Admitted] {
		for _, host := range wave {
			k.mu.Lock()
			has := k.takes[host]
			k.takes[host] = true // before it is said
			k.mu.Unlock()
			if !has {
				k.says(host, m)
				return
			}
		}
	}
}

// says has a host say that it runs a release.
func (k *killer) says(host string, m *release.Manifest) {
	k.Helper()
	version := record.Version{Release: m.Release, Serial: m.Serial}
	err := record.Write(k.Context(), k.remote, host, record.Record{
		Remote: k.remote.URL(), Configuration: "c", Status: record.Applied, Version: version, Running: &version,
	})
	if err != nil {
		k.Fatal(err)
	}
}

// TestAKilledRolloutIsResumed has the real command killed at random requests to a bucket, some of which are carried
// out, and begun or resumed after each.
func TestAKilledRolloutIsResumed(t *testing.T) {
	b, key, src := newBucketOfVersions(t), sshKey(t), t.TempDir()
	remote, err := store.Open(t.Context(), b.remote, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &killer{T: t, remote: remote, takes: map[string]bool{}}
	through := k.before(b.remote)
	for _, wave := range killedWaves {
		for _, host := range wave {
			k.says(host, &release.Manifest{Release: strings.Repeat("a", 64)})
		}
	}
	write(t, filepath.Join(src, "flake.nix"), "two")

	random := rand.New(rand.NewPCG(6, 0))
	const kills = 12
	for n, ended := 0, error(http.ErrAbortHandler); ended != nil; n++ {
		kill := 0
		if n < kills {
			kill = 1 + random.IntN(12*(1+n/3))
		}
		args := []string{"rollout", "resume", "--rollout-key", key}
		if _, p := k.held(); p == nil {
			args = []string{"rollout", "--src", src, "--sign-key", key, "--check=none", "--soak", "0s", "--wave", "web1", "--wave", "web2,web3", "--wave", "100%"}
		}
		ended = k.run(kill, random, through, args...)
		if n > kills {
			t.Fatal("it does not end")
		}
	}
	want := []string{"running 1", "running 2", "running 3", "complete 3"}
	if got := k.steps(); !slices.Equal(got, want) {
		t.Errorf("the steps are %q, want %q", got, want)
	}
	if len(k.takes) != 4 {
		t.Errorf("only %v have taken it", k.takes)
	}
}

// steps returns the state and the admitted waves of each version that the bucket has kept.
func (k *killer) steps() (steps []string) {
	k.Helper()
	kept, _, err := k.remote.Versions(k.Context(), 100)
	if err != nil {
		k.Fatal(err)
	}
	for _, v := range slices.Backward(kept) {
		f, _, err := publish.Read(k.Context(), k.remote.At(v.Version), v.Version)
		if err != nil {
			k.Fatal(err)
		}
		var p release.Progress
		if err := json.Unmarshal(f.Progress, &p); err != nil {
			k.Fatal(err)
		}
		steps = append(steps, fmt.Sprint(p.State, " ", p.Admitted))
	}
	return steps
}
