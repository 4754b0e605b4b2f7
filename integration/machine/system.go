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
	//go:embed bootloader.sh
	bootloaderScript string
)

// Where systems leave their traces in a machine.
const (
	// Switches gets two lines of each switch-to-configuration with the action switch, test or boot:
	// "VERSION ACTION begin PID" and "VERSION ACTION end PID STATUS". One that was killed has no
	// second line. See [Machine.Switches].
	Switches = "/var/lib/machine/switches"

	CurrentSystem = "/run/current-system" // the running toplevel
	BootedSystem  = "/run/booted-system"  // the toplevel that the machine has booted
	BootDefault   = "/boot/default"       // the toplevel that it boots by default
	SwitchLock    = "/run/nixos/switch-to-configuration.lock"

	// Profile is NixOS's profile of systems; a switch does not touch it.
	Profile = "/nix/var/nix/profiles/system"

	// Masked is the text of a unit that is masked.
	Masked = "masked"
)

var (
	// debianTargets are units of Debian's that NixOS has among its own: those that are active are started by
	// each switch.
	debianTargets = []string{
		"sysinit", "basic", "multi-user", "sockets", "timers", "paths", "local-fs", "network", "network-online",
		"remote-fs", "swap", "slices", "nss-user-lookup", "rescue", "graphical", "shutdown", "reboot",
	}
	// debianMasked are units of Debian's that a test has no use for.
	debianMasked = []string{
		"console-getty.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer",
		"e2scrub_all.timer", "e2scrub_reap.service", "systemd-firstboot.service", "nix-daemon.service", "nix-daemon.socket",
	}
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

	// SystemConf is systemd's own configuration. If the running system has another, switch and test have
	// systemd re-execute itself.
	SystemConf string

	// Paths is how many more store paths it needs, which no other version does.
	Paths int

	// Scripts of bash that can break a switch. Each may end with a status, hang, or kill.
	Bootloader string // run by switch and boot before they set the default; an exit ends that: well with 0, else the switch fails
	Activation string // a snippet of the activation script, run with NixOS's lock held, before the system is the running one
	Before     string // run by switch and test before all else, also the lock; a status ends them with it
	After      string // run by switch and test after all else, if the system is the running one then; likewise
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
		"bin/install-bootloader":      bootloaderScript,
		"bin/pre-switch-check":        "#!/bin/bash\nexec bash " + partsInside + "/pre-switch-check.sh \"$@\"\n",
	}
	for path, script := range map[string]string{"bootloader": s.Bootloader, "activation": s.Activation, "before": s.Before, "after": s.After} {
		if script != "" {
			files[path] = script
		}
	}
	var build, env strings.Builder
	build.WriteString("PATH=/usr/bin:/bin:/run/current-system/sw/bin\nmkdir -p $out/bin $out/sw $out/units $out/etc/systemd\ncd $out\n")
	build.WriteString("ln -s /usr/bin sw/bin\n")
	s.addUnits(files, &build)
	for i, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&env, "      file%d = builtins.toFile %s %s;\n", i, quoted(plain(filepath.Base(path))), quoted(files[path]))
		fmt.Fprintf(&build, "cp \"$file%d\" %s\n", i, word(path))
	}
	for link, content := range map[string]string{"kernel": s.Kernel, "initrd": s.Initrd, "kernel-modules": s.Modules, "etc/systemd/system.conf": s.SystemConf} {
		variable := strings.NewReplacer("-", "_", "/", "_", ".", "_").Replace(link)
		fmt.Fprintf(&env, "      %s = builtins.toFile %s %s;\n", variable, quoted(filepath.Base(link)), quoted(content))
		fmt.Fprintf(&build, "ln -s \"$%s\" %s\n", variable, link)
	}
	if s.Paths > 0 {
		fmt.Fprintf(&env, "      paths = builtins.genList (n: builtins.toFile \"path-${toString n}\" (%s + toString n)) %d;\n", quoted(s.Version+salt), s.Paths)
		build.WriteString("echo $paths >paths\n")
	}
	build.WriteString("chmod +x activate bin/switch-to-configuration bin/install-bootloader bin/pre-switch-check\n")
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return fmt.Sprintf(`derivation {
      name = %s;
      system = %s;
      builder = "/bin/sh";
      args = [ "-euc" %s ];
%s    }`, quoted("nixos-system-"+plain(name)+"-"+plain(salt)), quoted(arch+"-linux"), quoted(build.String()), env.String()), nil
}

// addUnits adds the folder of units, to which /etc/systemd/system is to be one link.
func (s System) addUnits(files map[string]string, build *strings.Builder) {
	build.WriteString("ln -s ../../units etc/systemd/system\nln -s multi-user.target units/default.target\n")
	files["units/sysinit-reactivation.target"] = "[Unit]\nDescription=Reactivate sysinit units\n"
	for _, target := range debianTargets {
		fmt.Fprintf(build, "ln -s /usr/lib/systemd/system/%s.target units/\n", target)
	}
	masked := slices.Clone(debianMasked)
	for unit, text := range s.Units {
		if text == Masked {
			masked = append(masked, unit)
			continue
		}
		files["units/"+unit] = text
		for line := range strings.Lines(text) {
			if targets, ok := strings.CutPrefix(line, "WantedBy="); ok {
				for _, target := range strings.Fields(targets) {
					wants := "units/" + target + ".wants"
					fmt.Fprintf(build, "mkdir -p %s\nln -s %s %s\n", word(wants), word("../"+unit), word(wants+"/"+unit))
				}
			}
		}
	}
	for _, unit := range masked {
		fmt.Fprintf(build, "ln -s /dev/null %s\n", word("units/"+unit))
	}
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
