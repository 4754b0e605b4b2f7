package integration

import (
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
	// What a terraform run by hand has left in the project.
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
