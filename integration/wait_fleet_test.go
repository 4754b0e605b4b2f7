package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two hundred agents, real but for nix and in this process, follow a remote by their queues; the built
// command waits for them.
func TestWaitForTwoHundredAgents(t *testing.T) {
	f := newFleet(t, 200)
	f.credentials(t)
	f.publish()
	hosts := map[string]*watchedHost{}
	for _, name := range f.hosts {
		hosts[name] = &watchedHost{}
		f.follow(name, hosts[name])
	}
	f.awaitParked()
	expected := filepath.Join(t.TempDir(), "hosts")
	f.must(os.WriteFile(expected, []byte(strings.Join(f.hosts, "\n")), 0o644))
	operator := &watched{world: f.world}
	wait := func() *gate {
		return operator.gate(nil, "wait", "--remote", remote, "--hosts-file", expected, "--allow-unknown", "--timeout", "100s")
	}
	wait().ends(0, "200 of 200 done")

	f.publish()
	wait().ends(0, "200 of 200 done")
	for name, h := range hosts {
		if _, builds := h.counts(); builds < 2 {
			t.Errorf("%s has built %d times when the wait has passed", name, builds)
		}
	}

	one := hosts[f.hosts[17]]
	one.mu.Lock()
	one.fails = true
	one.mu.Unlock()
	f.publish()
	wait().ends(3, f.hosts[17]+" failed: ", "it does not build")
}
