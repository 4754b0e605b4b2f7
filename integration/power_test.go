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

const (
	// powerRounds is how often TestPowerCuts cuts the power, unless NPCNIX_TEST_CUTS says otherwise.
	powerRounds = 10
	// powerMachine is how many rounds each machine has, of powerMachines at most.
	powerMachine, powerMachines = 20, 6
)

// cuts are when the power is cut, the most telling instants first: as moments.
var cuts = []string{
	string(activation.Switching), string(activation.Pending), string(record.Building), string(activation.RollingBack),
	string(activation.Committing), string(activation.Committed), "", string(activation.Verifying), string(activation.RolledBack),
}

// powerNix is a folder with another nix for the machines of TestPowerCuts, as integration/nix-next.sh makes it.
const powerNix = "NPCNIX_TEST_POWER_NIX"

// withNix gives a machine another nix. Its programs name the folder in which they were unpacked.
func withNix(o nspawn.Options, folder string) nspawn.Options {
	o.Binds, o.Files = map[string]string{folder: folder}, map[string]string{}
	for _, program := range []string{"nix", "nix-env", "nix-store"} {
		o.Files["/usr/local/bin/"+program] = "#!/bin/sh\nexec " + folder + "/bin/" + program + ` "$@"` + "\n"
	}
	return o
}

// TestPowerCuts publishes versions, cuts the power amid each, and boots again: what was not synced to the disk
// is lost. Each version ends as it would have ended without, and no damaged path is left in the nix store.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	seed, rounds := roundSeed(t), testCount(t, "NPCNIX_TEST_CUTS", powerRounds)
	machines := min(powerMachines, (rounds+powerMachine-1)/powerMachine)
	var counts tally
	t.Run("machines", func(t *testing.T) {
		for i := range machines {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(i+1)))
				o := nspawn.Options{Suite: []string{"trixie", "bookworm"}[i%2], Disk: true} // nix 2.26 and 2.8
				if folder := os.Getenv(powerNix); folder != "" {
					o = withNix(nspawn.Options{Suite: "trixie", Disk: true}, folder)
				}
				g := newGuarded(t, o, map[string]any{"retry_delays_secs": []int{0, 0, 0}})
				g.m.Must("sync")
				t.Log(strings.TrimSpace(g.m.Must("nix", "--version")))
				for n := i; n < rounds && !t.Failed(); n += machines {
					g.round(n, cutPower, cuts[n/machines%len(cuts)], random, &counts)
				}
			})
		}
	})
	report := fmt.Sprintf("power cuts by instant, version, what booted, the store then, and how the version ended (NPCNIX_TEST_SEED=%d):\n%s\n", seed, &counts)
	t.Log(report)
	if err := os.WriteFile("../.cache/power-cuts", []byte(report), 0o644); err != nil {
		t.Error(err)
	}
}

// bootedAfterCut tells what the machine has booted, and whether the agent has found damage in the store.
func (g *guarded) bootedAfterCut(version, before string) string {
	g.t.Helper()
	booted := "old"
	switch system := strings.TrimSpace(g.m.Read(nspawn.BootedSystem + "/version")); system {
	case version:
		booted = "new"
	case before:
	default:
		g.t.Errorf("neither %s nor %s was booted, but %q", version, before, system)
	}
	journal := func() string {
		return g.m.Must("journalctl", "--boot", "--unit=npcnix", "--output=cat")
	}
	g.m.Await("the check of the store", func() bool { return strings.Contains(journal(), "the store was checked") })
	damage, log := "whole", journal()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "the store was checked") || strings.Contains(line, "is on disk") {
			g.t.Log(strings.TrimSpace(line)) // what it costs
		}
	}
	if strings.Contains(log, "deleting damaged paths") || strings.Contains(log, "repairing a damaged path") {
		damage = "damaged"
	}
	return fmt.Sprintf("%-4s %-8s ", booted, damage)
}

// wholeAfterCut checks that nothing damaged is left.
func (g *guarded) wholeAfterCut() {
	g.t.Helper()
	if out, err := g.m.Run("nix-store", "--verify", "--check-contents"); err != nil || strings.Contains(out, "was modified") {
		g.t.Errorf("damaged paths are left in the store: %v\n%s", err, out)
	}
	for _, file := range []string{"state.json", "activation.json"} {
		if g.m.Exists(filepath.Join(dataDir, file+".damaged")) {
			g.t.Errorf("%s was damaged", file)
		}
	}
}
