package integration

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// One root that calls every module, so that all of them are validated at the cost of one.
const everyModule = `
module "store" {
  source  = "MODULES/store_s3"
  bucket  = { id = "acme", arn = "arn:aws:s3:::acme", region = "eu-central-1" }
  prefix  = "npcnix/remotes"
  remotes = ["dev"]

  eventbridge = true
}

module "remote" {
  source = "MODULES/remote_s3"
  store  = module.store
  name   = "dev"
}

module "upload" {
  source    = "MODULES/remote_s3_upload"
  remote    = module.remote
  flake_dir = "."
}

module "gate" {
  source = "MODULES/gate"
  remote = module.remote
}

module "cache" {
  source = "MODULES/cache_s3"
  name   = "acme-cache"
}

module "notify" {
  source = "MODULES/notify"
  remote = module.remote
}

module "install" {
  source = "MODULES/install"
}

module "group" {
  source                 = "MODULES/elastic_hosts"
  remote                 = module.remote
  install                = module.install
  name                   = "web"
  ami                    = "ami-1"
  vpc_security_group_ids = []
}

module "hosts" {
  source        = "MODULES/instance_multi"
  remote        = module.remote
  install       = module.install
  hosts         = {}
  hostname_base = "web"
  vpc           = { id = "vpc-1", cidr_block = "10.0.0.0/16" }
  ami           = "ami-1"
}
`

// The key of module store is one of the root's own, as the README of store_s3 shows it.
const ownKey = `
module "store" {
  kms_key_arn = aws_kms_key.fleet.arn
}
`

// What `make check` looks at: what is quickly seen of all modules and examples.
func TestTheTerraformModulesAreFormattedAndValid(t *testing.T) {
	t.Parallel()
	r := newRoot(t, terraformTool(t), everyModule)
	r.write("flake.nix", "{ }\n")
	if out, err := r.try("../terraform", nil, "fmt", "-check", "-recursive", "-diff"); err != nil {
		t.Errorf("terraform fmt would change: %v\n%s", err, out)
	}
	valid := func() {
		t.Helper()
		if out := r.must("validate"); !strings.Contains(out, "Success") || strings.Contains(out, "Warning") {
			t.Error(out)
		}
	}
	valid()
	r.write("key_override.tf", ownKey)
	r.write("key.tf", "data \"aws_caller_identity\" \"current\" {}\n"+readmeBlock(t, "store_s3", `resource "aws_kms_key" "fleet" {`)+readmeBlock(t, "store_s3", "moved {\n  from = module.store.aws_kms_key.store[0]"))
	valid()
}

// Every module and example passes its own tests with the real AWS provider, by Terraform and by OpenTofu. They
// need no AWS: they plan in an account whose data are given, or apply with a provider that is a mock.
func TestTheTerraformModulesPassTheirTests(t *testing.T) {
	t.Parallel()
	turns := make(chan struct{}, 2) // a provider takes a core and half a gigabyte
	for name, find := range map[string]func(*testing.T) tool{"terraform": terraformTool, "tofu": tofuTool} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with, tree := find(t), terraformTree(t)
			for _, folder := range terraformFolders(t, tree) {
				if strings.HasPrefix(folder, "examples/") && folder != "examples/bring-your-own-topic" {
					// Nothing is published: there is no bucket.
					override := filepath.Join(tree, folder, "npcnix_override.tf")
					if err := os.WriteFile(override, []byte("module \"upload\" {\n  npcnix = \"true\"\n}\n"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				t.Run(folder, func(t *testing.T) {
					t.Parallel()
					turns <- struct{}{}
					defer func() { <-turns }()
					testModule(t, with, filepath.Join(tree, folder))
				})
			}
		})
	}
}

func testModule(t *testing.T, with tool, dir string) {
	with.run(t, dir, nil, "init", "-backend=false")
	tests, err := filepath.Glob(filepath.Join(dir, "tests", "*.tftest.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(tests) == 0 {
		t.Fatal("it has no tests/*.tftest.hcl")
	}
	// It validates too, and says "0 passed" rather than fail where there is nothing to run.
	if out := with.run(t, dir, nil, "test"); !strings.Contains(out, "Success! ") || strings.Contains(out, "Success! 0 passed") {
		t.Errorf("the test ran nothing:\n%s", out)
	} else if warned := warnings(out); len(warned) > 0 {
		t.Errorf("it warns of %q:\n%s", warned, out)
	}
}

// warnings are the titles of what a test's output warns of. OpenTofu 1.12 warns of two things that stay: of resources
// that are passed on whole, as provider 5 has deprecated attributes in them, and of what a run of a test file overrides
// again.
func warnings(out string) []string {
	var titles []string
	for _, found := range regexp.MustCompile(`Warning: (.+)`).FindAllStringSubmatch(out, -1) {
		if title := found[1]; title != "Value derived from a deprecated source" && !strings.HasPrefix(title, "Multiple `override_") {
			titles = append(titles, title)
		}
	}
	return titles
}

var required = regexp.MustCompile(`(?ms)^variable "(\w+)" \{\n(.*?)^\}`)

// A required input that is null, say of an output that is not set, is refused where it comes in, and not
// where it is used.
func TestRequiredTerraformInputsPassNoNull(t *testing.T) {
	files, err := filepath.Glob("../terraform/*/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, variable := range required.FindAllStringSubmatch(string(text), -1) {
			settings := strings.Join(strings.Fields(variable[2]), " ")
			if strings.Contains(settings, " default = ") {
				continue
			}
			found++
			if !strings.Contains(settings, " nullable = false") {
				t.Errorf("%s: %s is required, and may be null", file, variable[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d required inputs", found)
	}
}

// terraformFolders finds each folder that is a root or a module of its own: those with *.tf files,
// less the helpers of tests.
func terraformFolders(t *testing.T, tree string) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "tests" {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".tf" {
			folder, err := filepath.Rel(tree, filepath.Dir(path))
			found[folder] = true
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no module found")
	}
	return slices.Sorted(maps.Keys(found))
}
