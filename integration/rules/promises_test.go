package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const promisesPage = "../../docs/design/2026-11-28-promises.md"

// namedTest is how the table of promises names a test: `folder: TestName/sentence`.
var namedTest = regexp.MustCompile("`([a-z/]+): (Test\\w+)(?:/([^`]+))?`")

// The table of promises is complete and true: it has a row for each failure that README.md and docs/safety.md
// describe, each row names tests, and each of them exists.
func TestPromises(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, row := range tableRows(t, promisesPage, "# ") {
		rows[row.first] = true
		tests := namedTest.FindAllStringSubmatch(row.rest, -1)
		if len(tests) == 0 {
			t.Errorf("the promise %q names no test", row.first)
		}
		for _, m := range tests {
			if folder, name, sentence := m[1], m[2], m[3]; !hasTest(t, folder, name, sentence) {
				t.Errorf("the promise %q: there is no test %s", row.first, m[0])
			}
		}
	}
	for page, headings := range map[string][]string{
		"../../README.md":      {"## When something fails"},
		"../../docs/safety.md": {"## Before anything changes on the host", "## During an activation", "## When the machine goes down", "## During a rollout"},
	} {
		for _, heading := range headings {
			promised := tableRows(t, page, heading)
			if len(promised) < 4 {
				t.Errorf("%s: only %d failures under %q", page, len(promised), heading)
			}
			for _, p := range promised {
				if !rows[p.first] {
					t.Errorf("%s: the failure %q is not in %s", page, p.first, promisesPage)
				}
			}
		}
	}
}

// tableRow is a row of a Markdown table: its first cell, and the others.
type tableRow struct{ first, rest string }

// tableRows returns the rows of all tables below a heading, up to the next heading of its level.
func tableRows(t *testing.T, page, heading string) (rows []tableRow) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	level, _, _ := strings.Cut(heading, " ")
	below, header := false, true
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, level+" "):
			below = strings.HasPrefix(line, heading)
		case !strings.HasPrefix(line, "|"):
			header = true
		case strings.HasPrefix(line, "|---"):
			header = false
		case below && !header:
			first, rest, _ := strings.Cut(strings.Trim(line, "| "), " | ")
			rows = append(rows, tableRow{first, rest})
		}
	}
	return rows
}

// hasTest reports whether the folder has a test of this name, and that test a case of this sentence: it stands in the
// test's function, in one below it in the same file, or in a table of the folder that those name. Of TestScripts, the
// case is the name of a script.
func hasTest(t *testing.T, folder, name, sentence string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	test, is, tables := "", false, map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, from, here := strings.Cut(string(text), "\nfunc "+name+"(t *testing.T) {"); here {
			test, is = from, true
		}
		for _, table := range packageTable.FindAllStringSubmatch(string(text), -1) {
			tables[table[1]] = table[2]
		}
	}
	if name == "TestScripts" {
		_, err := os.Stat(filepath.Join(root, folder, "testdata", "script", sentence+".txtar"))
		return is && err == nil
	}
	for table, rows := range tables {
		if regexp.MustCompile(`\b` + table + `\b`).MatchString(test) {
			test += rows
		}
	}
	return is && (sentence == "" || strings.Contains(test, `"`+sentence+`"`))
}

// packageTable is a list outside of functions: its name and its rows.
var packageTable = regexp.MustCompile(`(?ms)^var (\w+) = \[\](.*?)^\}`)

// The test knows a promise without its test from one that has it.
func TestMissingTestsAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		folder, name, sentence string
		want                   bool
	}{
		{"integration/rules", "TestMissingTestsAreFound", "", true},
		{"integration/rules", "TestMissingTestsAreFound", "a sentence", true},
		{"integration/rules", "TestMissingTestsAreFound", "another" + " sentence", false},
		{"integration/rules", "TestOfNothing", "", false},
		{"integration", "TestMissingTestsAreFound", "", false},
		{"integration/rules", "TestPromises", "a " + "sentence", true},
		{"integration/rules", "TestWords", "a " + "sentence", false},
		{"integration/nixos", "TestWhatBecomesOfAVersion", "a part of the activation fails", true},
		{"cmd/npcnix", "TestScripts", "status", true},
		{"cmd/npcnix", "TestScripts", "status " + "of nothing", false},
		{"cmd/npcnix", "TestScripts", "", false},
	} {
		if got := hasTest(t, c.folder, c.name, c.sentence); got != c.want {
			t.Errorf("%s: %s/%s: %v", c.folder, c.name, c.sentence, got)
		}
	}
}
