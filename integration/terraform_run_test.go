package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// terraformTree copies the project's terraform folder to a directory of the test, and returns the copy. So what
// terraform writes beside a module (.terraform, the lock file, state) stays out of the project.
// Examples refer to the modules by URL; in the copy an override points them at the modules beside them.
func terraformTree(t *testing.T) string {
	t.Helper()
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
	examples, err := filepath.Glob(filepath.Join(dir, "examples", "*", "main.tf"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("found no examples: %v", err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		var override strings.Builder
		for _, module := range moduleSource.FindAllStringSubmatch(string(text), -1) {
			fmt.Fprintf(&override, "module %q {\n  source = \"../../%s\"\n}\n", module[1], module[2])
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(example), "source_override.tf"), []byte(override.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// moduleSource finds a module block that takes a module of this project by URL: its name, the folder and the ref.
var moduleSource = regexp.MustCompile(`(?m)^module "(\w+)" \{\n  source += "github\.com/npcnix/npcnix//terraform/(\w+)\?ref=([^"]*)"$`)

// tool is Terraform or OpenTofu.
type tool struct {
	program string
	env     []string
	limit   time.Duration // of a command; 0 is commandLimit
}

// commandLimit is how long a command may take before it is hung. On a busy machine an apply takes minutes, because
// the provider polls what it creates.
const commandLimit = 10 * time.Minute

// terraformTool is Terraform. The test is skipped without it, or fails where NPCNIX_REQUIRE_ALL is set.
func terraformTool(t *testing.T) tool { return tool{program: need(t, "terraform")} }

// tofuTool is OpenTofu: on PATH, or built into .cache by deps.sh. It takes providers from the mirror that
// TF_CLI_CONFIG_FILE names for Terraform, where that is set: from a copy of it by OpenTofu's name of the registry.
func tofuTool(t *testing.T) tool {
	t.Helper()
	program, err := exec.LookPath("tofu")
	if built, _ := filepath.Glob(filepath.Join("..", ".cache", "tofu", "*", "tofu")); err != nil && len(built) > 0 {
		if program, err = filepath.Abs(built[len(built)-1]); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		program = need(t, "tofu")
	}
	config, err := os.ReadFile(os.Getenv("TF_CLI_CONFIG_FILE"))
	mirror := regexp.MustCompile(`filesystem_mirror \{\s*path\s*=\s*"([^"]+)"`).FindSubmatch(config)
	if err != nil || mirror == nil {
		return tool{program: program}
	}
	dir := t.TempDir()
	packages, err := filepath.Glob(filepath.Join(string(mirror[1]), "registry.terraform.io", "*", "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range packages {
		name, _ := filepath.Rel(filepath.Join(string(mirror[1]), "registry.terraform.io"), from)
		to := filepath.Join(dir, "mirror", "registry.opentofu.org", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "tofu.tfrc")
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(dir, "mirror"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return tool{program: program, env: []string{"TF_CLI_CONFIG_FILE=" + file}}
}

// run runs a command of the tool in dir with env ("NAME=value") added to the test's own, and returns what it
// printed. If it fails, so does the test. After a failed init for want of a provider the test is skipped, or
// fails where NPCNIX_REQUIRE_ALL is set.
func (c tool) run(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	out, err := c.try(dir, env, args...)
	if err == nil {
		return out
	}
	name := filepath.Base(c.program)
	if args[0] == "init" && lacksProvider(out) && os.Getenv("NPCNIX_REQUIRE_ALL") == "" {
		t.Skipf("%s cannot get the AWS provider (TF_CLI_CONFIG_FILE names a mirror of it): %v\n%s", name, err, out)
	}
	t.Fatalf("%s %s in %s: %v\n%s", name, strings.Join(args, " "), filepath.Base(dir), err, out)
	return ""
}

// try is run for a command that may fail: the caller judges the error. A command that does not end within the
// tool's limit fails with what it has printed until then. It is interrupted first: what hangs may say so, and ends
// its providers.
func (c tool) try(dir string, env []string, args ...string) (string, error) {
	limit := cmp.Or(c.limit, commandLimit)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second // then it is killed, and what its children hold open is not read
	cmd.Dir = dir
	// Each command builds the schema of all of AWS, mostly garbage: with GOGC it takes a quarter less of a processor.
	cmd.Env = append(os.Environ(), "GOGC=400", "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true")
	cmd.Env = append(append(cmd.Env, c.env...), env...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s did not end within %v: %w", filepath.Base(c.program), limit, ctx.Err())
	}
	return string(out), err
}

func TestATerraformCommandThatHangsFails(t *testing.T) {
	hung := tool{program: "sleep", limit: time.Millisecond}
	if _, err := hung.try(t.TempDir(), nil, "1000"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an end at the limit", err)
	}
}

// lacksProvider tells from what init printed whether only a provider was missing.
func lacksProvider(out string) bool {
	return strings.Contains(out, "Failed to query available provider packages") || strings.Contains(out, "Failed to install provider")
}

// root is a folder with a Terraform configuration of a test.
type root struct {
	t *testing.T
	tool
	dir string
	env []string // added to the test's own
}

// newRoot writes main.tf, in which MODULES stands for the folder of the modules, and prepares it.
func newRoot(t *testing.T, with tool, main string) *root {
	t.Helper()
	r := &root{t: t, tool: with, dir: filepath.Join(terraformTree(t), "root")}
	r.write("main.tf", strings.ReplaceAll(main, "MODULES", ".."))
	r.tool.run(t, r.dir, nil, "init")
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

// run runs a command, which may fail; it returns what was said, in one line.
func (r *root) run(args ...string) (string, error) {
	r.t.Helper()
	out, err := r.try(r.dir, r.env, args...)
	return strings.Join(strings.Fields(strings.NewReplacer("│", "", "╷", "", "╵", "").Replace(out)), " "), err
}

// must is run for a command that must not fail.
func (r *root) must(args ...string) string {
	r.t.Helper()
	out, err := r.run(args...)
	if err != nil {
		r.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// plan is what a plan would do: its outputs, and each change by its address.
type plan struct {
	Planned struct {
		Outputs map[string]struct{ Value any } `json:"outputs"`
	} `json:"planned_values"`
	Changes []struct {
		Address  string
		Previous string `json:"previous_address"`
		Mode     string
		Type     string
		Change   struct {
			Actions []string
			After   map[string]any
		}
	} `json:"resource_changes"`
}

func (r *root) plan(args ...string) plan {
	r.t.Helper()
	r.must(append([]string{"plan", "-out=plan"}, args...)...)
	out := r.tool.run(r.t, r.dir, r.env, "show", "-json", "plan")
	var p plan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// changes lists what the plan does to resources of a type: "ADDRESS: ACTIONS", sorted. Type "" is all.
func (p plan) changes(typ string) []string {
	var list []string
	for _, c := range p.Changes {
		actions := strings.Join(c.Change.Actions, ",")
		if (typ == "" || typ == c.Type) && c.Mode == "managed" && (actions != "no-op" || c.Previous != "") {
			list = append(list, c.Address+": "+actions)
		}
	}
	slices.Sort(list)
	return list
}
