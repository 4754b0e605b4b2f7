package nixos

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "embed"

	"github.com/npcnix/npcnix/integration/machine"
)

var (
	//go:embed frame.nix
	frameNix string
	//go:embed stage-2.sh
	stage2 string
	//go:embed bootctl.sh
	bootctl string
)

const (
	configuration = "web"
	remoteFile    = "/var/lib/remote/dev.npcnix"
	remote        = "file://" + remoteFile
	recordFile    = remoteFile + ".acks/" + configuration + ".json"
	cache         = "/var/lib/remote/cache"
	builder       = "/var/lib/remote/builder" // what builds for the cache has there what others have in /nix
	dataDir       = "/var/lib/npcnix"
)

// Options describe a host.
type Options struct {
	Suite   string // of package machine
	Flavour string // of switch-to-configuration, of all of its systems
	Agent   string // the agent's binary
	// Module is the NixOS module under test: texts by the names of files in the flake, of which
	// npcnix/module.nix is one. See [Module].
	Module map[string]string
	Base   string // the text of a NixOS module that all of its systems have
	Disk   bool   // it has a disk of its own, which can lose power
	Signed bool   // it takes only what is signed
	// Prebuilt: what is published is signed and built elsewhere, and the host evaluates nothing.
	Prebuilt bool
	// Binds and Files are as those of package machine.
	Binds, Files map[string]string
}

// Host is a NixOS host, with an agent that follows a file.
type Host struct {
	*machine.Machine
	t       testing.TB
	options Options
	parts   string
	flakes  string   // on this machine; /srv/flakes in the other
	signer  string   // whom it trusts; "" if it takes everything
	signs   []string // keys that releases are signed with: names of newKey
	n       int      // of flakes
	trusted string   // its trust.json before the last publish
	Applied string   // the version that was applied last
	current string   // and its module
}

// base is what each system of a host has.
const base = `{ lib, ... }: {
  networking.hostName = "web";
  services.npcnix = {
    enable = lib.mkDefault true;
    remote = "` + remote + `";
    configuration = "` + configuration + `";
    host = "` + configuration + `";
    minSleepSecs = 1;
    maxSleepSecs = 2;
    retryDelaysSecs = [ 1 1 1 ];
    verifyTimeoutSecs = lib.mkDefault 60;
    settleSecs = lib.mkDefault 1;
    logLevel = "debug";
    nixOptions = { substituters = ""; };
  };
  systemd.services.web = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.ExecStart = lib.mkDefault "/bin/sleep inf";
  };
}
`

// New boots a host whose system has the version "zero", and whose agent has applied that.
func New(t testing.TB, o Options) *Host {
	t.Helper()
	h := boot(t, o, nil)
	etag := h.push("zero", "{ }")
	h.install("zero", "{ }")
	h.Boot()
	if got := h.Final(etag); got.Status != "applied" {
		h.t.Fatalf("the first version is %s: %s", got.Status, got.Error)
	}
	h.Applied, h.current = "zero", "{ }"
	return h
}

// NewBare boots a host without an agent, as an image of EC2 is: at the end of its boot it runs its user data, a
// script, as amazon-init does. It returns the ETag of the version "one", which has the agent, and does not wait
// for anything.
func NewBare(t testing.TB, o Options, userData string) (h *Host, etag string) {
	t.Helper()
	h = boot(t, o, map[string]string{"/srv/user-data.sh": userData})
	etag = h.push("one", "{ imports = [ ./parts/amazon-init.nix ]; }")
	h.install("bare", "{ imports = [ ./parts/amazon-init.nix ]; services.npcnix.enable = false; }")
	h.Start()
	return h, etag
}

// boot boots the Debian that a host is installed on.
func boot(t testing.TB, o Options, files map[string]string) *Host {
	t.Helper()
	parts := machine.Parts(t)
	h := &Host{t: t, options: o, parts: parts, flakes: t.TempDir()}
	if o.Signed {
		h.signer, h.signs = h.newKey("key"), []string{"key"}
	}
	binds := map[string]string{"/opt/npcnix": o.Agent, "/srv/flakes": h.flakes}
	if built, inside := program(t, parts, o.Flavour); built != "" {
		binds[inside] = built
	}
	all := map[string]string{"/usr/lib/npcnix/stage2": stage2, "/opt/bootctl": bootctl}
	maps.Copy(all, files)
	maps.Copy(all, o.Files)
	maps.Copy(binds, o.Binds)
	var shares map[string]string
	if o.Disk { // a store does not lose what it has taken when a host loses its power
		shares = map[string]string{filepath.Dir(remoteFile): t.TempDir()}
	}
	h.Machine = machine.Boot(t, machine.Options{Suite: o.Suite, Binds: binds, Shares: shares, Files: all, Disk: o.Disk})
	h.Must("mkdir", "-p", filepath.Dir(remoteFile), "/boot/loader")
	if o.Prebuilt {
		h.Must("nix-store", "--generate-binary-cache-key", "cache-1", "/var/lib/remote/cache-key", "/var/lib/remote/cache-key.pub")
	}
	return h
}

// install does what nixos-install does, and switches the machine off.
func (h *Host) install(version, module string) {
	h.t.Helper()
	toplevel := h.Build("first-"+version, "{ imports = [ ("+module+") ]; test.version = lib.mkForce \""+version+"\"; }")
	h.Must("nix-env", "--profile", machine.Profile, "--set", toplevel)
	h.Must("rm", "-rf", "/etc/systemd/system", "/etc/systemd/user")
	h.Must(toplevel + "/activate")
	h.Must(toplevel+"/bin/switch-to-configuration", "boot")
	h.Must("sync")
	h.Kill()
}

// use has another test, of the same machine, be told of failures.
func (h *Host) use(t testing.TB) {
	h.t = t
	h.Machine.Use(t)
}

// Build builds the system that a module makes, in the machine, and returns its toplevel.
func (h *Host) Build(version, change string) string {
	h.t.Helper()
	if err := h.flake(filepath.Join(h.flakes, version), version, change); err != nil {
		h.t.Fatal(err)
	}
	root := "/nix/var/nix/gcroots/" + version
	h.Must("nix", "build", "--out-link", root, "path:/srv/flakes/"+version+"#nixosConfigurations."+configuration+".config.system.build.toplevel")
	return strings.TrimSpace(h.Must("readlink", "-f", root))
}

// push publishes the version whose module is change, and returns its ETag.
func (h *Host) push(version, change string) string {
	h.t.Helper()
	return etag.FindString(h.Must(h.pushing(version, change)...)) // a release is also logged
}

// pushing writes the flake of a version, and returns the command that publishes it.
func (h *Host) pushing(version, change string) []string {
	h.t.Helper()
	if err := h.flake(filepath.Join(h.flakes, version), version, change); err != nil {
		h.t.Fatal(err)
	}
	args := []string{"/opt/npcnix", "push", "--src", "/srv/flakes/" + version, "--remote", remote}
	for _, key := range h.signs {
		args = append(args, "--sign-key", "/srv/flakes/"+key)
	}
	if h.options.Prebuilt {
		args = append(elsewhere(), append(args, "--prebuild", "--cache", "file://"+cache, "--cache-key", "/var/lib/remote/cache-key")...)
	}
	return args
}

// elsewhere is how a program is run with a nix store of its own, where the host's is for all others.
func elsewhere() []string {
	return []string{"unshare", "--mount", "sh", "-ec", `mkdir -p $0/var/nix; mount --bind $0 /nix; exec "$@"`, builder}
}

var etag = regexp.MustCompile(`(?m)^[0-9a-f]{64}$`)

// flake writes a flake of one configuration.
func (h *Host) flake(dir, version, change string) error {
	parts := filepath.Join(dir, "parts")
	if err := os.CopyFS(filepath.Join(parts, "lib"), os.DirFS(filepath.Join(h.parts, "lib"))); err != nil {
		return err
	}
	files := map[string]string{
		"frame.nix":  frameNix,
		"base.nix":   base,
		"host.nix":   "{ lib, pkgs, ... }: " + h.module() + "\n",
		"change.nix": "{ lib, pkgs, ... }: " + change + "\n",
		"flake.nix": fmt.Sprintf(`{
  outputs = { self }: {
    nixosConfigurations.%s = import ./frame.nix { parts = ./parts; } {
      modules = [ ./npcnix/module.nix ./base.nix ./host.nix ./change.nix { test.version = %q; test.flavour = %q; } ];
    };
  };
}
`, configuration, version, h.options.Flavour),
	}
	copies, err := filepath.Glob(filepath.Join(h.parts, "*"))
	if err != nil {
		return err
	}
	for _, path := range copies {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			if err := read(files, "parts/"+filepath.Base(path), path); err != nil {
				return err
			}
		}
	}
	maps.Copy(files, h.options.Module)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Module reads the NixOS module of this repository.
func Module(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"*.nix", "*.json"} {
		paths, err := filepath.Glob(filepath.Join(machine.Root(t), "nix", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if err := read(files, "npcnix/"+filepath.Base(path), path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

func (h *Host) module() string {
	base := cmp.Or(h.options.Base, "{ }")
	if h.signer == "" {
		return base
	}
	evaluation := "fallback"
	if h.options.Prebuilt {
		evaluation = "never"
	}
	return fmt.Sprintf("{ imports = [ (%s) ]; services.npcnix = { signers = [ %q ]; evaluation = %q; }; }", base, h.signer, evaluation)
}

// newKey makes a key that signs releases, and returns the line that has hosts trust it.
func (h *Host) newKey(name string) string {
	h.t.Helper()
	file := filepath.Join(h.flakes, name)
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", file).CombinedOutput(); err != nil {
		h.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		h.t.Fatal(err)
	}
	return "release " + strings.TrimSpace(string(public))
}

func read(into map[string]string, name, path string) error {
	text, err := os.ReadFile(path)
	into[name] = string(text)
	return err
}

// Publish publishes the system that a module makes, under the next version, and returns the version and
// its ETag.
func (h *Host) Publish(name, change string) (version, etag string) {
	h.t.Helper()
	h.n++
	version = fmt.Sprintf("%d-%s", h.n, strings.NewReplacer(" ", "-", "'", "", ",", "", "/", "").Replace(name))
	return version, h.push(version, change)
}

// Record is what a host says of a version, as much of it as tests look at.
type Record struct {
	Status    string   `json:"status"`
	State     string   `json:"state"` // of schema 1
	Error     string   `json:"error"`
	LogTail   []string `json:"log_tail"`
	Warning   string   `json:"warning"`
	System    string   `json:"system"`
	RebootDue bool     `json:"reboot_due"`
}

// Text is all that a record says for people.
func (r Record) Text() string {
	return strings.Join(append([]string{r.Error, r.Warning}, r.LogTail...), "\n")
}

// Record returns the host's record where it is of a version; the zero one else.
func (h *Host) Record(etag string) Record {
	text := h.Read(recordFile)
	var r Record
	if !strings.Contains(text, etag) || json.Unmarshal([]byte(text), &r) != nil {
		return Record{}
	}
	if r.Status == "" {
		r.Status = r.State
		if r.State == "activating" && r.RebootDue {
			r.Status = "reboot_pending"
		}
	}
	return r
}

// Final returns the record of a version once nothing more becomes of it by itself, unless the machine reboots.
func (h *Host) Final(etag string) Record {
	h.t.Helper()
	return h.await(etag, "applied", "rolled_back", "rejected", "reboot_pending", "drifted")
}

// afterReboots returns the record of a version once the machine's reboots are over. There is none while it is off.
func (h *Host) afterReboots(etag string) Record {
	h.t.Helper()
	return h.await(etag, "applied", "rolled_back", "rejected", "drifted")
}

func (h *Host) await(etag string, statuses ...string) (r Record) {
	h.t.Helper()
	h.Await("the end of a version", func() bool {
		r = h.Record(etag)
		return slices.Contains(statuses, r.Status)
	})
	return r
}

// Ended reports whether the phase of the last activation is an end.
func (h *Host) Ended() bool {
	switch h.Phase() {
	case "", "committed", "rolled_back", "rollback_failed", "reboot_pending":
		return true
	}
	return false
}

// Phase returns the phase of the last activation.
func (h *Host) Phase() string {
	var journal struct{ Phase string }
	_ = json.Unmarshal([]byte(h.Read(filepath.Join(dataDir, "activation.json"))), &journal)
	return journal.Phase
}

// Runs returns the version that runs.
func (h *Host) Runs() string { return h.versionOf(machine.CurrentSystem) }

// Profiled returns the version that the profile points to.
func (h *Host) Profiled() string { return h.versionOf(machine.Profile) }

func (h *Host) versionOf(path string) string {
	return strings.TrimPrefix(strings.TrimSpace(h.Read(h.Link(path)+"/nixos-version")), "26.05.")
}

// Boots returns the version that the boot loader would start, by its own configuration.
func (h *Host) Boots() string {
	h.t.Helper()
	init := strings.TrimSpace(h.Must("bash", "-c", `source /usr/lib/npcnix/stage2; chosen=$(entry); part init`))
	return strings.TrimPrefix(strings.TrimSpace(h.Read(filepath.Dir(init)+"/nixos-version")), "26.05.")
}

// State returns a unit's ActiveState.
func (h *Host) State(unit string) string { return h.Unit(unit, "ActiveState") }
