package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/activation"
)

// powerRounds is how often TestPowerCuts cuts the power, unless NPCNIX_TEST_CUTS says otherwise.
const powerRounds = 7

// cuts are when the power is cut: as moments, for versions that are good.
var cuts = []string{
	string(activation.Switching), string(activation.Pending), string(record.Building), string(activation.Verifying),
	string(activation.Committing), string(activation.Committed), "",
}

// TestPowerCuts publishes good versions, cuts the power amid each, and boots again: what was not synced to the
// disk is lost. Each version ends applied, and no damaged path is left in the nix store.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	seed, rounds := roundSeed(t), powerRounds
	if given := os.Getenv("NPCNIX_TEST_CUTS"); given != "" {
		var err error
		if rounds, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	g := newGuarded(t, nspawn.Options{Disk: true}, map[string]any{"retry_delays_secs": []int{0, 0, 0}})
	g.m.Must("sync")

	var counts tally
	for n := 0; n < rounds && !t.Failed(); n++ {
		g.cut(n, cuts[n%len(cuts)], random, &counts)
	}
	report := fmt.Sprintf("power cuts by instant, what booted, damaged paths, and how the version ended (NPCNIX_TEST_SEED=%d):\n%s\n", seed, &counts)
	t.Log(report)
	if err := os.WriteFile("../.cache/power-cuts", []byte(report), 0o644); err != nil {
		t.Error(err)
	}
}

// cut publishes a version, cuts the power, and looks at what comes of it.
func (g *guarded) cut(n int, moment string, random *rand.Rand, counts *tally) {
	g.t.Helper()
	version, before := fmt.Sprintf("%d-%s", n, goodVersion), g.before
	p := g.publish(nspawn.System{Version: version, Units: map[string]string{"web.service": daemonUnit(fmt.Sprintf("/bin/sleep %d", 1000000+n))}})
	stage := g.killAt(p, cutPower, moment, random)

	booted := "the previous system"
	switch system := strings.TrimSpace(g.m.Read(nspawn.BootedSystem + "/version")); system {
	case version:
		booted = "the new system"
	case before:
	default:
		g.t.Errorf("round %d: the version %q was booted", n, system)
	}
	r := p.want(record.Applied)
	damage := "whole"
	if strings.Contains(g.m.Must("journalctl", "--boot", "--unit=npcnix", "--output=cat"), "deleting damaged paths") {
		damage = "damaged"
	}
	what := fmt.Sprintf("%-10s %-20s %-8s %s", stage, booted, damage, r.Status)
	counts.add(what)
	g.t.Logf("round %3d: %s", n, what)

	if out, err := g.m.Run("nix-store", "--verify", "--check-contents"); err != nil || strings.Contains(out, "was modified") {
		g.t.Errorf("round %d: the power was cut in the stage %q, and damaged paths are left in the store: %v\n%s", n, stage, err, out)
	}
	for _, file := range []string{"state.json", "activation.json"} {
		if g.m.Exists(filepath.Join(dataDir, file+".damaged")) {
			g.t.Errorf("round %d: %s was damaged", n, file)
		}
	}
}
