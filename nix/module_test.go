package nix_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix/nixtest"
)

var update = flag.Bool("update", false, "write docs/options.md and the vendorHash of package.nix again")

// everything sets each option that is a setting.
const everything = `
	remote = "s3://my-fleet/npcnix/remotes/dev.npcnix";
	remoteRegion = "eu-central-1";
	remoteCredentialsFile = "/run/secrets/npcnix-remote";
	configuration = "web1";
	queueUrl = "https://sqs.eu-central-1.amazonaws.com/111122223333/npcnix-dev-web1";
	topicArn = "arn:aws:sns:eu-central-1:111122223333:npcnix-dev";
	host = "web1.example";
	pollIntervalSecs = 601;
	leaseSecs = 121;
	minSleepSecs = 6;
	maxSleepSecs = 119;
	maxSleepAfterHours = 23;
	retryDelaysSecs = [ 0 31 ];
	correctDrift = true;
	buildTimeoutSecs = 0;
	switchTimeoutSecs = 901;
	verifyTimeoutSecs = 301;
	settleSecs = 0;
	exemptUnits = [ "backup.service" "mount-*.service" ];
	checks = [
		{ name = "command"; command = [ "/bin/true" "a b" ]; timeoutSecs = 11; }
		{ name = "http"; http = "http://127.0.0.1:8080/health"; }
		{ name = "tcp"; tcp = "[::1]:5432"; }
	];
	reboot = "when-needed";
	rebootWindow = "23:30-05:00";
	hooks = { preActivate = [ "/bin/pre" ]; postActivate = [ "/bin/post" "x" ]; onFailure = [ "/bin/failure" ]; };
	hookTimeoutSecs = 299;
	healthIntervalSecs = 61;
	keepGenerations = 7;
	recordRefreshSecs = 3601;
	signers = [ "release@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f" ];
	signersRequired = 1;
	rolloutSigners = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f" ];
	evaluation = "never";
	metricsTextfile = "/var/lib/npcnix-metrics/npcnix.prom";
`

const everythingJSON = `{
	"remote": "s3://my-fleet/npcnix/remotes/dev.npcnix",
	"remote_region": "eu-central-1",
	"remote_credentials_file": "/run/secrets/npcnix-remote",
	"configuration": "web1",
	"queue_url": "https://sqs.eu-central-1.amazonaws.com/111122223333/npcnix-dev-web1",
	"topic_arn": "arn:aws:sns:eu-central-1:111122223333:npcnix-dev",
	"host": "web1.example",
	"poll_interval_secs": 601,
	"lease_secs": 121,
	"min_sleep_secs": 6,
	"max_sleep_secs": 119,
	"max_sleep_after_hours": 23,
	"retry_delays_secs": [0, 31],
	"correct_drift": true,
	"build_timeout_secs": 0,
	"switch_timeout_secs": 901,
	"verify_timeout_secs": 301,
	"settle_secs": 0,
	"exempt_units": ["backup.service", "mount-*.service"],
	"checks": [
		{"name": "command", "command": ["/bin/true", "a b"], "timeout_secs": 11},
		{"name": "http", "http": "http://127.0.0.1:8080/health", "timeout_secs": 10},
		{"name": "tcp", "tcp": "[::1]:5432", "timeout_secs": 10}
	],
	"reboot": "when-needed",
	"reboot_window": "23:30-05:00",
	"hooks": {"pre_activate": ["/bin/pre"], "post_activate": ["/bin/post", "x"], "on_failure": ["/bin/failure"]},
	"hook_timeout_secs": 299,
	"health_interval_secs": 61,
	"keep_generations": 7,
	"record_refresh_secs": 3601,
	"signers": ["release@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"],
	"signers_required": 1,
	"rollout_signers": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"],
	"evaluation": "never",
	"metrics_textfile": "/var/lib/npcnix-metrics/npcnix.prom"
}`

// nixos is a NixOS system of this module and another, as the stand-in for nixpkgs makes it.
const nixos = `
let nixpkgs = (import %s/flake.nix).outputs { self = { }; }; inherit (nixpkgs) lib; in
nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [ ./module.nix { %s } ]; }`

// nixpkgsVariable names the environment variable that has the folder of the nixpkgs in use.
const nixpkgsVariable = "NPCNIX_TEST_NIXPKGS"

// nixpkgs returns the folder of the stand-in for nixpkgs, which has a library of its own unless
// eachLibrary says otherwise.
func nixpkgs(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(nixpkgsVariable)
	if dir == "" {
		dir = filepath.Join("testdata", "nixpkgs")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// eachLibrary runs a test with the stand-in for nixpkgs' library, and with the real one of
// NPCNIX_NIXOS_PARTS, by default ../shared/nixos beside the repository.
func eachLibrary(t *testing.T, test func(*testing.T)) {
	t.Run("stand-in", test)
	t.Run("library", func(t *testing.T) {
		withLibrary(t)
		test(t)
	})
}

// eachNixAndLibrary runs a test with each nix that there is, and with both libraries.
func eachNixAndLibrary(t *testing.T, test func(*testing.T)) {
	nixtest.Each(t, func(t *testing.T) { eachLibrary(t, test) })
}

// withLibrary has a test use the real library; without one it is skipped.
func withLibrary(t *testing.T) {
	t.Helper()
	parts := os.Getenv("NPCNIX_NIXOS_PARTS")
	if parts == "" {
		parts = filepath.Join("..", "..", "shared", "nixos")
	}
	if _, err := os.Stat(filepath.Join(parts, "lib", "default.nix")); err != nil {
		nixtest.Skip(t, "no parts of NixOS: set NPCNIX_NIXOS_PARTS, or run integration/nixos-parts.sh")
	}
	dir := filepath.Join(t.TempDir(), "nixpkgs")
	lib := filepath.Join(dir, "lib")
	err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "nixpkgs")))
	if err == nil {
		err = os.RemoveAll(lib)
	}
	if err == nil {
		err = os.CopyFS(lib, os.DirFS(filepath.Join(parts, "lib")))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(nixpkgsVariable, dir)
}

// evaluated returns, as JSON, what an expression makes of s, a system of this module and another.
// Where an assertion does not hold the system cannot be built, which is an error.
func evaluated(t *testing.T, module, expr string) (string, error) {
	t.Helper()
	system := fmt.Sprintf(nixos, nixpkgs(t), module)
	return nixEval(t, "--json", "--expr", "let s = "+system+"; in builtins.seq s.config.system.build.toplevel.drvPath ("+expr+")")
}

// nixEval returns what nix eval prints; an error has what it says.
func nixEval(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("nix", append([]string{"--extra-experimental-features", "nix-command flakes", "eval", "--impure"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("nix eval: %w\n%s", err, &stderr)
	}
	return string(out), nil
}

func mustEvaluate(t *testing.T, into any, module, expr string) {
	t.Helper()
	out, err := evaluated(t, module, expr)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

const settingsText = `s.config.environment.etc."npcnix/settings.json".text`

func TestSettingsOfTheModuleReachTheAgentsFile(t *testing.T) {
	eachNixAndLibrary(t, func(t *testing.T) {
		for name, c := range map[string]struct{ module, want string }{
			"none":       {"", "{}"},
			"all":        {everything, everythingJSON},
			"one hook":   {`hooks.onFailure = [ "x" ];`, `{"hooks": {"on_failure": ["x"]}}`},
			"no retries": {`retryDelaysSecs = [ ];`, `{"retry_delays_secs": []}`},
			"old names":  {`activationTimeoutSecs = 902; confirmTimeoutSecs = 302;`, `{"switch_timeout_secs": 902, "verify_timeout_secs": 302}`}, // old form
		} {
			var text string
			mustEvaluate(t, &text, "services.npcnix = { enable = true; "+c.module+" };", settingsText)
			var got, want map[string]any
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: settings.json is %v; want %v", name, got, want)
			}
		}
	})
}

// What the agent itself writes, or an operator for a while, is no matter of the module.
var notOptions = []string{"last_reconfiguration", "last_etag", "last_configuration", "paused", "retry_token"}

func TestOptionsOfTheModuleAreTheSettingsOfTheAgent(t *testing.T) {
	var options map[string]any
	if err := json.Unmarshal([]byte(everythingJSON), &options); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(everythingJSON), new(config.Config)); err != nil {
		t.Errorf("the agent refuses the settings: %v", err)
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		member, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, is := options[member]; member != "" && !is && !slices.Contains(notOptions, member) {
			t.Errorf("%s of config.json has no option", member)
		}
		delete(options, member)
	}
	if len(options) > 0 {
		nixtest.Skip(t, fmt.Sprintf("this agent does not read %q", slices.Sorted(maps.Keys(options))))
	}
	type plain config.Config // without the methods that let unknown members pass
	strict := json.NewDecoder(strings.NewReader(everythingJSON))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(plain)); err != nil {
		t.Errorf("the agent does not read all of the settings: %v", err)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	nixtest.Installed(t)
	eachLibrary(t, refuses)
}

// says reports whether a text has the parts of another, which ellipses divide, one after the other:
// nixpkgs' library names the place of a value more exactly than the stand-in does.
func says(text, parts string) bool {
	for part := range strings.SplitSeq(parts, "…") {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return true
}

func refuses(t *testing.T) {
	for module, want := range map[string]string{
		// Types.
		`enable = "yes";`:                               "not of type `boolean'",
		`package = "npcnix";`:                           "not of type `package'",
		`remote = "my-fleet/dev.npcnix";`:               "services.npcnix.remote' is not of type",
		`queueUrl = "npcnix-web1";`:                     "services.npcnix.queueUrl' is not of type",
		`configuration = "a\"b";`:                       "services.npcnix.configuration' is not of type",
		`host = "a/b";`:                                 "services.npcnix.host' is not of type",
		`pollIntervalSecs = "600";`:                     "services.npcnix.pollIntervalSecs' is not of type",
		`leaseSecs = 43201;`:                            "services.npcnix.leaseSecs' is not of type",
		`pollIntervalSecs = 0;`:                         "services.npcnix.pollIntervalSecs' is not of type",
		`verifyTimeoutSecs = 0;`:                        "services.npcnix.verifyTimeoutSecs' is not of type",
		`switchTimeoutSecs = -1;`:                       "services.npcnix.switchTimeoutSecs' is not of type",
		`keepGenerations = -1;`:                         "services.npcnix.keepGenerations' is not of type",
		`retryDelaysSecs = [ 30 "2min" ];`:              "services.npcnix.retryDelaysSecs…' is not of type",
		`exemptUnits = "a.service";`:                    "services.npcnix.exemptUnits' is not of type",
		`correctDrift = 1;`:                             "services.npcnix.correctDrift' is not of type",
		`reboot = "always";`:                            "services.npcnix.reboot' is not of type",
		`reboot = "when-needed"; rebootWindow = "3-5";`: "services.npcnix.rebootWindow' is not of type",
		`hooks.preActivate = "reload";`:                 "services.npcnix.hooks.preActivate' is not of type",
		`hooks.preActivate = [ ];`:                      "services.npcnix.hooks.preActivate' is not of type",
		`hooks.preactivate = [ "x" ];`:                  "services.npcnix.hooks.preactivate' does not exist",
		`checks = [ { name = "a"; tcp = "x"; } ];`:      "services.npcnix.checks…tcp' is not of type",
		`checks = [ { tcp = "x:1"; } ];`:                "services.npcnix.checks…name' was accessed but has no value",
		`logLevel = "loud";`:                            "services.npcnix.logLevel' is not of type",
		`environmentFile = "npcnix.env";`:               "services.npcnix.environmentFile' is not of type",
		`openFiles = 3;`:                                "services.npcnix.openFiles' does not exist",

		// Contradictions.
		`minSleepSecs = 10; maxSleepSecs = 9;`:                                    "minSleepSecs (10) is more than maxSleepSecs (9)",
		`minSleepSecs = 121;`:                                                     "minSleepSecs (121) is more than maxSleepSecs (120)",
		`settleSecs = 300;`:                                                       "settleSecs (300) must be less than verifyTimeoutSecs (300)",
		`rebootWindow = "03:00-05:00";`:                                           "the host never reboots",
		`reboot = "when-needed"; rebootWindow = "03:00-03:00";`:                   "it begins and ends at the same time",
		`queueUrl = "https://q/1/a"; remote = "https://h/p";`:                     "https://h/p is not in S3",
		`queueUrl = "auto"; remote = "s3://b/p";`:                                 "no topicArn says which topic",
		`queueUrl = "https://q/1/a"; remote = "file:///p";`:                       "file:///p is not in S3",
		`checks = [ { name = "a"; } ];`:                                           `the check "a" must have exactly one of`,
		`checks = [ { name = "a"; tcp = "x:1"; http = "http://x"; } ];`:           `the check "a" must have exactly one of`,
		`checks = [ { name = "a"; tcp = "x:1"; } { name = "a"; tcp = "x:2"; } ];`: "two checks have the same name",
		`checks = [ { name = "a"; tcp = "x:1"; timeoutSecs = 300; } ];`:           `the check "a" can take 300 seconds`,
		`awsCredentialsFile = "${builtins.storeDir}/x";`:                          "awsCredentialsFile is in the Nix store",
		`environmentFile = "${builtins.storeDir}/x";`:                             "environmentFile is in the Nix store",
	} {
		if _, err := evaluated(t, "services.npcnix = lib.mkMerge [ { enable = lib.mkDefault true; } { "+module+" } ];", "null"); err == nil {
			t.Errorf("%s: accepted", module)
		} else if !says(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q in it", module, err, want)
		}
	}
}

func TestWhatIsLikelyAMistakeIsWarnedOf(t *testing.T) {
	eachNixAndLibrary(t, func(t *testing.T) {
		for module, want := range map[string]string{
			`services.npcnix.enable = true;`:                                                      "",
			`services.npcnix = { enable = true; ` + everything + ` };`:                            "",
			`services.npcnix = { enable = true; remote = "https://a:b@h/p"; };`:                   "NPCNIX_REMOTE",
			`services.npcnix = { enable = true; remote = "file:///p"; remoteRegion = "x-y-1"; };`: "not in S3",
			`services.npcnix.enable = true; system.autoUpgrade.enable = true;`:                    "both switch this host",
			`npcnix.enable = true;`: "`npcnix.enable'…has been renamed to `services.npcnix.enable'",
		} {
			var warnings []string
			mustEvaluate(t, &warnings, module, "s.config.warnings")
			if got := strings.Join(warnings, "\n"); !says(got, want) || (want == "") != (got == "") {
				t.Errorf("%s: warnings %q; want %q", module, got, want)
			}
		}
	})
}

func TestTheRustModulesOptionsHaveNewNames(t *testing.T) {
	eachNixAndLibrary(t, func(t *testing.T) {
		const seen = `[ s.config.services.npcnix.enable s.config.services.npcnix.package.name (s.units ? npcnix) (s.config.environment.etc != { }) ]`
		for module, want := range map[string][]any{
			``:                      {false, "npcnix-devel", false, false},
			`npcnix.enable = true;`: {true, "npcnix-devel", true, true},
			`npcnix = { enable = true; package = nixpkgs.legacyPackages.x86_64-linux.xz; };`: {true, "xz", true, true},
		} {
			var got []any
			mustEvaluate(t, &got, module, seen)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v; want %v", module, got, want)
			}
		}
	})
}

func TestUnitsAreWhatSystemdUnderstands(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		nixtest.Skip(t, "systemd-analyze is not on PATH: apt-get install systemd")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// systemd knows these from 254 on, and ignores them before.
	newer := regexp.MustCompile(`Unknown key.* '(RestartSteps|RestartMaxDelaySec)' .*ignoring`)
	for name, module := range map[string]string{
		"defaults": ``,
		"all": everything + `
			extraSubstituters = [ "s3://cache?endpoint=http%3A//x&region=y" ];
			extraTrustedPublicKeys = [ "k-1:AAA=" "k-2:BBB=" ];
			nixOptions = { experimental-features = "fetch-closure ca-derivations"; b = "$HOME \"x\""; };
			logFormat = "json";
			awsCredentialsFile = "/var/lib/secrets/aws";
			environmentFile = "/var/lib/secrets/npcnix.env";
			extraEnvironment = { AWS_REGION = "eu-central-1"; };`,
	} {
		t.Run(name, func(t *testing.T) {
			nixtest.Installed(t)
			var units map[string]string
			mustEvaluate(t, &units, "services.npcnix = { enable = true; "+module+" };", "s.units")
			if names := slices.Sorted(maps.Keys(units)); !slices.Equal(names, []string{"npcnix", "npcnix-rearm"}) {
				t.Fatalf("units %v", names)
			}
			dir := t.TempDir()
			args := []string{"verify", "--man=no"}
			for name, text := range units {
				// The package is not built here; any program will do.
				text = regexp.MustCompile(`"[^"]*/bin/npcnix"`).ReplaceAllLiteralString(text, strconv.Quote(self))
				file := filepath.Join(dir, name+".service")
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				args = append(args, file)
			}
			out, err := exec.Command(analyze, args...).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if !newer.MatchString(line) {
					t.Errorf("systemd-analyze: %s", line)
				}
			}
			if err != nil {
				t.Errorf("systemd-analyze: %v", err)
			}
		})
	}
}

func TestAgentUnitSurvivesASwitch(t *testing.T) {
	nixtest.Installed(t)
	var units map[string]string
	mustEvaluate(t, &units, `
		nix.envVars.NIX_SSL_CERT_FILE = "/etc/ssl/ca.crt";
		networking.proxy.envVars.https_proxy = "http://proxy:3128";
		services.npcnix = {
			enable = true;
			extraSubstituters = [ "s3://cache?a=%3A" ];
			nixOptions.max-jobs = "2 $x";
			awsCredentialsFile = "/var/lib/secrets/aws";
			environmentFile = "/var/lib/secrets/npcnix.env";
			extraEnvironment.HOME = "/var/empty";
		};`, "s.units")
	for _, line := range []string{
		"X-RestartIfChanged=false", "X-StopIfChanged=false", "Type=notify", "Restart=always", "StartLimitIntervalSec=0",
		"WatchdogSec=2min", "OOMPolicy=continue", "After=network-online.target", "WantedBy=multi-user.target",
		`Environment="NIX_SSL_CERT_FILE=/etc/ssl/ca.crt"`, `Environment="https_proxy=http://proxy:3128"`, `Environment="HOME=/var/empty"`,
		`Environment="AWS_SHARED_CREDENTIALS_FILE=%d/aws"`, "LoadCredential=aws:/var/lib/secrets/aws", "EnvironmentFile=/var/lib/secrets/npcnix.env",
	} {
		if !strings.Contains(units["npcnix"], "\n"+line+"\n") {
			t.Errorf("npcnix.service does not say %s:\n%s", line, units["npcnix"])
		}
	}
	for _, line := range []string{
		"Type=oneshot", "RemainAfterExit=true", "X-RestartIfChanged=false", "Before=npcnix.service", "WantedBy=multi-user.target",
	} {
		if !strings.Contains(units["npcnix-rearm"], "\n"+line+"\n") {
			t.Errorf("npcnix-rearm.service does not say %s:\n%s", line, units["npcnix-rearm"])
		}
	}
	for name, command := range map[string]string{
		"npcnix":       `/bin/npcnix" "follow" "--log-level" "info" "--log-format" "text" "--extra-substituters" "s3://cache?a=%%3A" "--option" "max-jobs" "2 $$x"`,
		"npcnix-rearm": `/bin/npcnix" "activation" "rearm" "--log-level" "info" "--log-format" "text"`,
	} {
		if !strings.Contains(units[name], command+"\n") {
			t.Errorf("%s.service does not run %s:\n%s", name, command, units[name])
		}
	}
	for _, tool := range []string{"nix", "systemd", "gitMinimal", "openssh"} {
		if !strings.Contains(units["npcnix"], "-"+tool+"/bin") {
			t.Errorf("npcnix.service has no %s on its PATH", tool)
		}
	}
}

func TestOptionsAreDocumentedAsTheyAre(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		withLibrary(t) // in whose words the types are
		want, err := nixEval(t, "--raw", "--expr",
			"import ./testdata/options-md.nix { nixpkgs = (import "+nixpkgs(t)+"/flake.nix).outputs { self = { }; }; }")
		if err != nil {
			t.Fatal(err)
		}
		for _, option := range []string{"### services.npcnix.enable\n", "### services.npcnix.checks.*.timeoutSecs\n"} {
			if !strings.Contains(want, option) {
				t.Errorf("the generated reference has no %q", option)
			}
		}
		file := filepath.Join("..", "docs", "options.md")
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("docs/options.md is not what the options say (%v): go test ./nix -run Options -update", err)
		}
	})
}
