package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// host is one machine's worth of folders, and the agent that runs in them.
type host struct {
	*world
	name, dir string // dir holds all of the host
	salt      string
	nixConfig string // further lines of nix.conf
	log       *lockedBuffer
	agent     *exec.Cmd
	ended     chan error
}

func newHost(w *world, name string) *host {
	w.t.Helper()
	need(w.t, "nix")
	h := &host{world: w, name: name, dir: w.t.TempDir(), salt: nixtest.Salt(), log: &lockedBuffer{}}
	if err := os.Mkdir(h.path("root"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if h.agent != nil {
			_ = h.agent.Process.Kill()
			<-h.ended
		}
		if w.t.Failed() {
			w.t.Logf("log of %s:\n%s", name, h.log)
		}
	})
	return h
}

func (h *host) path(elem ...string) string { return filepath.Join(append([]string{h.dir}, elem...)...) }

func (h *host) flags() []string {
	return []string{"--data-dir", h.path("data")}
}

// configure writes members into config.json, as an operator with an editor does.
func (h *host) configure(members map[string]any) {
	h.t.Helper()
	path := h.path("data", "config.json")
	conf := map[string]any{}
	if data, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(data, &conf); err != nil {
			h.t.Fatal(err)
		}
	}
	for name, value := range members {
		conf[name] = value
	}
	data, err := json.Marshal(conf)
	h.must(err)
	h.must(os.MkdirAll(h.path("data"), 0o755))
	h.must(os.WriteFile(path+".new", data, 0o600))
	h.must(os.Rename(path+".new", path))
}

// start starts the agent.
func (h *host) start(args ...string) {
	h.t.Helper()
	h.agent = exec.Command(npcnix, append(append(h.flags(), "follow", "--log-level", "debug", "--host", h.name,
		"--profile", h.path("profiles", "system"), "--current-system", h.path("root", nixtest.CurrentSystem)), args...)...)
	h.agent.Env = append(h.nixEnv(), nixtest.RootVariable+"="+h.path("root"), "XDG_CACHE_HOME="+h.path("cache"))
	h.agent.Stderr = h.log
	h.must(os.MkdirAll(h.path("profiles"), 0o755))
	h.must(os.MkdirAll(filepath.Dir(h.path("root", nixtest.CurrentSystem)), 0o755)) // /run is always there
	h.must(h.agent.Start())
	h.ended = make(chan error, 1)
	agent, ended := h.agent, h.ended
	go func() { ended <- agent.Wait(); close(ended) }()
}

// signal tells the agent to end and returns its exit code.
func (h *host) signal(s os.Signal) int {
	h.t.Helper()
	h.must(h.agent.Process.Signal(s))
	var err error
	select {
	case err = <-h.ended:
	case <-time.After(60 * time.Second):
		h.t.Fatalf("the agent does not end on %s", s)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return h.agent.ProcessState.ExitCode()
}

// nixEnv is the environment of what uses nix as the host does.
func (h *host) nixEnv() []string {
	return append(h.env(), nixtest.Env()[0]+"\n"+h.nixConfig)
}

func (h *host) terminate() int { return h.signal(syscall.SIGTERM) }

// publish packs a flake with one system for the host and copies it to the remote.
func (h *host) publish(s nixtest.System) (etag string) {
	h.t.Helper()
	h.pack(s)
	h.copy(h.path("flake.npcnix"), remote)
	return h.etag()
}

func (h *host) pack(s nixtest.System) {
	h.t.Helper()
	h.must(nixtest.Flake(h.path("flake"), h.salt, map[string]nixtest.System{h.name: s}))
	h.run("pack", "--src", h.path("flake"), "--dst", h.path("flake.npcnix"))
}

func (h *host) marker() string {
	data, _ := os.ReadFile(h.path("root", nixtest.Marker))
	return strings.TrimSpace(string(data))
}

// switches counts the times that a version's switch-to-configuration was run.
func (h *host) switches() int {
	data, _ := os.ReadFile(h.path("root", nixtest.Switches))
	return bytes.Count(data, []byte(" test "))
}

// generation returns the number of the profile's generation; 0 where there is none.
func (h *host) generation() int {
	link, _ := os.Readlink(h.path("profiles", "system"))
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(link, "system-"), "-link"))
	return n
}

// byEvent counts the reconciles that an event began, by what the log says at the end of each.
func (h *host) byEvent() int {
	return h.log.count("trigger=event") - len(regexp.MustCompile(`msg=applying .*trigger=event`).FindAllString(h.log.String(), -1))
}

// record returns the host's acknowledgement record; the zero one where there is none.
func (h *host) record() record.Record {
	h.t.Helper()
	var r record.Record
	out, err := h.s3.GetObject(h.t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key + ".acks/" + h.name + ".json"),
	})
	if err != nil {
		return r
	}
	defer out.Body.Close()
	text, err := io.ReadAll(out.Body)
	h.must(err)
	checkRecord(h.t, text)
	h.must(json.Unmarshal(text, &r))
	return r
}

func (h *host) state() agent.State {
	h.t.Helper()
	s, err := agent.ReadState(config.Dir(h.path("data")))
	h.must(err)
	return s
}

// await waits until something holds; it fails the test when that takes unreasonably long, or
// when the agent ends before.
func (h *host) await(what string, holds func() bool) {
	h.t.Helper()
	await(h.t, what, func() bool {
		if holds() {
			return true
		}
		select {
		case err := <-h.ended:
			h.t.Fatalf("the agent ended (%v) before: %s", err, what)
		default:
		}
		return false
	})
}

func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	giveUp := time.NewTimer(2 * time.Minute)
	defer giveUp.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-giveUp.C:
			t.Fatalf("does not come about: %s", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *lockedBuffer) count(s string) int { return strings.Count(b.String(), s) }
