package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// A small group on moto grows, is published to, shrinks, and what is left is collected: make fleet has 50 hosts.
// TestAGroupComesAndGoes does the same with 50 hosts on awsfake.
func TestASmallGroupComesAndGoes(t *testing.T) {
	t.Parallel()
	g := newGroup(t, moto.Start(t))
	size := groupSize(t)
	names := make([]string, size)
	hosts := map[string]*host{}
	systems := func(version string) {
		all := map[string]nixtest.System{}
		for _, name := range names {
			all[name] = nixtest.System{Version: version}
		}
		first := hosts[names[0]]
		g.must(nixtest.Flake(first.path("flake"), first.salt, all))
		g.run("pack", "--src", first.path("flake"), "--dst", first.path("flake.npcnix"))
		g.copy(first.path("flake.npcnix"), remote)
	}
	for i := range names {
		names[i] = fmt.Sprintf("web-i-%017x", i)
		h := newHost(g.world, names[i])
		h.configure(map[string]any{"remote": remote, "configuration": names[i], "host": names[i], "queue_url": "auto", "topic_arn": g.topic, "poll_interval_secs": 3600})
		hosts[names[i]] = h
	}
	systems("one")
	for some := range slices.Chunk(names, 3) { // more at a time would only wait for each other's builds
		for _, name := range some {
			hosts[name].start()
		}
		for _, name := range some {
			h := hosts[name]
			h.await(name+" joined", func() bool { return h.record().Status == record.Applied && h.marker() == "one" })
		}
	}
	await(t, "all subscriptions", func() bool { return len(g.subscriptions()) == len(names) })
	systems("two")
	for _, h := range hosts {
		h.await(h.name+" heard", func() bool { return h.marker() == "two" && h.record().Trigger == record.Event })
	}

	for _, name := range names[1:] { // cut off: they leave all behind
		hosts[name].signal(syscall.SIGKILL)
	}
	if n := len(g.queues()); n != 2*len(names) {
		t.Errorf("%d queues are left", n)
	}
	alive := names[0][len("web-"):]
	out, code := g.gc(g.endpoint, alive, "--instances", "-") // all were heard today
	g.wants("at once", out, code, 0, fmt.Sprintf("0 removed, 0 left, %d kept", size))
	out, code = g.gc(g.later, alive, "--instances", "-")
	g.wants("later", out, code, 0, "removed "+names[1], "removed "+names[size-1], fmt.Sprintf("%d removed, 0 left, 1 kept", size-1))
	systems("three")
	hosts[names[0]].await("the one that stays", func() bool {
		return hosts[names[0]].marker() == "three" && hosts[names[0]].record().Trigger == record.Event
	})

	hosts[names[0]].terminate()
	if said, code := hosts[names[0]].command("leave"); code != 0 {
		t.Errorf("leave: exit code %d: %s", code, said)
	}
	out, code = g.gc(g.later, "")
	g.wants("in the end", out, code, 0, "1 removed")                      // its record
	if left := g.left(); !slices.Equal(left, []string{"record " + key}) { // the remote itself
		t.Errorf("left: %q", left)
	}
}

func groupSize(t *testing.T) int {
	t.Helper()
	text := os.Getenv("NPCNIX_TEST_GROUP")
	if text == "" {
		return 3
	}
	size, err := strconv.Atoi(text)
	if err != nil || size < 3 {
		t.Fatalf("NPCNIX_TEST_GROUP is %q, and no number from 3 on", text)
	}
	return size
}
