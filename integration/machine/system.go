package machine

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

var (
	//go:embed switch.sh
	switchScript string
	//go:embed activate.sh
	activateScript string
)

// Where systems leave their traces in a machine.
const (
	// Switches gets two lines of each switch-to-configuration with the action switch, test or boot
	// that has got the lock: "VERSION ACTION begin PID" and "VERSION ACTION end PID STATUS". One
	// that was killed has no second line. See [Machine.Switches].
	Switches = "/var/lib/machine/switches"

	CurrentSystem = "/run/current-system" // the running toplevel
	BootedSystem  = "/run/booted-system"  // the toplevel that the machine has booted
	BootDefault   = "/boot/default"       // the toplevel that it boots by default
	SwitchLock    = "/run/nixos/switch-to-configuration.lock"

	// Profile is NixOS's profile of systems; a switch does not touch it.
	Profile = "/nix/var/nix/profiles/system"
)

// System describes one configuration of a flake. The zero System has no units and switches well.
type System struct {
	Version string // one line; [Machine.Version] returns that of the running system

	// Units holds the texts of unit files by their names. "[Install] WantedBy=multi-user.target" is
	// what starts one, at boot and by a switch.
	Units map[string]string

	// Inhibitors is system.switch.inhibitors: values by name. If the running system has another
	// value, switch, test and check exit with 1.
	Inhibitors map[string]string

	// Kernel, Initrd and Modules name what needs a reboot when it changes. The same text
	// makes the same store path.
	Kernel, Initrd, Modules string

	// Init is the init-interface-version. If the running system has another, switch and test exit
	// with 100, after the boot loader was set.
	Init string

	// Scripts of bash that can break a switch. Each may end with a status, hang, or kill.
	Bootloader string // run by switch and boot before they set the default; a status makes theirs 1
	Before     string // run by switch and test before they stop units; a status ends them with it
	After      string // run by switch and test after they have started units; likewise
}

// Flake writes dir/flake.nix, with a nixosConfiguration for each name; dir is created. It has no
// inputs, needs no network, and is built by /bin/sh, in a machine or elsewhere.
//
// The same salt and System make the same store path; see nixtest.Salt.
func Flake(dir, salt string, systems map[string]System) error {
	text, err := flake(salt, systems)
	if err != nil {
		return fmt.Errorf("write flake: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write flake: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write flake: %w", err)
	}
	return nil
}

func flake(salt string, systems map[string]System) (string, error) {
	var b strings.Builder
	b.WriteString("{\n  outputs = { self }: {\n")
	for _, name := range slices.Sorted(maps.Keys(systems)) {
		toplevel, err := toplevel(name, salt, systems[name])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "    nixosConfigurations.%s.config.system.build.toplevel = %s;\n", quoted(name), toplevel)
	}
	b.WriteString("  };\n}\n")
	return b.String(), nil
}

// toplevel is the expression of a system: a derivation that copies files made by builtins.toFile.
func toplevel(name, salt string, s System) (string, error) {
	if s.Init == "" {
		s.Init = "systemd 2"
	}
	inhibitors, err := json.Marshal(s.Inhibitors)
	if err != nil {
		return "", err
	}
	if s.Inhibitors == nil {
		inhibitors = []byte("{}")
	}
	files := map[string]string{
		"version":                     s.Version + "\n",
		"nixos-version":               "99.11." + plain(s.Version),
		"init-interface-version":      s.Init,
		"switch-inhibitors":           string(inhibitors),
		"activate":                    activateScript,
		"bin/switch-to-configuration": switchScript,
	}
	for path, script := range map[string]string{"bootloader": s.Bootloader, "before": s.Before, "after": s.After} {
		if script != "" {
			files[path] = script
		}
	}
	var build, env strings.Builder
	build.WriteString("PATH=/usr/bin:/bin:/run/current-system/sw/bin\nmkdir -p $out/bin $out/etc/systemd/system\ncd $out\n")
	for unit, text := range s.Units {
		files["etc/systemd/system/"+unit] = text
		for line := range strings.Lines(text) {
			if targets, ok := strings.CutPrefix(line, "WantedBy="); ok {
				for _, target := range strings.Fields(targets) {
					wants := "etc/systemd/system/" + target + ".wants"
					fmt.Fprintf(&build, "mkdir -p %s\nln -s %s %s\n", word(wants), word("../"+unit), word(wants+"/"+unit))
				}
			}
		}
	}
	for i, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&env, "      file%d = builtins.toFile %s %s;\n", i, quoted(plain(filepath.Base(path))), quoted(files[path]))
		fmt.Fprintf(&build, "cp \"$file%d\" %s\n", i, word(path))
	}
	for link, content := range map[string]string{"kernel": s.Kernel, "initrd": s.Initrd, "kernel-modules": s.Modules} {
		variable := strings.ReplaceAll(link, "-", "_")
		fmt.Fprintf(&env, "      %s = builtins.toFile %s %s;\n", variable, quoted(link), quoted(content))
		fmt.Fprintf(&build, "ln -s \"$%s\" %s\n", variable, link)
	}
	build.WriteString("chmod +x activate bin/switch-to-configuration\n")
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return fmt.Sprintf(`derivation {
      name = %s;
      system = %s;
      builder = "/bin/sh";
      args = [ "-euc" %s ];
%s    }`, quoted("nixos-system-"+plain(name)+"-"+plain(salt)), quoted(arch+"-linux"), quoted(build.String()), env.String()), nil
}

// quoted makes a string of the Nix language.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `${`, `\${`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}

// word quotes for the shell.
func word(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plain replaces characters that the name of a store path cannot have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("+-._?=", r) || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, s)
}
