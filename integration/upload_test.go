package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const uploadRoot = `
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

variable "url" {
  type = string
}

module "upload" {
  source    = "MODULES/remote_s3_upload"
  remote    = { url = var.url }
  flake_dir = var.flake_dir
  include   = var.include
  npcnix    = var.npcnix
}
`

func TestUploadPublishesWhenAndOnlyWhenTheFlakeChanged(t *testing.T) {
	r := newRoot(t, uploadRoot)
	const flake = `the "flake's" $HOME/`
	published := filepath.Join(r.dir, "published", "dev.npcnix")
	r.env = append(r.env, "TF_VAR_npcnix="+npcnix, "TF_VAR_url=file://"+published, "TF_VAR_flake_dir="+strings.TrimSuffix(flake, "/"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Dir(published), 0o755))
	r.write(flake+"flake.nix", "{ }\n")
	r.write(flake+"hosts/web 1.nix", "1\n")
	r.write(flake+".github/workflow", "1\n")
	r.write(flake+".git/HEAD", "1\n")
	must(os.Symlink("/nonexistent", filepath.Join(r.dir, flake, "result")))

	// was tells when the archive was written; each push writes it again.
	was := func() time.Time {
		info, err := os.Stat(published)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	apply := func(what string, publishes bool) {
		t.Helper()
		before := was()
		out, err := r.run("apply", "-auto-approve")
		if err != nil {
			t.Fatalf("%s: %s", what, out)
		}
		if got := was().After(before); got != publishes {
			t.Fatalf("%s: published: %v, want %v; %s", what, got, publishes, out)
		}
		if out, err := r.run("plan", "-detailed-exitcode"); err != nil {
			t.Fatalf("%s: a second plan is not empty: %s", what, out)
		}
	}

	apply("the first time", true)
	apply("without a change", false)
	r.write(flake+".git/HEAD", "2\n")
	must(os.Remove(filepath.Join(r.dir, flake, "result")))
	must(os.Symlink(t.TempDir(), filepath.Join(r.dir, flake, "result-1")))
	apply("with changes of git and nix build alone", false)
	r.write(flake+"hosts/web 1.nix", "2\n")
	apply("with a file changed", true)
	r.write(flake+".github/workflow", "2\n")
	apply("with a file changed whose folder begins like .git", true)
	r.write(flake+"results.nix", "1\n")
	apply("with a file more", true)
	must(os.Rename(filepath.Join(r.dir, flake, "results.nix"), filepath.Join(r.dir, flake, "renamed.nix")))
	apply("with a file renamed", true)
	must(os.Remove(filepath.Join(r.dir, flake, "renamed.nix")))
	apply("with a file less", true)

	r.env = append(r.env, `TF_VAR_include=["hosts"]`)
	apply("with fewer folders", true)
	r.write(flake+".github/workflow", "3\n")
	apply("with a change in a folder that is left out", false)
	r.write(flake+"hosts/web 1.nix", "3\n")
	apply("with a change in a folder that is not", true)
}

func TestUploadThatFailsFailsTheApplyAndIsTriedAgain(t *testing.T) {
	r := newRoot(t, uploadRoot)
	published := filepath.Join(r.dir, "published", "dev.npcnix")
	r.env = append(r.env, "TF_VAR_npcnix="+npcnix, "TF_VAR_url=file://"+published, "TF_VAR_flake_dir=flake")
	r.write("flake/flake.nix", "{ }\n")
	r.write("published", "in the way")
	for range 2 {
		if out, err := r.run("apply", "-auto-approve"); err == nil || !strings.Contains(out, "not a directory") {
			t.Fatalf("%v, said %s", err, out)
		}
	}
	if err := os.Remove(filepath.Dir(published)); err != nil {
		t.Fatal(err)
	}
	if out, err := r.run("apply", "-auto-approve"); err != nil {
		t.Fatal(out)
	}
	if _, err := os.Stat(published); err != nil {
		t.Error(err)
	}
}

func TestUploadRefusesWhatItCannotRead(t *testing.T) {
	r := newRoot(t, uploadRoot)
	r.env = append(r.env, "TF_VAR_npcnix="+npcnix, "TF_VAR_url=file:///nonexistent/dev.npcnix")
	r.write("{flake}/flake.nix", "{ }\n")
	r.write("flake/flake.nix", "{ }\n")
	for setting, says := range map[string]string{
		"TF_VAR_flake_dir={flake}": "which Terraform takes for a pattern: give it another name",
		"TF_VAR_flake_dir=nowhere": `flake_dir "nowhere" has no flake.nix: name the directory of the flake`,
	} {
		r.env = append(r.env, setting)
		if out, err := r.run("plan"); err == nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v, said %s", setting, err, out)
		}
	}
}
