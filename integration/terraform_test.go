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

// Every module and example is formatted, valid and passes its own tests with the real AWS provider.
// The provider asks nobody in them: they plan, and the account is given.
func TestTheTerraformModulesPassTheirTests(t *testing.T) {
	t.Parallel()
	tree := terraformTree(t)
	if out, err := tryTerraform(t, tree, nil, "fmt", "-check", "-recursive", "-diff"); err != nil {
		t.Errorf("terraform fmt would change: %v\n%s", err, out)
	}
	turns := make(chan struct{}, 2) // a provider takes a core and half a gigabyte
	for _, folder := range terraformFolders(t, tree) {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			dir := filepath.Join(tree, folder)
			env := []string{"AWS_EC2_METADATA_DISABLED=true"}
			terraform(t, dir, env, "init", "-backend=false")
			tests, err := filepath.Glob(filepath.Join(dir, "tests", "*.tftest.hcl"))
			if err != nil {
				t.Fatal(err)
			}
			if len(tests) == 0 {
				if !strings.HasPrefix(folder, "examples") {
					t.Error("the module has no tests/*.tftest.hcl")
				}
				terraform(t, dir, env, "validate")
				return
			}
			// It validates too, and says "0 passed" rather than fail where there is nothing to run.
			if out := terraform(t, dir, env, "test"); !strings.Contains(out, "Success! ") || strings.Contains(out, "Success! 0 passed") {
				t.Errorf("terraform test ran nothing:\n%s", out)
			}
		})
	}
}

// A module's README names each of its inputs and outputs in a table, and no others.
func TestTheReadmesOfTheTerraformModulesNameTheirInputsAndOutputs(t *testing.T) {
	t.Parallel()
	tree := terraformTree(t)
	for _, folder := range terraformFolders(t, tree) {
		if strings.HasPrefix(folder, "examples") {
			continue
		}
		t.Run(folder, func(t *testing.T) {
			readme, err := os.ReadFile(filepath.Join(tree, folder, "README.md"))
			if err != nil {
				t.Fatal(err)
			}
			declared := declarations(t, filepath.Join(tree, folder))
			for kind, heading := range map[string]string{"variable": "Inputs", "output": "Outputs"} {
				if got, want := tableOf(string(readme), heading), declared[kind]; !slices.Equal(got, want) {
					t.Errorf("the table %q names %q, the module declares %q", heading, got, want)
				}
			}
		})
	}
}

var required = regexp.MustCompile(`(?ms)^variable "(\w+)" \{\n(.*?)^\}`)

// A required input that is null, say of an output that is not set, is refused where it comes in, and not
// where it is used.
func TestTheRequiredInputsOfTheTerraformModulesPassNoNull(t *testing.T) {
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

var declaration = regexp.MustCompile(`(?m)^(variable|output) "(\w+)" \{`)

// declarations are the sorted names of a module's variables and outputs, by kind, as `terraform fmt`
// leaves them written.
func declarations(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range declaration.FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = append(names[match[1]], match[2])
		}
	}
	for _, list := range names {
		slices.Sort(list)
	}
	return names
}

var row = regexp.MustCompile("(?m)^\\| `(\\w+)` ")

// tableOf lists, sorted, the names in the first column of the table under a heading.
func tableOf(readme, heading string) []string {
	_, section, _ := strings.Cut(readme, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, match := range row.FindAllStringSubmatch(section, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return names
}
