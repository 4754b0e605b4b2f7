package herd

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

// sizes are how many hosts the tests have: few, unless NPCNIX_TEST_HERD says otherwise.
func sizes(t *testing.T) []int {
	t.Helper()
	var all []int
	for text := range strings.SplitSeq(os.Getenv("NPCNIX_TEST_HERD"), ",") {
		if text == "" {
			return []int{50}
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// environment lets the SDK find credentials, and nothing of this machine.
func environment(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
}

// files returns a folder for the agents' files, in memory where this machine has a place for it.
func files(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "npcnix-herd-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return dir
}

// publish is one that is to reach the herd.
type publish struct {
	name  string
	took  func() time.Duration // of each host's build
	noise int                  // bytes of the flake that do not compress
	gets  int                  // that each host makes before it calls nix
}

var (
	quick = publish{"builds take no time", func() time.Duration { return 0 }, 0, 1}
	slow  = publish{"builds take 10 to 40 s", func() time.Duration { return between(10*time.Second, 40*time.Second) }, 0, 1}
	large = publish{"the flake is larger than a look brings", func() time.Duration { return 0 }, 200 << 10, 2}
)

// A publish reaches a whole herd: all apply it at the first attempt, within S3's limits, and the command that waits
// for them sees the last one in time.
func TestHerd(t *testing.T) {
	environment(t)
	for _, n := range sizes(t) {
		dir, began := files(t), time.Now()
		synctest.Test(t, func(t *testing.T) {
			h := start(t, dir, n, limits{awsfake.S3Reads, awsfake.S3Writes})
			for _, p := range []publish{quick, slow, large} {
				h.watched(p).check()
			}
		})
		t.Logf("%d hosts: %v of real time", n, time.Since(began).Round(time.Second))
	}
}

// Hosts that are fewer by a factor, as the limits are, get in each other's way as ten thousand do.
func TestDenseHerd(t *testing.T) {
	environment(t)
	dir := files(t)
	synctest.Test(t, func(t *testing.T) {
		const hosts, factor = 200, 50
		h := start(t, dir, hosts, limits{awsfake.S3Reads / factor, awsfake.S3Writes / factor})
		f := h.reach(quick, func(store.Version) {})
		f.check()
		if f.slowed == 0 {
			t.Error("no request was refused: the hosts do not get in each other's way")
		}
	})
}

// watched publishes, and waits as an operator does.
func (h *herd) watched(p publish) *figures {
	h.t.Helper()
	operator := &client{}
	r, err := store.Open(h.t.Context(), remoteURL, store.Options{Dial: h.wire.dial(operator)})
	h.must(err)
	gate, err := fleet.Prepare(h.t.Context(), fleet.Options{Store: r})
	h.must(err)
	operator.forget()
	var result fleet.Result
	var ended time.Time
	f := h.reach(p, func(v store.Version) {
		result, err = gate.WaitFor(h.t.Context(), v, fleet.Published)
		h.must(err)
		ended = time.Now()
	})
	f.wait = &wait{result, ended, operator.look()}
	return f
}

// reach publishes, does something meanwhile, and returns what came of it.
func (h *herd) reach(p publish, meanwhile func(store.Version)) *figures {
	h.t.Helper()
	for _, one := range h.hosts {
		took := p.took()
		one.set(func() { one.took = took })
	}
	v, at := h.publish(p.name, p.noise), time.Now()
	meanwhile(v)
	h.until("all run it", p.name)
	time.Sleep(20 * time.Second) // the last message may be the second of two
	f := &figures{t: h.t, publish: p, limits: h.limits}
	for _, one := range h.hosts {
		f.add(one.look(), at)
	}
	return f
}
