package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
)

const (
	roundMachines = 3  // share the rounds
	roundSets     = 3  // of rounds, unless NPCNIX_TEST_ROUNDS says otherwise
	agentRounds   = 15 // of a set kill the agent
	workerRounds  = 5  // npcnix-activate
	machineRounds = 6  // the whole machine
)

// What a round kills.
const (
	killAgent   = "agent"
	killWorker  = "worker"
	killMachine = "machine"
	cutPower    = "power" // and what was not synced is lost
)

// moments are when a round kills: at the beginning of a stage, as activation.json or state.json shows
// it, or, "", at random.
var moments = []string{
	string(record.Building), string(activation.Pending), string(activation.Switching), string(activation.Verifying),
	string(activation.Committing), string(activation.Committed), string(activation.RollingBack), string(activation.RolledBack), "",
}

// kinds of versions.
const (
	goodVersion  = "good"
	badSwitch    = "bad-switch"
	badCheck     = "bad-check"
	longestDelay = 2500 * time.Millisecond // of a kill at random, from the publish
	longestCut   = 300 * time.Millisecond  // of a loss of power, from the moment
)

// TestKillRounds publishes version after version, and kills something
// amid each. Each time the host ends with exactly one of: the new system, which runs, boots, and is
// acknowledged; or the old one, which runs and boots, and a record that says so. And no version is
// activated twice unless it was cut short. The last machine evaluates nothing. NPCNIX_TEST_SEED repeats the rounds of another run, and
// NPCNIX_TEST_ROUNDS is how many sets of them there are.
func TestKillRounds(t *testing.T) {
	t.Parallel()
	seed := roundSeed(t)
	sets := testCount(t, "NPCNIX_TEST_ROUNDS", roundSets)
	var victims []string
	for victim, n := range map[string]int{killAgent: agentRounds, killWorker: workerRounds, killMachine: machineRounds} {
		victims = append(victims, slices.Repeat([]string{victim}, sets*n)...)
	}
	slices.Sort(victims)
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })

	var counts tally
	t.Run("machines", func(t *testing.T) {
		for i := range roundMachines {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(i+1)))
				g := newGuarded(t, nspawn.Options{}, map[string]any{"retry_delays_secs": []int{0, 0, 0}})
				if i == roundMachines-1 {
					g.prebuild()
				}
				for n := i; n < len(victims) && !t.Failed(); n += roundMachines {
					g.round(n, victims[n], moments[random.IntN(len(moments))], random, &counts)
				}
			})
		}
	})
	report := fmt.Sprintf("kill rounds by what was killed, when, and how they ended (NPCNIX_TEST_SEED=%d):\n%s\n", seed, &counts)
	t.Log(report)
	if err := os.WriteFile("../.cache/kill-rounds", []byte(report), 0o644); err != nil { // for make test, as go test shows no log of what passes
		t.Error(err)
	}
}

// roundSeed is what the rounds of a test depend on.
func roundSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("NPCNIX_TEST_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("NPCNIX_TEST_SEED=%d", seed)
	return seed
}

// testCount is how often a test does something: what a variable says, or else usual.
func testCount(t *testing.T, variable string, usual int) int {
	t.Helper()
	given := os.Getenv(variable)
	if given == "" {
		return usual
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number of rounds", variable, given)
	}
	return n
}

// tally counts rounds.
type tally struct {
	mu    sync.Mutex
	total int
	n     map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.total++
	c.n[what]++
}

func (c *tally) String() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "%4d %s\n", c.n[what], what)
	}
	fmt.Fprintf(&b, "%4d in all", c.total)
	return b.String()
}

// round publishes a version, kills something, and looks at what comes of it.
func (g *guarded) round(n int, victim, moment string, random *rand.Rand, counts *tally) {
	g.t.Helper()
	kind := goodVersion
	switch back := moment == string(activation.RollingBack) || moment == string(activation.RolledBack); {
	case back && random.IntN(2) == 0 || random.IntN(10) == 0:
		kind = badSwitch
	case back || random.IntN(10) == 0:
		kind = badCheck
	}
	s := nspawn.System{Version: fmt.Sprintf("%d-%s", n, kind), Units: map[string]string{"web.service": daemonUnit(fmt.Sprintf("/bin/sleep %d", 1000000+n))}}
	g.set(nil)
	switch kind {
	case badSwitch:
		s.After = "exit 1"
	case badCheck:
		g.set(map[string]any{"verify_timeout_secs": 3, "checks": []config.Check{{Command: []string{"/bin/false"}}}})
	}
	before := g.before
	if victim == cutPower && kind != goodVersion {
		g.m.Must("sync") // the settings, which are not what is tested
	}
	p := g.publish(s)
	stage := g.killAt(p, victim, moment, random)
	booted := ""
	if victim == cutPower {
		booted = g.bootedAfterCut(p.version, before)
	}
	r := p.want(p.final().Status)
	what := fmt.Sprintf("%-8s %-13s %-11s %s%s", victim, stage, kind, booted, r.Status)
	counts.add(what)
	g.t.Logf("round %3d: %s", n, what)

	if kind != goodVersion && r.Status == record.Applied {
		g.t.Errorf("round %d: the version %s is applied", n, p.version)
	}
	if kind == goodVersion && r.Status != record.Applied {
		g.t.Errorf("round %d: the version %s is %s, which the kill of the %s in the stage %q was no reason for: %s", n, p.version, r.Status, victim, stage, r.Error)
	}
	if victim == cutPower {
		g.wholeAfterCut()
	} else {
		p.ranOnce(victim)
	}
	if g.t.Failed() {
		g.t.Errorf("round %d: %s, the %s was killed in the stage %q; the switches: %v", n, p.version, victim, stage, g.m.Switches()[p.switched:])
	}
}

// killAt kills when the moment has come, or when there is nothing more to wait for. It returns the stage
// that was current right before.
func (g *guarded) killAt(p published, victim, moment string, random *rand.Rand) (stage string) {
	g.t.Helper()
	giveUp := time.NewTimer(nspawn.Patience)
	defer giveUp.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	delay := time.NewTimer(time.Duration(random.Int64N(int64(longestDelay))))
	defer delay.Stop()
	for stage = ""; ; {
		stage = g.stage(p)
		ended := stage == string(activation.Committed) || stage == string(activation.RolledBack)
		if moment != "" && (stage == moment || ended) {
			break
		}
		select {
		case <-look.C:
			continue
		case <-delay.C:
			if moment != "" {
				continue
			}
		case <-giveUp.C:
			g.t.Fatalf("%s does not come to the stage %q", p.version, moment)
		}
		break
	}
	switch victim {
	case killAgent:
		g.kill("npcnix")
	case killWorker:
		g.kill("npcnix-activate*")
	case killMachine:
		g.m.Kill()
		g.m.Boot()
	case cutPower:
		time.Sleep(time.Duration(random.Int64N(int64(longestCut)))) // a stage is more than its beginning
		stage = g.stage(p)
		g.m.Cut()
		g.m.Boot()
	}
	if stage == "" {
		stage = "before"
	}
	return stage
}

// stage is how far the version has got; "" before it has begun.
func (g *guarded) stage(p published) string {
	var s agent.State
	_ = json.Unmarshal([]byte(g.m.Read(filepath.Join(dataDir, "state.json"))), &s)
	a := g.activation()
	switch {
	case s.Intent != nil && s.Intent.ETag == p.etag && s.Intent.Activation == a.ID:
		return string(a.Phase)
	case s.Intent != nil && s.Intent.ETag == p.etag:
		return string(s.Intent.Status)
	case s.Applied != nil && s.Applied.ETag == p.etag:
		return string(activation.Committed)
	case s.Failure != nil && s.Failure.ETag == p.etag:
		return string(activation.RolledBack)
	}
	return ""
}

// ranOnce checks that the version was not activated twice, unless the first time was cut short by the kill
// of what worked on it: of its worker, or of the machine, which forgets what ran.
func (p published) ranOnce(victim string) {
	p.t.Helper()
	runs := p.runsOf(p.version, "test")
	switch {
	case len(runs) == 1:
	case len(runs) == 2 && (runs[0] == "" || victim != killAgent):
	default:
		p.t.Errorf("%s was activated %d times: %q", p.version, len(runs), runs)
	}
	if p.count(awsfake.Buried, p.message) > 0 && p.before == p.version {
		p.t.Errorf("the message of %s, which is applied, is in the dead-letter queue", p.version)
	}
}
