package integration

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// terraformTree copies the project's terraform folder to a directory of the test's own, so that
// what terraform writes beside a module (.terraform, the lock file, state) stays out of the
// project, and returns the copy. A test adds roots and overrides of its own to the copy at will.
func terraformTree(t *testing.T) string {
	t.Helper()
	need(t, "terraform")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "terraform"))); err != nil {
		t.Fatal(err)
	}
	// What a terraform run by a developer has left in the project.
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".terraform":
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return fs.SkipDir
		case entry.Name() == ".terraform.lock.hcl" || strings.HasPrefix(entry.Name(), "terraform.tfstate"):
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// terraform runs `terraform ARGS` in dir with env ("NAME=value") added to the test's own, and
// returns what it printed. Should it fail, so does the test. After a failed init for want of a
// provider the test is skipped, or fails where NPCNIX_REQUIRE_ALL is set.
//
// To apply: terraformTree once, then, in the same folder of it, "init", "apply -auto-approve",
// "plan -detailed-exitcode" (which fails when the plan is not empty), "output -json", "destroy".
// Give env the credentials, AWS_REGION and AWS_ENDPOINT_URL.
func terraform(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	out, err := tryTerraform(t, dir, env, args...)
	if err == nil {
		return out
	}
	if args[0] == "init" && lacksProvider(out) && os.Getenv("NPCNIX_REQUIRE_ALL") == "" {
		t.Skipf("terraform cannot get the AWS provider (TF_CLI_CONFIG_FILE names a mirror of it): %v\n%s", err, out)
	}
	t.Fatalf("terraform %s in %s: %v\n%s", strings.Join(args, " "), filepath.Base(dir), err, out)
	return ""
}

// tryTerraform is terraform for a run that may fail: the caller judges the error.
func tryTerraform(t *testing.T, dir string, env []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(need(t, "terraform"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// lacksProvider tells, from what init printed, whether all that failed was to get a provider.
func lacksProvider(out string) bool {
	return strings.Contains(out, "Failed to query available provider packages") || strings.Contains(out, "Failed to install provider")
}

// root is a folder with a Terraform configuration of a test's own.
type root struct {
	t   *testing.T
	dir string
	env []string // added to the test's own
}

// newRoot writes main.tf, in which MODULES stands for the folder of the modules, and prepares it.
func newRoot(t *testing.T, main string) *root {
	t.Helper()
	r := &root{t: t, dir: filepath.Join(terraformTree(t), "root")}
	r.write("main.tf", strings.ReplaceAll(main, "MODULES", ".."))
	terraform(t, r.dir, nil, "init")
	return r
}

func (r *root) write(name, content string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// run runs terraform, which may fail; it returns what was said, in one line.
func (r *root) run(args ...string) (string, error) {
	r.t.Helper()
	out, err := tryTerraform(r.t, r.dir, r.env, args...)
	return strings.Join(strings.Fields(strings.NewReplacer("│", "", "╷", "", "╵", "").Replace(out)), " "), err
}

// outputs plans, and returns the outputs that are known then.
func (r *root) outputs() map[string]string {
	r.t.Helper()
	terraform(r.t, r.dir, r.env, "plan", "-out=plan")
	var plan struct {
		Planned struct {
			Outputs map[string]struct{ Value string } `json:"outputs"`
		} `json:"planned_values"`
	}
	if err := json.Unmarshal([]byte(terraform(r.t, r.dir, r.env, "show", "-json", "plan")), &plan); err != nil {
		r.t.Fatal(err)
	}
	outputs := map[string]string{}
	for name, o := range plan.Planned.Outputs {
		outputs[name] = o.Value
	}
	return outputs
}
