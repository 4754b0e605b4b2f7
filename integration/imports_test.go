package integration

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the import direction: cmd → {doctor, fleet} → agent → {events, store, nix}; leaves never
// import each other.
var mayImport = map[string][]string{
	"npcnix/events":            nil,
	"npcnix/store":             nil,
	"npcnix/nix":               nil,
	"npcnix/nix/nixtest":       nil,
	"npcnix/agent":             {"npcnix/events", "npcnix/store", "npcnix/nix"},
	"npcnix/cmd/npcnix/fleet":  {"npcnix/agent", "npcnix/store"},
	"npcnix/cmd/npcnix/doctor": {"npcnix/agent", "npcnix/events", "npcnix/store"},
	"npcnix/cmd/npcnix":        {"npcnix/cmd/npcnix/doctor", "npcnix/cmd/npcnix/fleet", "npcnix/agent", "npcnix/events", "npcnix/store", "npcnix/nix"},
}

func TestImportsPointInOneDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "npcnix/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg, imports := words[0], words[1:]
		if strings.HasPrefix(pkg, "npcnix/integration") {
			continue // may import anything
		}
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s is not in the list of packages: say what it may import", pkg)
			continue
		}
		seen++
		for _, i := range imports {
			if strings.HasPrefix(i, "npcnix/") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("saw %d of %d packages", seen, len(mayImport))
	}
}
