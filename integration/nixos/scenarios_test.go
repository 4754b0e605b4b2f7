package nixos

import (
	"strings"
)

// scenario is a version that is published to a host, and what is to become of it. The modules are texts of
// the Nix language.
type scenario struct {
	name    string
	slice   bool     // one of the few that `make test` runs
	unknown []string // flavours that do not know what it is about

	before    string // the module of the system that runs before
	prepare   func(*Host)
	change    string // the module of the version
	meanwhile func(h *Host, version, etag string)

	want  string   // the record's status
	or    string   // or that one, as the switch or systemd has it
	says  []string // in the record, each
	after func(*Host)
	fails bool   // a unit may be failed afterwards
	stays string // what else than the version, or the one before, is to run
}

func web(command string) string {
	return `{ systemd.services.web.serviceConfig.ExecStart = "` + command + `"; }`
}

// impatient is a system whose agent gives a version little time.
const impatient = `{ services.npcnix = { verifyTimeoutSecs = 8; switchTimeoutSecs = 10; }; }`

var scenarios = []scenario{
	{name: "a service is changed", slice: true, change: web("/bin/sleep 1000000"), want: "applied",
		after: func(h *Host) {
			h.wants("web", "active")
			h.silent()
		}},
	{name: "nothing but the version", change: "{ }", want: "applied"},
	{name: "systemd re-executes itself", change: `{ test.systemd = "/opt/systemd"; }`, want: "applied",
		prepare: func(h *Host) {
			h.Must("sh", "-c", "mkdir -p /opt/systemd/lib/systemd; ln -sfn /usr/bin /opt/systemd/bin; cp /usr/lib/systemd/systemd /opt/systemd/lib/systemd/")
		}},

	// Units that ran before.
	{name: "a service fails", slice: true, change: web("/bin/false"), want: "rolled_back", says: []string{"web.service"},
		after: func(h *Host) { h.wants("web", "active") }},
	{name: "what a service requires fails", slice: true, want: "rolled_back", says: []string{"web.service"},
		change: `{
			systemd.services.setup.serviceConfig = { Type = "oneshot"; ExecStart = "/bin/false"; };
			systemd.services.web = { requires = [ "setup.service" ]; after = [ "setup.service" ]; };
		}`,
		after: func(h *Host) { h.wants("web", "active") }},
	// Some start it all the same, by way of its target.
	{name: "what a service requires is not there", want: "rolled_back", or: "applied",
		change: `{ systemd.services.web.requires = [ "nosuch.service" ]; }`,
		after:  func(h *Host) { h.wants("web", "active") }},
	{name: "a service's file has an error", want: "rolled_back", says: []string{"web.service"},
		change: web("bin/sleep 3"),
		after:  func(h *Host) { h.wants("web", "active") }},
	{name: "a service never gets ready", before: impatient, want: "rolled_back", says: []string{"web.service"},
		change: `{ systemd.services.web.serviceConfig = { Type = "notify"; Restart = "always"; TimeoutStartSec = 4; }; }`,
		after:  func(h *Host) { h.wants("web", "active") }},
	{name: "a service ends at once, and well", want: "rolled_back", says: []string{"web.service"}, change: web("/bin/true"),
		after: func(h *Host) { h.wants("web", "active") }},
	{name: "a service is removed", want: "applied", before: extra("other", "/bin/sleep inf"), change: "{ }",
		after: func(h *Host) { h.wants("other", "inactive") }},
	{name: "a service is masked", want: "applied", before: extra("other", "/bin/sleep inf"),
		change: `{ systemd.services.other = { enable = false; serviceConfig.ExecStart = "/bin/sleep inf"; }; }`,
		after:  func(h *Host) { h.wants("other", "inactive") }},
	{name: "a service is renamed", want: "applied", before: extra("other", "/bin/sleep inf"), change: extra("another", "/bin/sleep inf"),
		after: func(h *Host) { h.wants("another", "active"); h.wants("other", "inactive") }},
	{name: "a service gets another primary name", want: "applied", before: extra("other", "/bin/sleep inf"),
		change: `{ systemd.services.another = { aliases = [ "other.service" ]; wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "/bin/sleep inf"; }; }`,
		after:  func(h *Host) { h.wants("another", "active") }},
	{name: "a new service fails", want: "applied", says: []string{"other.service"}, change: extra("other", "/bin/false"), fails: true},
	{name: "a service fails as it did before", want: "applied", before: extra("sick", "/bin/false"), fails: true,
		change: extra("sick", "/bin/false again")},
	{name: "a service restarts by itself, cleanly", want: "applied",
		before: `{ systemd.services.beat = { wantedBy = [ "multi-user.target" ]; serviceConfig = { ExecStart = "/bin/sleep 2"; Restart = "always"; RestartSec = 2; }; }; }`,
		change: `{ systemd.services.beat = { wantedBy = [ "multi-user.target" ]; serviceConfig = { ExecStart = "/bin/sleep 2"; Restart = "always"; RestartSec = 2; }; }; test.kernel = "6.1"; }`},
	{name: "a job fails as it did the night before", want: "applied", fails: true,
		before: nightly, change: nightly,
		prepare: func(h *Host) {
			_, _ = h.Run("systemctl", "start", "nightly") // as the night before: it fails
			h.Must("systemctl", "start", "--no-block", "nightly")
			h.Await("the job to run", func() bool { return h.State("nightly") == "activating" })
		}},
	{name: "an instance of a template", slice: true, want: "applied", before: template("/bin/sleep inf"), change: template("/bin/sleep 1000000"),
		prepare: func(h *Host) { h.Must("systemctl", "start", "worker@a") },
		after:   func(h *Host) { h.wants("worker@a", "active") }},
	{name: "an instance of a template fails", want: "rolled_back", says: []string{"worker@a.service"},
		before: template("/bin/sleep inf"), change: template("/bin/false"),
		prepare: func(h *Host) { h.Must("systemctl", "start", "worker@a") },
		after:   func(h *Host) { h.wants("worker@a", "active") }},
	{name: "a network unit cuts the agent off for 20 seconds", want: "applied", before: network("20"), change: network("20.1"),
		after: func(h *Host) { h.wants("network", "active") }},
	{name: "a service behind a socket", want: "applied", before: behindSocket("1"), change: behindSocket("2"),
		prepare: func(h *Host) { h.Must("systemctl", "start", "echo.service") },
		after:   func(h *Host) { h.wants("echo.socket", "active") }},
	{name: "a timer's service", want: "applied", before: timed("/bin/true"), change: timed("/bin/echo"),
		after: func(h *Host) { h.wants("job.timer", "active") }},
	{name: "a user's unit", want: "applied", before: userUnit("1"), change: userUnit("2"),
		prepare: func(h *Host) {
			h.Must("sh", "-c", "id guest || useradd --uid 1000 --create-home guest; mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/guest; systemctl restart systemd-logind")
			h.Await("the user's manager", func() bool { return strings.HasPrefix(h.State("user@1000"), "active") })
		}},

	{name: "a mount is removed while it is busy", want: "applied", says: []string{"busy and stay: srv-data.mount"}, fails: true,
		before: `{ test.units."srv-data.mount" = { text = "[Mount]\nWhat=tmpfs\nWhere=/srv/data\nType=tmpfs\n"; wantedBy = [ "multi-user.target" ]; }; }`,
		change: "{ }",
		prepare: func(h *Host) {
			h.Must("systemd-run", "--quiet", "--unit=holder", "sh", "-c", "cd /srv/data && exec sleep inf")
			h.Await("the mount to be busy", func() bool {
				pid := strings.TrimSpace(h.Unit("holder", "MainPID"))
				cwd, _ := h.Run("readlink", "/proc/"+pid+"/cwd")
				return strings.TrimSpace(cwd) == "/srv/data"
			})
		},
		after: func(h *Host) { h.Must("sh", "-c", "systemctl stop holder; umount /srv/data; systemctl reset-failed") }},

	// The switch itself.
	{name: "a part of the activation fails", slice: true, want: "rolled_back", says: []string{"snippet 'test' failed"},
		change: `{ test.activation = "(exit 7)"; }`},
	{name: "the switch ends with 1", unknown: []string{Perl2022}, want: "rolled_back", says: []string{"exit status 1", "no such luck"},
		change: `{ test.before = "if [ $1 = test ]; then echo no such luck; exit 1; fi"; }`},
	{name: "the switch ends with 3 after all", unknown: []string{Perl2022}, want: "rolled_back", says: []string{"exit status 3", "bad luck"},
		change: `{ test.after = "if [ $1 = test ]; then echo bad luck; exit 3; fi"; }`},
	{name: "the activation hangs", before: impatient, want: "rolled_back", says: []string{"hung"},
		change: `{ test.activation = "echo going nowhere; sleep 1000000"; }`},
	{name: "a sysinit reactivation hangs", before: impatient, unknown: []string{Perl2022}, want: "rolled_back", says: []string{"hung"},
		change: `{ systemd.services.slow = { wantedBy = [ "sysinit-reactivation.target" ]; before = [ "sysinit-reactivation.target" ]; serviceConfig = { Type = "oneshot"; ExecStart = "/bin/sleep inf"; TimeoutStartSec = "infinity"; }; }; }`},
	{name: "/etc is broken half way", want: "rolled_back",
		change: `{ test.activation = "rm -f /etc/static /etc/systemd/system; (exit 9)"; }`},
	{name: "another process switches for a while", unknown: []string{Perl2022}, want: "applied", change: web("/bin/sleep 1000001"),
		prepare: func(h *Host) {
			h.Must("mkdir", "-p", "/run/nixos")
			h.Must("systemd-run", "--quiet", "--unit=holder", "flock", "/run/nixos/switch-to-configuration.lock", "sleep", "6")
		}},
	{name: "an operator switches meanwhile", want: "rolled_back", stays: "theirs", says: []string{"operator"},
		change: `{ services.npcnix.checks = [ { name = "go"; command = [ "/bin/test" "-e" "/run/go" ]; } ]; systemd.services.web.serviceConfig.ExecStart = "/bin/sleep 1000002"; }`,
		meanwhile: func(h *Host, _, _ string) {
			h.Await("the verification", func() bool { return h.Phase() == "verifying" })
			theirs := h.Build("theirs", web("/bin/sleep 1000003"))
			h.Must(theirs+"/bin/switch-to-configuration", "test")
			h.Must("touch", "/run/go")
		},
		after: func(h *Host) { h.Must("rm", "/run/go") }},

	// What boots.
	{name: "the boot loader fails", slice: true, want: "rolled_back", says: []string{"disk is full"},
		change: `{ test.bootloader = "echo disk is full; exit 1"; }`},
	{name: "the boot loader has no room for a while", slice: true, want: "applied",
		change:  `{ test.bootloader = "if test -e /run/full; then echo \"cp: error writing '/boot/kernel': No space left on device\"; exit 1; fi"; }`,
		prepare: func(h *Host) { h.Must("touch", "/run/full") },
		meanwhile: func(h *Host, version, etag string) {
			var r Record
			h.Await("an attempt at "+version+" to fail", func() bool { r = h.Record(etag); return r.Error != "" })
			if r.Status != "failed" && r.Status != "building" || !strings.Contains(r.Error, "make room") || !strings.Contains(r.Error, "/boot/kernel': No space left") {
				h.t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.Must("rm", "/run/full")
		}},
	// The system before cannot write its boot loader either, so that its rollback fails until there is room.
	{name: "the boot partition is full for a while", want: "applied", change: `{ test.kernel = "6.2"; }`,
		prepare: func(h *Host) {
			h.Must("sh", "-ec", `cp -a /boot /root/boot; size=$(du -sk /boot | cut -f 1); mount -t tmpfs -o size=$((size + 64))k tmpfs /boot; cp -a /root/boot/. /boot`)
		},
		meanwhile: func(h *Host, version, etag string) {
			var r Record
			h.Await("an attempt at "+version+" to fail", func() bool { r = h.Record(etag); return r.Error != "" })
			if !strings.Contains(r.Error, "No space left on device") || !strings.Contains(r.Error, "make room") {
				h.t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.Must("mount", "-o", "remount,size=64m", "/boot")
			h.Await("another attempt at "+version, func() bool { return h.Record(etag).Status == "applied" })
		},
		after: func(h *Host) { h.Must("sh", "-ec", "cp -a /boot/. /root/boot; umount /boot; cp -a /root/boot/. /boot") }},
	{name: "switching is inhibited", want: "applied",
		before: `{ system.switch.inhibitors.dbus = "dbus"; }`, change: `{ system.switch.inhibitors.dbus = "broker"; }`, meanwhile: reboots},
	{name: "switching is inhibited, and a part of the activation fails at the boot", slice: true, want: "applied",
		says:   []string{"failed in part: Activation script snippet 'test' failed (7)"},
		before: `{ system.switch.inhibitors.dbus = "dbus"; }`,
		change: `{ system.switch.inhibitors.dbus = "broker"; test.activation = "(exit 7)"; }`, meanwhile: reboots,
		after: (*Host).tellsOfItsBoot},
	{name: "switching is inhibited, and a service fails after the reboot", want: "rolled_back", says: []string{"web.service"},
		before:    `{ system.switch.inhibitors.dbus = "dbus"; }`,
		change:    `{ system.switch.inhibitors.dbus = "broker"; systemd.services.web.serviceConfig.ExecStart = "/bin/false"; }`,
		meanwhile: reboots, after: func(h *Host) { h.wants("web", "active") }},
	{name: "another init", want: "applied", change: `{ test.init = "systemd 3"; }`, meanwhile: reboots},
	{name: "a boot loader lies, and the old system boots", want: "rolled_back",
		before: `{ system.switch.inhibitors.dbus = "dbus"; }`, change: `{ system.switch.inhibitors.dbus = "broker"; test.bootloader = "exit 0"; }`, meanwhile: reboots},

	// The agent.
	{name: "the agent is replaced", slice: true, want: "applied",
		change: `{ services.npcnix.package = pkgs.callPackage ./npcnix/package.nix { version = "another"; }; }`},
	{name: "the agent's environment is another", want: "applied", before: environment("1"), change: environment("2"),
		after: func(h *Host) {
			if env := h.Must("cat", "/proc/"+strings.TrimSpace(h.Unit("npcnix", "MainPID"))+"/environ"); !strings.Contains(env, "A=2") {
				h.t.Errorf("the agent has the environment %q", env)
			}
		}},
	{name: "the agent is removed", before: impatient, want: "rolled_back", change: `{ services.npcnix.enable = false; }`},
	{name: "the agent cannot run", before: impatient, want: "rolled_back", change: `{ services.npcnix.package = pkgs.coreutils; }`},
}

// reboots waits until the version is the boot default, and loses power.
func reboots(h *Host, version, etag string) {
	h.t.Helper()
	h.Await("a pending reboot into "+version, func() bool { return h.Record(etag).Status == "reboot_pending" })
	h.Kill()
	h.Boot()
}

// tellsOfItsBoot checks that status has what was logged of the boot's activation, wherever NixOS logs it, and that it
// counts until a version is activated.
func (h *Host) tellsOfItsBoot() {
	h.t.Helper()
	status := func() string { return h.Must("/opt/npcnix", "status") }
	h.Must("logger", "--tag", "stage-2-init", "Activation script snippet 'kernel log' failed (1)")
	h.Must("systemd-run", "--quiet", "--wait", "--unit=initrd-nixos-activation", "echo", "Activation script snippet 'initrd' failed (2)")
	h.Must("logger", "Activation script snippet 'of another' failed (1)")
	h.Must("journalctl", "--sync")
	for _, part := range []string{"'test' failed (7)", "'kernel log' failed (1)", "'initrd' failed (2)"} {
		if said := status(); !strings.Contains(said, part) || strings.Contains(said, "of another") {
			h.t.Errorf("status lacks %s, or has too much:\n%s", part, said)
		}
	}
	version, etag := h.Publish("whole again", `{ system.switch.inhibitors.dbus = "broker"; }`)
	if r := h.Final(etag); r.Status != "applied" || r.Warning != "" {
		h.t.Errorf("%s is %s: %s", version, r.Status, r.Text())
	}
	h.Applied, h.current = version, "?"
	if said := status(); strings.Contains(said, "warning") {
		h.t.Errorf("status warns of the boot still:\n%s", said)
	}
	h.Must("systemctl", "reset-failed")
}

func extra(name, command string) string {
	return `{ systemd.services.` + name + ` = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "` + command + `"; }; }`
}

const nightly = `{
	systemd.services.nightly.serviceConfig = { Type = "oneshot"; ExecStart = "/bin/sh -c 'sleep 4; exit 1'"; };
}`

func template(command string) string {
	return `{ test.units."worker@.service".text = "[Service]\nExecStart=` + command + `\n"; }`
}

// network is a unit whose restart takes the store away from the agent for a while, as that of a network does.
func network(seconds string) string {
	return `{
		systemd.services.network = {
			wantedBy = [ "multi-user.target" ];
			serviceConfig = {
				ExecStart = "/bin/sh -c 'mv /var/lib/remote /var/lib/away; sleep ` + seconds + `; mv /var/lib/away /var/lib/remote; exec sleep inf'";
				ExecStopPost = "/bin/sh -c 'test ! -e /var/lib/away || mv /var/lib/away /var/lib/remote'";
			};
		};
	}`
}

func behindSocket(n string) string {
	return `{
		test.units."echo.socket" = { text = "[Socket]\nListenStream=/run/echo\n"; wantedBy = [ "sockets.target" ]; };
		systemd.services.echo.serviceConfig.ExecStart = "/bin/sleep 100000` + n + `";
	}`
}

// environment is a system whose activation writes what the agent's environment comes from.
func environment(n string) string {
	return `{ services.npcnix.environmentFile = "/var/lib/agent-environment"; test.activation = "echo A=` + n + ` >/var/lib/agent-environment"; }`
}

func timed(command string) string {
	return `{
		test.units."job.timer" = { text = "[Timer]\nOnCalendar=daily\n"; wantedBy = [ "timers.target" ]; };
		systemd.services.job.serviceConfig = { Type = "oneshot"; ExecStart = "` + command + `"; };
	}`
}

func userUnit(n string) string {
	return `{
		test.userUnits."nixos-activation.service".text = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
		test.userUnits."mine.service" = { text = "[Service]\nExecStart=/bin/sleep 100000` + n + `\n"; wantedBy = [ "default.target" ]; };
	}`
}

// silent checks that npcnix has said nothing so far that a person needs to look at.
func (h *Host) silent() {
	h.t.Helper()
	said := h.Must("journalctl", "--no-pager", "--quiet", "--boot", "--priority=warning", "--unit=npcnix*")
	for line := range strings.Lines(said) {
		if !strings.Contains(line, "Unknown key") { // of settings that systemd 252 does not know
			h.t.Errorf("a healthy activation logs %s", line)
		}
	}
}

// wants checks a unit's ActiveState.
func (h *Host) wants(unit, state string) {
	h.t.Helper()
	if got := h.State(unit); got != state {
		h.t.Errorf("%s is %s, want %s", unit, got, state)
	}
}
