package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A module's README has a table of its inputs and one of its outputs, with the types, defaults and descriptions
// that the module declares. NPCNIX_UPDATE=1 writes them.
func TestTerraformReadmesListInputsAndOutputs(t *testing.T) {
	t.Parallel()
	modules := filepath.Join("..", "terraform")
	for _, folder := range terraformFolders(t, modules) {
		if strings.HasPrefix(folder, "examples") {
			continue
		}
		t.Run(folder, func(t *testing.T) {
			file := filepath.Join(modules, folder, "README.md")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			prose, _, _ := strings.Cut(string(text), "\n## Inputs\n")
			want := prose + "\n" + tables(t, filepath.Join(modules, folder))
			if string(text) == want {
				return
			}
			if os.Getenv("NPCNIX_UPDATE") == "" {
				t.Errorf("the tables of %s are not those of its variables and outputs: NPCNIX_UPDATE=1 go test -run Readmes ./integration writes\n%s", file, tables(t, filepath.Join(modules, folder)))
			} else if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tables renders the end of a module's README.
func tables(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("## Inputs\n\n| name | type | default | |\n|---|---|---|---|\n")
	for _, v := range declarations(t, dir, "variable") {
		value := "required"
		if v.value != "" {
			value = "`" + v.value + "`"
		}
		b.WriteString("| `" + v.name + "` | `" + v.typ + "` | " + value + " | " + cell(v.description) + " |\n")
	}
	b.WriteString("\n## Outputs\n\n| name | |\n|---|---|\n")
	for _, o := range declarations(t, dir, "output") {
		b.WriteString("| `" + o.name + "` | " + cell(o.description) + " |\n")
	}
	return b.String()
}

// cell escapes what Markdown takes for a tag or for the end of the cell.
func cell(text string) string { return strings.NewReplacer("<", `\<`, "|", `\|`).Replace(text) }

// declared is a variable or an output of a module.
type declared struct{ name, description, typ, value string }

var (
	block       = regexp.MustCompile(`(?ms)^(variable|output) "(\w+)" \{\n(.*?)^\}`)
	description = regexp.MustCompile(`(?m)^  description += "(.*)"$`)
)

// declarations reads the variables or outputs of a module, in order, as `terraform fmt` leaves them written.
func declarations(t *testing.T, dir, kind string) []declared {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	var list []declared
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			if m[1] != kind {
				continue
			}
			d := declared{name: m[2], typ: attribute(m[3], "type"), value: attribute(m[3], "default")}
			if found := description.FindStringSubmatch(m[3]); found != nil {
				d.description = strings.NewReplacer(`\"`, `"`, `\\`, `\`, "$${", "${").Replace(found[1])
			}
			if d.description == "" {
				t.Errorf("%s: %s has no description on one line", file, d.name)
			}
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s declares no %s", dir, kind)
	}
	return list
}

// attribute returns an attribute's expression on one line, or "".
func attribute(body, name string) string {
	lines := strings.Split(body, "\n")
	begin := slices.IndexFunc(lines, func(line string) bool {
		return regexp.MustCompile("^  " + name + " += ").MatchString(line)
	})
	if begin < 0 {
		return ""
	}
	_, expression, _ := strings.Cut(lines[begin], "= ")
	for _, line := range lines[begin+1:] {
		opened := strings.Count(expression, "(") + strings.Count(expression, "{") + strings.Count(expression, "[")
		closed := strings.Count(expression, ")") + strings.Count(expression, "}") + strings.Count(expression, "]")
		if opened <= closed {
			break
		}
		line = strings.Join(strings.Fields(line), " ")
		switch {
		case strings.HasSuffix(expression, "{"), strings.HasPrefix(line, "}"):
			expression += " " + line
		default:
			expression += ", " + line
		}
	}
	return expression
}

// Whoever copies an example or a block of a README takes all modules of one version.
func TestTerraformModulesHaveOneVersion(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../terraform/*/README.md", "../terraform/examples/*/*.tf", "../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	source := regexp.MustCompile(`"github\.com/npcnix/npcnix//terraform/([^"?]*)(\?ref=[^"]*)?"|source += "(\.\.[^"]*)"`)
	refs := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range source.FindAllStringSubmatch(string(text), -1) {
			if m[2] == "" {
				t.Errorf("%s: %s has no ?ref=", file, m[0])
				continue
			}
			if _, err := os.Stat(filepath.Join("..", "terraform", m[1], "main.tf")); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			refs[m[2]] = file
		}
	}
	if len(refs) != 1 {
		t.Errorf("the refs differ: %v", refs)
	}
}
