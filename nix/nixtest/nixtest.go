// Package nixtest makes flakes of small but real NixOS systems, for tests, the demo and
// benchmarks: nix builds them in a tenth of a second, of nothing but /bin/sh, and each has a
// switch-to-configuration that can be watched and made to fail.
//
// Such a system keeps what NixOS keeps in / in a root of its own, which the environment variable
// [RootVariable] names; so many "hosts" can share a machine. A switch does there, in this order:
//
//  1. append a line to switches: version, action, process id, session id;
//  2. wait, when it is to;
//  3. with SwitchExit 1, as of a check that fails, end;
//  4. point run/current-system to its toplevel;
//  5. write its version to marker;
//  6. end with SwitchExit, as NixOS does when units failed.
//
// So do the actions "switch" and "test". "boot" does the first, writes its version to boot, and
// ends with BootExit. The file boot is what a boot loader would boot.
package nixtest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// RootVariable names the environment variable that holds a host's root folder.
const RootVariable = "NPCNIX_ROOT"

// Where the switch leaves its traces in a host's root folder.
const (
	Marker        = "marker"
	Boot          = "boot"
	Switches      = "switches"
	CurrentSystem = "run/current-system"
)

// System describes one configuration of a flake. The zero System builds and switches well.
type System struct {
	Version string // any text without a line break

	EvalFails  bool          // evaluation throws "VERSION does not evaluate"
	BuildTime  time.Duration // the builder sleeps for so long
	BuildWaits string        // the builder waits for this file, after it has printed "waiting, pid N"
	BuildFails bool          // the builder prints "VERSION does not build" and ends with status 1

	SwitchWaits string // the switch waits for this file, after it has printed "waiting, pid N"
	SwitchExit  int    // the switch ends with this status
	SwitchRuns  string // what the switch runs before all else, in /bin/sh
	BootRuns    string // what the action "boot" runs before all else, in /bin/sh
	BootExit    int    // the action "boot" ends with this status
	Inhibitors  string // the JSON text of switch-inhibitors; none where empty
}

// Flake writes dir/flake.nix, with a nixosConfiguration for each name; dir is created. It has no
// inputs and needs no network.
//
// The same salt and System make the same store path, which nix builds once and for all. So tests
// pass the [Salt] of their run, in order not to meet with what another run has left.
func Flake(dir, salt string, systems map[string]System) error {
	var b strings.Builder
	b.WriteString("{\n  outputs = { self }: {\n")
	names := make([]string, 0, len(systems))
	for name := range systems {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "    nixosConfigurations.%s.config.system.build.toplevel = %s;\n",
			quoted(name), toplevel(name, salt, systems[name]))
	}
	b.WriteString("  };\n}\n")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write flake: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write flake: %w", err)
	}
	return nil
}

// Salt returns a text that no other run has.
func Salt() string { return strings.ToLower(rand.Text()) }

// Env returns what nix's environment needs for these systems on a machine that is not set up
// for nix: no substituters, no build users, no sandbox. Nix options of the machine's own
// NIX_CONFIG are replaced.
func Env() []string {
	return []string{"NIX_CONFIG=substituters =\nbuild-users-group =\nsandbox = false"}
}

// Platform is the machine's, as nix names it.
func Platform() string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux"
}

func toplevel(name, salt string, s System) string {
	if s.EvalFails {
		return "throw " + quoted(s.Version+" does not evaluate")
	}
	return fmt.Sprintf(`derivation {
      name = %s;
      system = %s;
      builder = "/bin/sh";
      args = [ "-euc" %s ];
      switch = %s;
    }`, quoted("nixos-system-"+plain(name)+"-"+plain(salt)), quoted(Platform()),
		quoted(buildScript(s)), quoted(switchScript(s)))
}

func buildScript(s System) string {
	var b strings.Builder
	b.WriteString("PATH=/bin:/usr/bin:/run/current-system/sw/bin\n")
	fmt.Fprintf(&b, "printf 'building %%s\\n' %s\n", word(s.Version))
	if s.BuildTime > 0 {
		fmt.Fprintf(&b, "sleep %.3f\n", s.BuildTime.Seconds())
	}
	b.WriteString(wait(s.BuildWaits))
	if s.BuildFails {
		fmt.Fprintf(&b, "printf '%%s does not build\\n' %s >&2\nexit 1\n", word(s.Version))
	}
	b.WriteString("mkdir -p $out/bin\n")
	b.WriteString("printf %s \"$switch\" >$out/bin/switch-to-configuration\n")
	b.WriteString("chmod +x $out/bin/switch-to-configuration\n")
	if s.Inhibitors != "" {
		fmt.Fprintf(&b, "printf %%s %s >$out/switch-inhibitors\n", word(s.Inhibitors))
	}
	return b.String()
}

func switchScript(s System) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\nset -eu\n")
	b.WriteString("PATH=/bin:/usr/bin:/run/current-system/sw/bin:$PATH\n")
	b.WriteString("toplevel=$(readlink -f \"$0\")\ntoplevel=${toplevel%/bin/*}\n")
	fmt.Fprintf(&b, "cd \"${%s:?}\"\n", RootVariable)
	fmt.Fprintf(&b, "version=%s\naction=$1\n", word(s.Version))
	b.WriteString("read -r stat </proc/$$/stat\nset -- ${stat##*)}\n") // state, parent, group, session
	fmt.Fprintf(&b, "printf '%%s\\n' \"$version $action $$ $4\" >>%s\n", Switches)
	fmt.Fprintf(&b, "case $action in\nboot)\n%s\n", s.BootRuns)
	if s.BootExit != 0 {
		fmt.Fprintf(&b, "echo 'installing the boot loader failed' >&2\nexit %d;;\n", s.BootExit)
	} else {
		fmt.Fprintf(&b, "printf '%%s\\n' \"$version\" >%s\nexit 0;;\n", Boot)
	}
	b.WriteString("switch | test) ;;\n*) exit 1 ;;\nesac\n")
	if s.SwitchRuns != "" {
		fmt.Fprintf(&b, "%s\n", s.SwitchRuns)
	}
	b.WriteString("printf 'activating %s\\n' \"$version\"\n")
	b.WriteString(wait(s.SwitchWaits))
	if s.SwitchExit == 1 {
		b.WriteString("echo 'pre-switch checks failed' >&2\nexit 1\n")
	}
	fmt.Fprintf(&b, "mkdir -p \"$(dirname %s)\"\n", CurrentSystem)
	fmt.Fprintf(&b, "ln -sfn \"$toplevel\" %s.$$\nmv -fT %s.$$ %s\n", CurrentSystem, CurrentSystem, CurrentSystem)
	fmt.Fprintf(&b, "printf '%%s\\n' \"$version\" >%s.$$\nmv -f %s.$$ %s\n", Marker, Marker, Marker)
	if s.SwitchExit != 0 {
		fmt.Fprintf(&b, "echo 'warning: the following units failed: demo.service' >&2\nexit %d\n", s.SwitchExit)
	}
	return b.String()
}

// wait is a script that waits for a file to appear.
func wait(file string) string {
	if file == "" {
		return ""
	}
	return fmt.Sprintf("echo \"waiting, pid $$\"\nwhile ! [ -e %s ]; do sleep 0.05; done\n", word(file))
}

// quoted makes a string of the Nix language.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `${`, `\${`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}

// word quotes for the shell.
func word(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plain replaces what the names of store paths cannot have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("+-._?=", r) || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, s)
}
