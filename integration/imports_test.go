package integration

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/npcnix/npcnix/"

// mayImport is the import direction: cmd → {doctor, fleet} → agent → {events, store, nix}; leaves never
// import each other.
var mayImport = map[string][]string{
	module + "events":            nil,
	module + "store":             nil,
	module + "nix":               {module + "nix/systemd"},
	module + "nix/systemd":       nil,
	module + "nix/jsonfile":      nil,
	module + "nix/activation":    {module + "nix", module + "nix/systemd", module + "nix/jsonfile"},
	module + "nix/nixtest":       nil,
	module + "agent":             {module + "events", module + "store", module + "nix", module + "nix/activation", module + "nix/jsonfile"},
	module + "cmd/npcnix/fleet":  {module + "agent", module + "store"},
	module + "cmd/npcnix/doctor": {module + "agent", module + "events", module + "store"},
	module + "cmd/npcnix":        {module + "cmd/npcnix/doctor", module + "cmd/npcnix/fleet", module + "agent", module + "events", module + "store", module + "nix", module + "nix/activation"},
}

func TestImportsPointInOneDirection(t *testing.T) {
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
		allowed, known := mayImport[pkg]
		if !known {
			t.Errorf("%s is not in the list of packages: say what it may import", pkg)
			continue
		}
		seen++
		for _, i := range imports {
			if strings.HasPrefix(i, module) && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("saw %d of %d packages", seen, len(mayImport))
	}
}
