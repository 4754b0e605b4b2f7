package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// followingAFile is a host of the NixOS module whose nix builds as NixOS's does, as a build user in a
// sandbox; there Debian's programs are in other places than NixOS's.
const followingAFile = `
let nixpkgs = (import ../nix/testdata/nixpkgs/flake.nix).outputs { self = { }; };
    host = nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [ ../nix/module.nix {
      services.npcnix = {
        enable = true;
        remote = "file:///var/lib/remote/dev.npcnix";
        configuration = "web1";
        settleSecs = 0;
        nixOptions = { sandbox = "true"; sandbox-fallback = "false"; build-users-group = "nixbld"; sandbox-paths = "/bin /usr /lib /lib64"; };
      };
    } ]; };
in { inherit (host) units; settings = host.config.environment.etc."npcnix/settings.json".text; }`

// The units that the module makes run the agent on real systemd: it is ready and watched, knows the
// module's settings, builds as a build user in nix's sandbox in spite of the unit's hardening, and
// survives the switch that it orders.
func TestModuleUnits(t *testing.T) {
	t.Parallel()
	eval := exec.Command(need(t, "nix"), "--extra-experimental-features", "nix-command", "eval", "--impure", "--json", "--expr", followingAFile)
	eval.Env = append(os.Environ(), nixtest.Env()...)
	eval.Stderr = os.Stderr
	out, err := eval.Output()
	if err != nil {
		t.Fatal(err)
	}
	var host struct {
		Units    map[string]string
		Settings string
	}
	if err := json.Unmarshal(out, &host); err != nil {
		t.Fatal(err)
	}
	units := map[string]string{}
	for name, text := range host.Units {
		// In place of NixOS's packages, Debian's and the agent that was built here.
		text = regexp.MustCompile(`"[^"]*/bin/npcnix"`).ReplaceAllLiteralString(text, "/usr/local/bin/npcnix")
		units[name+".service"] = regexp.MustCompile(`"PATH=[^"]*"`).ReplaceAllLiteralString(text, `"PATH=/usr/sbin:/usr/bin:/sbin:/bin"`)
	}
	for _, suite := range []string{"trixie", "bookworm"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			flake := filepath.Join(t.TempDir(), "flake")
			if err := nspawn.Flake(flake, nixtest.Salt(), map[string]nspawn.System{"web1": {Version: "two", Units: units}}); err != nil {
				t.Fatal(err)
			}
			m := nspawn.Boot(t, nspawn.Options{
				Suite: suite,
				Binds: map[string]string{"/usr/local/bin/npcnix": npcnix, "/srv/flake": flake},
				Files: map[string]string{"/etc/npcnix/settings.json": host.Settings},
			})
			m.Must("mkdir", "-p", "/var/lib/remote")
			m.Must("sh", "-c", "getent group nixbld || groupadd -r nixbld; useradd -r -g nixbld -G nixbld -d /var/empty nixbld1")

			m.Install(nspawn.System{Version: "one", Units: units})
			m.Await("the agent and the unit that arms the rollback timer to have been started", func() bool {
				return m.Unit("npcnix", "ActiveState") == "active" && m.Unit("npcnix-rearm", "ActiveState") == "active"
			})
			agent := m.Unit("npcnix", "MainPID")
			if watched := m.Unit("npcnix", "WatchdogUSec"); watched != "2min" {
				t.Errorf("the agent is watched for %s", watched)
			}
			m.Must("npcnix", "push", "--src", "/srv/flake", "--remote", "file:///var/lib/remote/dev.npcnix")
			m.Await("version two to be applied", func() bool {
				return m.Version() == "two" && strings.Contains(m.Read("/var/lib/npcnix/state.json"), `"applied"`)
			})
			if now := m.Unit("npcnix", "MainPID"); now != agent {
				t.Error("the agent was restarted, though its unit has not changed")
			}
			activated := 0
			for _, s := range m.Switches() {
				if s.Version == "two" && s.Action != "boot" {
					activated++
				}
			}
			if activated != 1 {
				t.Errorf("version two was activated %d times: %v", activated, m.Switches())
			}
		})
	}
}
