package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
)

// books compares what each host builds and runs with the waves that are admitted.
type books struct {
	*agents
	text atomic.Value // of the release that is being rolled out
}

// take is called when a host is about to build or switch to the system of a text.
func (b *books) take(host, text string) {
	if text != b.text.Load() {
		return
	}
	admitted, err := b.admitted()
	switch {
	case b.t.Context().Err() != nil, text != b.text.Load(): // it was late, and the remote may hold the next release
	case err != nil:
		b.t.Error(err)
	case !admitted(host):
		b.t.Errorf("%s takes %s before its wave", host, text)
	}
}

// look compares the books of all hosts.
func (b *books) look() {
	b.t.Helper()
	text := b.text.Load().(string)
	var have []string
	for name, m := range b.machines {
		if m.has(text) {
			have = append(have, name)
		}
	}
	admitted, err := b.admitted() // read after the books: the admitted waves only grow
	if err != nil {
		b.t.Fatal(err)
	}
	for _, name := range have {
		if !admitted(name) {
			b.t.Errorf("%s has %s before its wave", name, text)
		}
	}
}

// admitted tells by the remote's object, and by nothing that agents or commands share, which hosts are admitted.
func (b *books) admitted() (func(host string) bool, error) {
	v, err := b.remote.Latest(b.t.Context(), store.Version{})
	if err != nil {
		return nil, err
	}
	f, _, err := publish.Read(b.t.Context(), b.remote, v)
	if errors.Is(err, store.ErrChanged) {
		return b.admitted()
	}
	if err != nil {
		return nil, err
	}
	var m struct {
		Rollout struct {
			Waves [][]string `json:"waves"`
			Seed  string     `json:"seed"`
		} `json:"rollout"`
	}
	var p struct {
		Admitted int `json:"admitted"`
	}
	if err := errors.Join(json.Unmarshal(f.Manifest, &m), json.Unmarshal(f.Progress, &p)); err != nil {
		return nil, err
	}
	return func(host string) bool { return inWaves(m.Rollout.Waves[:p.Admitted], m.Rollout.Seed, host) }, nil
}

// inWaves reports whether one of the waves has the host, by its name or by a share.
func inWaves(waves [][]string, seed, host string) bool {
	sum := sha256.Sum256([]byte(seed + "\x00" + host))
	place := 100 * float64(binary.BigEndian.Uint64(sum[:8])) / (1 << 64)
	for _, wave := range waves {
		for _, member := range wave {
			share, isShare := strings.CutSuffix(member, "%")
			percent, _ := strconv.ParseFloat(share, 64)
			named, _ := path.Match(member, host)
			if isShare && place < percent || !isShare && named {
				return true
			}
		}
	}
	return false
}

// join has a host join whose books are kept.
func (b *books) join(name string) {
	b.agents.join(name)
	b.machines[name].takes = func(text string) { b.take(name, text) }
	b.poke()
}

// plan is a random plan.
func plan(random *rand.Rand, hosts int) (waves []string) {
	waves = []string{fmt.Sprintf("web%d", random.IntN(hosts))}
	for range random.IntN(3) {
		member := fmt.Sprintf("%d%%", 1+random.IntN(90))
		if random.IntN(3) == 0 {
			member = fmt.Sprintf("web[%d-%d],new0", random.IntN(3), 3+random.IntN(5))
		}
		waves = append(waves, member)
	}
	return append(waves, "100%")
}

// rollOut takes the release through its waves by commands that are killed at random times, while hosts look at random
// times, and one joins.
func (b *books) rollOut(random *rand.Rand, mostFailed int, joins string) (outcome error) {
	b.t.Helper()
	for kills := 0; ; kills++ {
		ctx, kill := context.WithTimeout(b.t.Context(), time.Duration(1+random.IntN(100*(kills+1)))*time.Millisecond)
		failed, revert := random.IntN(mostFailed+1), random.IntN(2) == 0
		command, err := b.command(func(o *Options) { o.Interval, o.Budget.Failed, o.Revert = 5*time.Millisecond, failed, revert })
		if err != nil {
			b.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Run(ctx) }()
		for running := true; running; {
			select {
			case outcome = <-ended:
				running = false
			case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
				b.poke()
			}
			b.look()
		}
		killed := ctx.Err() != nil
		kill()
		if kills == 1 {
			b.join(joins)
		}
		if !killed {
			return outcome
		}
	}
}

// Over random plans, failures, kills and a host that joins, no agent builds or runs a release before its wave is
// admitted, and one that all hosts fail reaches no host beyond the first wave.
func TestNoAgentIsAheadOfItsWave(t *testing.T) {
	random := rand.New(rand.NewPCG(21, 0))
	b := &books{agents: newAgents(t)}
	b.text.Store("one")
	const hosts = 8
	b.begun(names(hosts)...)
	for name, m := range b.machines {
		m.takes = func(text string) { b.take(name, text) }
	}
	for n := range 5 {
		text := fmt.Sprintf("release-%d", n)
		waves, bad, mostFailed := plan(random, hosts), n%3 == 1, 1
		if bad {
			mostFailed = 0
		}
		for _, m := range b.machines {
			m.mu.Lock()
			m.breaks = ""
			if bad || random.IntN(10) == 0 {
				m.breaks = "/nix/store/" + text
			}
			m.mu.Unlock()
		}
		b.text.Store(text)
		b.seed = strconv.Itoa(random.IntN(100))
		b.publish(text, waves...)
		outcome := b.rollOut(random, mostFailed, fmt.Sprintf("new%d", n))
		t.Logf("%s by %q: %v", text, waves, outcome)
		if outcome != nil && !errors.Is(outcome, ErrHosts) && !errors.Is(outcome, ErrStopped) {
			t.Errorf("%s: %v", text, outcome)
		}
		b.look()
		for name, m := range b.machines {
			if bad && m.has(text) && !inWaves([][]string{strings.Split(waves[0], ",")}, b.seed, name) {
				t.Errorf("%s has %s, which its canaries fail", name, text)
			}
			if outcome == nil && m.breaks == "" && m.running != "/nix/store/"+text {
				t.Errorf("%s does not run %s", name, text)
			}
		}
	}
}
