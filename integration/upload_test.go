package integration

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/integration/awsfake"
)

const uploadRoot = `
provider "aws" {
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
}

variable "flake_dir" {
  type = string
}

variable "include" {
  type    = list(string)
  default = []
}

variable "npcnix" {
  type = string
}

module "upload" {
  source    = "MODULES/remote_s3_upload"
  remote    = { url = "` + remote + `" }
  flake_dir = var.flake_dir
  include   = var.include
  npcnix    = var.npcnix
}

output "content_hash" {
  value = module.upload.content_hash
}
`

// aFlake is one that push does not refuse to publish.
const aFlake = "{ outputs = { self }: { nixosConfigurations.web = { }; }; }\n"

// uploader is a root that publishes to an AWS.
type uploader struct {
	*root
	*world
	cloud *awsfake.Cloud
}

func newUploader(t *testing.T, flake string) *uploader {
	t.Helper()
	cloud := newCloud(t)
	u := &uploader{newRoot(t, terraformTool(t), uploadRoot), newWorld(t, cloud.URL()), cloud}
	u.root.env = append(u.world.env(), "TF_VAR_npcnix="+npcnix, "TF_VAR_flake_dir="+flake)
	return u
}

// apply applies, and checks whether that published and leaves nothing to do.
func (u *uploader) apply(what string, publishes bool) {
	u.world.t.Helper()
	before := u.cloud.Requests("s3", "PutObject")
	out, err := u.root.run("apply", "-auto-approve")
	if err != nil {
		u.world.t.Fatalf("%s: %s", what, out)
	}
	if got := u.cloud.Requests("s3", "PutObject") > before; got != publishes {
		u.world.t.Fatalf("%s: published: %v, want %v; %s", what, got, publishes, out)
	}
}

const uploadsRoot = `
provider "aws" {
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
}

variable "flakes" {
  type = map(object({ dir = string, include = list(string) }))
}

variable "npcnix" {
  type = string
}

module "upload" {
  source    = "MODULES/remote_s3_upload"
  for_each  = var.flakes
  remote    = { url = "s3://` + bucket + `/${each.key}.npcnix" }
  flake_dir = each.value.dir
  include   = each.value.include
  npcnix    = var.npcnix
}
`

// upload is a flake that is published, changed, and published again if it has to be.
type upload struct {
	include   []string
	change    func(dir string) error
	later     []string // what is included after the change; nil: what was
	publishes bool
}

// overwrite changes the content of a file, or adds it.
func overwrite(name string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte("2\n"), 0o644) }
}

var uploads = map[string]upload{
	"nothing": {change: func(string) error { return nil }},
	"what git and nix build keep": {change: func(dir string) error {
		return errors.Join(overwrite(".git/description")(dir), os.Remove(filepath.Join(dir, "result")), os.Symlink("/", filepath.Join(dir, "result-1")))
	}},
	"a file":                               {change: overwrite("hosts/web 1.nix"), publishes: true},
	"a file whose folder begins like .git": {change: overwrite(".github/workflow"), publishes: true},
	"a file more":                          {change: overwrite("results.nix"), publishes: true},
	"a file less":                          {change: func(dir string) error { return os.Remove(filepath.Join(dir, "hosts/web 1.nix")) }, publishes: true},
	"the name of a file": {change: func(dir string) error {
		return os.Rename(filepath.Join(dir, "hosts/web 1.nix"), filepath.Join(dir, "hosts/web.nix"))
	}, publishes: true},
	"which folders are included":              {change: func(string) error { return nil }, later: []string{"hosts"}, publishes: true},
	"a file in a folder that is left out":     {include: []string{"hosts"}, change: overwrite(".github/workflow")},
	"a file in a folder that is not left out": {include: []string{"hosts"}, change: overwrite("hosts/web 1.nix"), publishes: true},
}

func TestUploadPublishesAChangedFlakeOnly(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	u := &uploader{newRoot(t, terraformTool(t), uploadsRoot), newWorld(t, cloud.URL()), cloud}
	dir := func(name string) string { return `the "flake's" $HOME of ` + name }
	type flake struct {
		Dir     string   `json:"dir"`
		Include []string `json:"include"`
	}
	flakes := map[string]flake{}
	track := func(name string) {
		t.Helper()
		if out, err := exec.Command("git", "-C", filepath.Join(u.dir, dir(name)), "add", "--all").CombinedOutput(); err != nil {
			t.Fatalf("git add: %v: %s", err, out)
		}
	}
	for name, c := range uploads {
		flakes[name] = flake{dir(name), append([]string{}, c.include...)}
		u.write(dir(name)+"/flake.nix", aFlake)
		u.write(dir(name)+"/hosts/web 1.nix", "1\n")
		u.write(dir(name)+"/hosts/web 2.nix", "1\n")
		u.write(dir(name)+"/.github/workflow", "1\n")
		if err := exec.Command("git", "init", "--quiet", filepath.Join(u.dir, dir(name))).Run(); err != nil {
			t.Fatal(err)
		}
		track(name)
		if err := os.Symlink("/nonexistent", filepath.Join(u.dir, dir(name), "result")); err != nil {
			t.Fatal(err)
		}
	}
	published := func() map[string]int {
		t.Helper()
		text, err := json.Marshal(flakes)
		if err != nil {
			t.Fatal(err)
		}
		from := len(cloud.Trace())
		u.root.env = append(u.world.env(), "TF_VAR_npcnix="+npcnix, "TF_VAR_flakes="+string(text))
		u.root.must("apply", "-auto-approve")
		counts := map[string]int{}
		for _, e := range cloud.Trace()[from:] {
			if e.What == awsfake.Requested && e.Action == "PutObject" {
				counts[strings.TrimSuffix(e.Key, ".npcnix")]++
			}
		}
		return counts
	}
	if first := published(); len(first) != len(uploads) {
		t.Fatalf("at first, it publishes %v", first)
	}
	for name, c := range uploads {
		if err := c.change(filepath.Join(u.dir, dir(name))); err != nil {
			t.Fatal(err)
		}
		track(name)
		if c.later != nil {
			flakes[name] = flake{dir(name), c.later}
		}
	}
	again := published()
	for name, c := range uploads {
		if (again[name] > 0) != c.publishes {
			t.Errorf("after a change of %s: published: %v, want %v", name, again[name] > 0, c.publishes)
		}
	}
	u.root.must("plan", "-detailed-exitcode")
}

// A flake beside the Terraform that publishes it: state changes with each apply, and holds secrets.
func TestUploadPublishesNoTerraformState(t *testing.T) {
	t.Parallel()
	u := newUploader(t, ".")
	u.write("flake.nix", aFlake)
	u.write("infra/.terraform/modules/modules.json", "{}\n")
	u.write("infra/.terraform.tfstate.lock.info", "{}\n")
	u.write("infra/terraform.tfstate.d/dev/terraform.tfstate", "{}\n")
	u.write("infra/terraform.tfstate.d/notes.nix", "1\n")
	u.apply("the first time", true)
	u.apply("a second time, when there is a state", false)
	u.apply("a third time, when there is a backup", false)
	u.write("flake.nix", aFlake+"# changed\n")
	u.apply("with a file changed", true)
	u.root.must("plan", "-detailed-exitcode")

	dir := filepath.Join(t.TempDir(), "pulled")
	u.world.run("pull", "--remote", remote, "--dst", dir)
	hashes := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		content, err := os.ReadFile(path)
		hashes[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(hashes))
	if !slices.Contains(names, "main.tf") || !slices.Contains(names, "infra/terraform.tfstate.d/notes.nix") || slices.ContainsFunc(names, func(name string) bool {
		return strings.HasSuffix(name, ".tfstate") || strings.Contains(name, ".tfstate.l") || strings.Contains(name, ".terraform/")
	}) {
		t.Errorf("the archive holds %q", names)
	}
	// What the module counts as content is what was published, and nothing else.
	text, err := json.Marshal(hashes)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.root.must("output", "-raw", "content_hash"), fmt.Sprintf("%x", sha256.Sum256(text)); got != want {
		t.Errorf("content_hash is %s, and that of %q is %s", got, names, want)
	}
}

func TestUploadNoticesThatTheRemoteWasDeleted(t *testing.T) {
	t.Parallel()
	u := newUploader(t, "flake")
	u.write("flake/flake.nix", aFlake)
	u.apply("the first time", true)
	if out := u.root.must("plan"); strings.Contains(out, "does not exist") {
		t.Fatalf("a remote that is there is missed: %s", out)
	}
	u.remove()
	if out := u.root.must("plan"); !strings.Contains(out, remote+" does not exist") || !strings.Contains(out, "-replace=") {
		t.Fatalf("a deleted remote goes unnoticed: %s", out)
	}
	u.root.must("apply", "-auto-approve", "-replace=module.upload.terraform_data.push")
	if u.etag() == "" {
		t.Error("the advice of the warning does not publish")
	}
}

func TestUploadThatFailsFailsTheApplyAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	u := newUploader(t, "flake")
	u.write("flake/flake.nix", aFlake)
	u.cloud.Fault(awsfake.Call{Service: "s3", Action: "PutObject"}, awsfake.Effect{Status: 403, Code: "AccessDenied", Next: 1})
	if out, err := u.root.run("apply", "-auto-approve"); err == nil || !strings.Contains(out, "403") {
		t.Fatalf("%v, said %s", err, out)
	}
	u.apply("the second time", true)
}

func TestUploadWithoutNpcnixSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	u := newUploader(t, "flake")
	u.write("flake/flake.nix", aFlake)
	u.root.env = append(u.root.env, "TF_VAR_npcnix=npcnix-of-nobody")
	if out, err := u.root.run("apply", "-auto-approve"); err == nil ||
		!strings.Contains(out, `there is no program "npcnix-of-nobody" on the machine that runs Terraform`) {
		t.Fatalf("%v, said %s", err, out)
	}
}

func TestUploadRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	u := newUploader(t, "flake")
	u.write("{flake}/flake.nix", aFlake)
	u.write("flake/flake.nix", aFlake)
	for setting, says := range map[string]string{
		"TF_VAR_flake_dir={flake}": "which Terraform takes for a pattern",
		"TF_VAR_flake_dir=nowhere": `flake_dir "nowhere" has no flake.nix`,
	} {
		u.root.env = append(u.root.env, setting)
		if out, err := u.root.run("plan"); err == nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v, said %s", setting, err, out)
		}
	}
}

// remove deletes the remote's object.
func (w *world) remove() {
	w.t.Helper()
	_, err := w.s3.DeleteObject(w.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	w.must(err)
}
