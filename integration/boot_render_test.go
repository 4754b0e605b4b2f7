package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

func shellcheck(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.Command(need(t, "shellcheck"), file).CombinedOutput(); err != nil {
		t.Errorf("shellcheck %s: %v\n%s", filepath.Base(file), err, out)
	}
}

func TestScriptsInTheModulesAreShellcheckClean(t *testing.T) {
	found := 0
	for _, pattern := range []string{"../terraform/*/*.sh", "../terraform/*/*/*.sh"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			found++
			shellcheck(t, f)
		}
	}
	if found < 2 {
		t.Errorf("found %d scripts", found)
	}
}

const instanceRoot = `
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

module "install" {
  source                    = "MODULES/install"
  npcnix_install_url        = "path:/it's here#install"
  extra_substituters        = ["https://one.example.org"]
  extra_trusted_public_keys = ["one-1:AAAA"]
  min_memory_mb             = 0
}

module "instance" {
  source = "MODULES/instance"
  remote = {
    name     = "dev"
    filename = "dev.npcnix"
    bucket   = { id = "acme", arn = "arn:aws:s3:::acme" }
    key      = "npcnix/remotes/dev.npcnix"
    url      = "s3://acme/npcnix/remotes/dev.npcnix"
    region   = "eu-central-1"
    events   = false
  }
  hostname            = "web1.prod"
  install             = module.install
  ami                 = "ami-1"
  subnet              = { id = "subnet-1", vpc_id = "vpc-1" }
  internal_tcp_ports  = []
  root_access         = true
  root_ssh_keys       = ["ssh-ed25519 AAAA o'brien $HOME"]
  pre_install_script  = "echo \"pre: it's $configuration\" >>$TRACE\nexport FROM_PRE=yes"
  post_install_script = "echo post >>$TRACE"
}

output "user_data" {
  value = module.instance.user_data
}
`

func TestUserDataOfAnInstanceRunsAtEachBoot(t *testing.T) {
	userData := newRoot(t, terraformTool(t), instanceRoot).plan().Planned.Outputs["user_data"].Value.(string)
	m := newMachine(t)
	m.set, m.script = "", userData
	m.write("home/.ssh/authorized_keys", "an operator's key\n")

	m.boots(0, "pre:_it's_web1.prod", "nix", "post")
	want := "--remote s3://acme/npcnix/remotes/dev.npcnix --configuration web1.prod --extra-substituters https://one.example.org --extra-trusted-public-keys one-1:AAAA --remote-region eu-central-1 --host web1.prod"
	if args := strings.Join(strings.Fields(m.read("nix-args")), " "); !strings.HasSuffix(args, " run -L path:/it's here#install -- "+want) {
		t.Errorf("nix was called with %s", args)
	}
	if !strings.Contains(m.read("nix-env"), "\nFROM_PRE=yes\n") {
		t.Error("nix does not see what pre_install_script exported")
	}
	const key = "ssh-ed25519 AAAA o'brien $HOME\n"
	keys := m.path("home", ".ssh", "authorized_keys")
	if got := m.read("home/.ssh/authorized_keys"); got != key {
		t.Errorf("root's keys are %q", got)
	}
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root's keys: %v, %v", info, err)
	}

	m.write("home/.ssh/authorized_keys", "an operator's key\n")
	m.says(m.boots(0), "npcnix-install: npcnix is installed already; nothing to do")
	if got := m.read("home/.ssh/authorized_keys"); got != key {
		t.Errorf("after the second boot root's keys are %q", got)
	}

	m.write("rendered.sh", userData)
	shellcheck(t, m.path("rendered.sh"))
}

// No program of this is a fake: nix runs a flake's program, which is the built npcnix, which has
// nix build the remote's configuration and switches to it.
func TestBootInstallsWithTheRealNixAndNpcnix(t *testing.T) {
	need(t, "nix")
	m := newMachine(t)
	m.must(os.RemoveAll(m.path("bin", "nix")))
	salt := nixtest.Salt()
	npcnixFlake(t, m.path("npcnix's"), salt)
	publish := func(version string) {
		t.Helper()
		m.must(nixtest.Flake(m.path("flake"), salt, map[string]nixtest.System{"web1": {Version: version}}))
		if out, err := exec.Command(npcnix, "push", "--src", m.path("flake"), "--remote", "file://"+m.path("dev.npcnix")).CombinedOutput(); err != nil {
			t.Fatalf("push: %v\n%s", err, out)
		}
	}
	for _, dir := range []string{"root", "profiles", "home"} {
		m.must(os.Mkdir(m.path(dir), 0o755))
	}
	m.env = append(append(m.env, nixtest.Env()...), nixtest.RootVariable+"="+m.path("root"), "XDG_CACHE_HOME="+m.path("cache"),
		"NPCNIX_PROFILE="+m.path("profiles", "system"), "NPCNIX_CURRENT_SYSTEM="+m.path("root", nixtest.CurrentSystem))
	m.set = "remote_url=" + word("file://"+m.path("dev.npcnix")) + " remote_region=eu-central-1 configuration=web1 host=web1.prod\n" +
		"queue_url=https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1\n" +
		"npcnix_install_url=" + word("path:"+m.path("npcnix's")+"#install") + " npcnix_min_memory_mb=0\n" +
		"npcnix_substituters=" + word("file://"+m.path("binaries")) + " npcnix_public_keys=one-1:Zd+2dnuCtPfYYxqQQuaYD7qlqGy1LK9YR5hSKyrIaJI=\n"

	publish("one")
	if status, said := m.boot(); status != 0 {
		t.Fatalf("status %d, it said:\n%s", status, said)
	}
	if got := strings.TrimSpace(m.read("root/" + nixtest.Marker)); got != "one" {
		t.Errorf("the host runs %q", got)
	}
	var config map[string]any
	m.must(json.Unmarshal([]byte(m.read("data/config.json")), &config))
	for name, want := range map[string]string{
		"remote": "file://" + m.path("dev.npcnix"), "remote_region": "eu-central-1", "configuration": "web1", "host": "web1.prod",
		"queue_url": "https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1",
	} {
		if config[name] != want {
			t.Errorf("%s is %v, want %s", name, config[name], want)
		}
	}

	publish("two") // the agent's business, not that of the boot script
	m.says(m.boots(0), "npcnix-install: npcnix is installed already; nothing to do")
	if got := strings.TrimSpace(m.read("root/" + nixtest.Marker)); got != "one" {
		t.Errorf("after the second boot the host runs %q", got)
	}
}

// npcnixFlake writes a flake with the program that the boot script runs.
func npcnixFlake(t *testing.T, dir, salt string) {
	t.Helper()
	flake := `{ outputs = { self }: { packages.SYSTEM.install = derivation {
  name = "npcnix-install"; system = "SYSTEM"; builder = "/bin/sh"; salt = "SALT";
  program = "#!/bin/sh\nexec 'NPCNIX' install \"$@\"\n";
  args = [ "-euc" "PATH=/bin:/usr/bin; mkdir -p $out/bin; printf %s \"$program\" >$out/bin/npcnix-install; chmod +x $out/bin/npcnix-install" ];
}; }; }
`
	system := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux"
	flake = strings.NewReplacer("SYSTEM", system, "NPCNIX", npcnix, "SALT", salt).Replace(flake)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(flake), 0o644); err != nil {
		t.Fatal(err)
	}
}
