package rules

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/npcnix/npcnix/"

// mayImport is the import direction: cmd → {doctor, fleet} → agent → its islands → {events, store, nix}.
// Leaves never import each other, and islands never import agent.
var mayImport = map[string][]string{
	"events":            {"store/credentials"},
	"store":             {"store/credentials"},
	"store/release":     {"store/credentials"},
	"store/credentials": nil,
	"nix":               {"nix/systemd"},
	"nix/activation":    {"nix", "nix/systemd", "nix/jsonfile", "nix/lockfile"},
	"nix/jsonfile":      nil,
	"nix/lockfile":      nil,
	"nix/systemd":       nil,
	"nix/nixtest":       nil,
	"agent": {"agent/config", "agent/health", "agent/hook", "agent/inbox", "agent/metrics", "agent/reboot", "agent/record", "agent/trust", "agent/verify", "agent/wait",
		"events", "store", "store/release", "nix", "nix/activation", "nix/jsonfile"},
	"agent/command":      {"nix"},
	"agent/config":       {"events", "store", "store/release", "nix/jsonfile", "nix/lockfile", "nix/systemd"},
	"agent/health":       {"agent/config", "agent/record", "agent/wait"},
	"agent/hook":         {"agent/command", "agent/config", "agent/record", "store"},
	"agent/hosttest":     {"nix", "nix/activation"},
	"agent/inbox":        {"agent/health", "agent/wait", "events"},
	"agent/metrics":      nil,
	"agent/reboot":       {"agent/config"},
	"agent/record":       {"agent/wait"},
	"agent/trust":        {"agent/config", "nix/jsonfile", "store/release"},
	"agent/verify":       {"agent/command", "agent/config", "agent/wait", "nix", "nix/activation"},
	"agent/wait":         nil,
	"cmd/npcnix/fleet":   {"agent/config", "agent/metrics", "agent/record", "events", "store"},
	"cmd/npcnix/doctor":  {"agent/config", "agent/health", "events", "nix", "store", "store/credentials", "store/release"},
	"cmd/npcnix/cache":   {"store"},
	"cmd/npcnix/publish": {"agent/record", "cmd/npcnix/cache", "nix", "store", "store/release"},
	"docs/site":          nil,
	"cmd/npcnix/rollout": {"agent/record", "cmd/npcnix/fleet", "cmd/npcnix/publish", "store", "store/release"},
	"cmd/npcnix": {"cmd/npcnix/cache", "cmd/npcnix/rollout", "cmd/npcnix/doctor", "cmd/npcnix/fleet", "cmd/npcnix/publish", "agent", "agent/config", "agent/health", "agent/inbox", "agent/record", "agent/trust",
		"events", "store", "store/release", "nix", "nix/activation"},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg, imports := words[0], words[1:]
		if strings.HasPrefix(pkg, module+"integration") {
			continue // may import anything
		}
		allowed, known := mayImport[strings.TrimPrefix(pkg, module)]
		if !known {
			t.Errorf("%s is not in the list of packages: say what it may import", pkg)
			continue
		}
		seen++
		for _, i := range imports {
			if strings.HasPrefix(i, module) && !slices.Contains(allowed, strings.TrimPrefix(i, module)) {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("saw %d of %d packages", seen, len(mayImport))
	}
}
