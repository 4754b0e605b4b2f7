package nixos

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/integration/machine"
)

const (
	// powerCuts is how often TestPowerCuts cuts the power, unless NPCNIX_TEST_CUTS says otherwise.
	powerCuts = 10
	// roundsOfHost is how many cuts a host has before another takes its place.
	roundsOfHost = 20
	longestCut   = 300 * time.Millisecond // from an instant to the cut
	trustFile    = dataDir + "/trust.json"
	longestDelay = 4000 * time.Millisecond // from a publish to a cut at no instant
)

// instant is when the power is cut: when something is there for the first time.
type instant struct {
	name string
	bad  bool // it comes only in a version that is rolled back
	here func(h *Host, version string) bool
}

// instants in the order in which the slice has them: what was worst first.
var instants = []instant{
	{name: "boot entry", here: func(h *Host, version string) bool { return h.hasEntry(version) }},
	{name: "switching", here: inPhase("switching")},
	{name: "built", here: func(h *Host, version string) bool { return h.isBuilt(version) }},
	{name: "profile", here: func(h *Host, version string) bool { return h.Profiled() == version }},
	{name: "pending", here: inPhase("pending")},
	{name: "unpacked", here: func(h *Host, _ string) bool { return h.stage() == "building" }},
	{name: "trust.json", here: func(h *Host, _ string) bool { return h.Read(trustFile) != h.trusted }},
	{name: "verifying", here: inPhase("verifying")},
	{name: "committing", here: inPhase("committing")},
	{name: "committed", here: inPhase("committed")},
	{name: "record", here: func(h *Host, version string) bool { return h.recorded(version) }},
	{name: "at random", here: func(*Host, string) bool { return false }},
	{name: "rolling back", bad: true, here: inPhase("rolling_back")},
	{name: "rolled back", bad: true, here: inPhase("rolled_back")},
}

func inPhase(phase string) func(*Host, string) bool {
	return func(h *Host, version string) bool { return h.activates(version) && h.Phase() == phase }
}

// powerHosts are what is cut: the boot loader's installer, the switch, nix, and what is published.
var powerHosts = []struct {
	loader, flavour, suite string
	signed, prebuilt       bool
}{
	{"systemd-boot", RustNow, "trixie", true, false},
	{"extlinux", RustNow, "trixie", false, false},
	{"systemd-boot", Perl2022, "bookworm", false, false},
	{"extlinux", Perl2022, "bookworm", true, false},
	{"systemd-boot", RustNow, "trixie", true, true},
	{"extlinux", Perl2022, "bookworm", true, true},
}

// database is a service beside, which syncs its own file all the time, as databases do. With that the file system's
// journal is on disk, with the names of all other files, and not yet what is in these.
const database = `pkgs.writeScript "database" "#!/bin/sh\nwhile echo row >/var/lib/database; do sync /var/lib/database; sleep 0.05; done\n"`

// TestPowerCuts publishes versions, each with a kernel of its own, cuts the power amid each, and boots again: what was
// not synced to the disk is lost. The boot loader finds an entry whose kernel and initrd are whole, each version ends
// as it would have ended without, and nothing in the nix store is damaged then.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	seed, cuts := uint64(time.Now().UnixNano()), powerCuts
	number(t, "NPCNIX_TEST_SEED", &seed)
	number(t, "NPCNIX_TEST_CUTS", &cuts)
	counts, of := &tally{n: map[string]int{}}, instants
	if only := os.Getenv("NPCNIX_TEST_INSTANT"); only != "" {
		of = slices.DeleteFunc(slices.Clone(of), func(i instant) bool { return i.name != only })
	}
	for first := 0; first < cuts && !t.Failed(); first += roundsOfHost {
		kind := powerHosts[(int(seed%uint64(len(powerHosts)))+first/roundsOfHost)%len(powerHosts)]
		t.Run(fmt.Sprintf("%s, %s, %s, prebuilt %t, from %d", kind.loader, kind.flavour, kind.suite, kind.prebuilt, first), func(t *testing.T) {
			h := New(t, Options{Suite: kind.suite, Flavour: kind.flavour, Agent: agentBinary, Module: Module(t), Disk: true, Signed: kind.signed, Prebuilt: kind.prebuilt, Base: fmt.Sprintf(`{
				test.loader = %q; services.npcnix.retryDelaysSecs = lib.mkForce [ 0 0 0 ];
				systemd.services.database = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "${%s}"; };
			}`, kind.loader, database)})
			random := rand.New(rand.NewPCG(seed, uint64(first)))
			for n := first; n < min(first+roundsOfHost, cuts) && !t.Failed(); n++ {
				h.losesPower(n, of[n%len(of)], random, counts)
			}
		})
	}
	report := fmt.Sprintf("power cuts on NixOS's parts by instant, stage, what booted, and how the version ended (NPCNIX_TEST_SEED=%d):\n%s\n", seed, counts)
	t.Log(report)
	if err := os.WriteFile("../../.cache/power-cuts-nixos", []byte(report), 0o644); err != nil { // for make test
		t.Error(err)
	}
}

func number[N int | uint64](t *testing.T, variable string, n *N) {
	t.Helper()
	if given := os.Getenv(variable); given != "" {
		value, err := strconv.ParseUint(given, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		*n = N(value)
	}
}

// losesPower publishes a version, cuts the power at an instant or soon after, boots, and looks at what becomes of
// it all.
func (h *Host) losesPower(n int, at instant, random *rand.Rand, counts *tally) {
	h.t.Helper()
	kernel := fmt.Sprintf(`test.kernel = "6.%d";`, n)
	change, want := "{ "+kernel+" }", "applied"
	if at.bad || at.name == "at random" && random.IntN(4) == 0 {
		change, want = "{ "+kernel+` systemd.services.web.serviceConfig.ExecStart = "/bin/false"; }`, "rolled_back"
	}
	h.trusted = h.Read(trustFile)
	version, etag := h.Publish("cut", change)
	stage := h.cutAt(version, at, random)
	h.Boot()
	booted := h.booted(version)
	var r Record
	h.Await("the end of "+version, func() bool {
		r = h.Record(etag)
		return r.Status == "applied" || r.Status == "rejected" || r.Status == "rolled_back"
	})
	what := fmt.Sprintf("%-14s %-13s %-8s %s", at.name, stage, booted, r.Status)
	counts.add(what)
	h.t.Logf("cut %3d: %s", n, what)
	if r.Status != want {
		h.t.Errorf("cut %d: %s is %s, want %s: %s", n, version, r.Status, want, r.Text())
	}
	if r.Status == "applied" {
		h.Applied = version
	}
	h.stands(h.Applied)
	h.isWhole()
}

// cutAt cuts the power, and returns the stage that the version was in.
func (h *Host) cutAt(version string, at instant, random *rand.Rand) string {
	h.t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	give := time.After(2 * time.Minute)
	late := time.After(time.Duration(random.Int64N(int64(longestDelay))))
	if at.name != "at random" {
		late = nil
	}
	for waits := true; waits && !at.here(h, version) && !(h.activates(version) && h.Ended()); {
		select {
		case <-look.C:
		case <-late:
			waits = false
		case <-give:
			h.t.Fatalf("%s does not come to the instant %q", version, at.name)
		}
	}
	if random.IntN(2) == 0 { // what comes right after, too
		time.Sleep(time.Duration(random.Int64N(int64(longestCut))))
	}
	stage := h.stage()
	if h.activates(version) {
		stage = h.Phase()
	}
	h.Cut()
	return stage
}

// stage is what the agent works at: "" for nothing.
func (h *Host) stage() string {
	var state struct{ Intent struct{ Status string } }
	_ = json.Unmarshal([]byte(h.Read(dataDir+"/state.json")), &state)
	return state.Intent.Status
}

// activates tells whether the latest activation is that of a version.
func (h *Host) activates(version string) bool {
	return strings.Contains(h.Read(dataDir+"/activation.json"), "-26.05."+version+`"`)
}

// isBuilt tells whether the agent holds the system of a version.
func (h *Host) isBuilt(version string) bool {
	var state struct{ Intent struct{ System string } }
	_ = json.Unmarshal([]byte(h.Read(dataDir+"/state.json")), &state)
	return strings.HasSuffix(state.Intent.System, "-26.05."+version) || h.activates(version)
}

// hasEntry tells whether the boot loader's configuration knows a version.
func (h *Host) hasEntry(version string) bool {
	init := "-26.05." + version + "/init"
	if strings.Contains(h.Read("/boot/extlinux/extlinux.conf"), init) {
		return true
	}
	for generation := h.n + 1; generation > 0; generation-- {
		if strings.Contains(h.Read(fmt.Sprintf("/boot/loader/entries/nixos-generation-%d.conf", generation)), init) {
			return true
		}
	}
	return false
}

// recorded tells whether the record is of a version, and final.
func (h *Host) recorded(version string) bool {
	var r Record
	_ = json.Unmarshal([]byte(h.Read(recordFile)), &r)
	return r.Status == "applied" && strings.HasSuffix(r.System, "-26.05."+version)
}

// booted tells which system the machine has booted.
func (h *Host) booted(version string) string {
	h.t.Helper()
	switch got := h.versionOf(machine.BootedSystem); got {
	case version:
		return "new"
	case h.Applied:
		return "previous"
	default:
		h.t.Errorf("neither %s nor %s was booted, but %q", version, h.Applied, got)
		return got
	}
}

// isWhole checks that nothing damaged is left, in the store or among the agent's files.
func (h *Host) isWhole() {
	h.t.Helper()
	if out, err := h.Run("nix-store", "--verify", "--check-contents"); err != nil || strings.Contains(out, "was modified") {
		h.t.Errorf("damaged paths are left in the store: %v\n%s", err, out)
	}
	if trust := h.Read(trustFile); trust != "" && !json.Valid([]byte(trust)) {
		h.t.Errorf("trust.json is damaged: %q", trust)
	}
	for _, file := range []string{"state.json", "activation.json"} {
		if h.Exists(dataDir + "/" + file + ".damaged") {
			h.t.Errorf("%s was damaged", file)
		}
	}
	if out, err := h.Run("bash", "-c", `source /usr/lib/npcnix/stage2; chosen=$(entry); init=$(part init)
whole "$(part kernel)" "${init%/init}/kernel"; whole "$(part initrd)" "${init%/init}/initrd"`); err != nil {
		h.t.Errorf("the next boot fails: %s", out)
	}
}

// tally counts rounds.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what]++
}

func (c *tally) String() string {
	var b strings.Builder
	total := 0
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "%4d %s\n", c.n[what], what)
		total += c.n[what]
	}
	fmt.Fprintf(&b, "%4d in all", total)
	return b.String()
}
