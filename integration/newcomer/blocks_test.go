package newcomer

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// block is a shell block of a page.
type block struct {
	page   string
	line   int    // of its fence
	text   string // what the reader types
	output string // what the page shows; "" if it shows nothing
}

var listed = regexp.MustCompile(`(?m)^\| \[[^\]]+\]\(((?:docs/)?\w[\w.-]*\.md)\) \|`)

// pages returns README.md, the pages in the order of its table, and the READMEs of the Terraform modules.
func pages(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	pages := []string{"README.md"}
	for _, m := range listed.FindAllStringSubmatch(string(readme), -1) {
		pages = append(pages, m[1])
	}
	for _, pattern := range []string{"terraform/*/README.md", "terraform/examples/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			page, err := filepath.Rel(repository, file)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
		}
	}
	if len(pages) < 20 {
		t.Fatalf("only %d pages were found: %v", len(pages), pages)
	}
	return pages
}

// blocks returns the shell blocks of a page. Every fence must say what it holds.
func blocks(t *testing.T, page string) (found []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, page))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	language, indent, begin := "", "", 0
	for i, line := range strings.Split(string(text), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && begin == 0:
			language, begin, lines = fence, i+1, nil
			indent = line[:len(line)-len(strings.TrimLeft(line, " "))]
		case isFence:
			found = addBlock(t, found, block{page: page, line: begin}, language, lines)
			begin = 0
		default:
			lines = append(lines, strings.TrimPrefix(line, indent))
		}
	}
	return found
}

// addBlock adds what a fence holds to the blocks before it.
func addBlock(t *testing.T, found []block, b block, language string, lines []string) []block {
	t.Helper()
	switch language {
	case "sh":
		b.text = strings.Join(lines, "\n") + "\n"
		return append(found, b)
	case "console":
		command, isCommand := strings.CutPrefix(lines[0], "$ ")
		if !isCommand {
			t.Fatalf("%s:%d: a console begins with its command, after a $", b.page, b.line)
		}
		b.text, b.output = command+"\n", strings.Join(lines[1:], "\n")
		return append(found, b)
	case "text output":
		if len(found) == 0 || found[len(found)-1].output != "" {
			t.Fatalf("%s:%d: an output of no block", b.page, b.line)
		}
		found[len(found)-1].output = strings.Join(lines, "\n")
	case "text", "nix", "hcl", "yaml", "json", "promql":
	default:
		t.Errorf("%s:%d: a fence that begins with %q: say what it holds, as sh, console, text output or text", b.page, b.line, language)
	}
	return found
}

// The table names blocks that there are, for reasons that the pages still give.
func TestEveryRowHasItsBlock(t *testing.T) {
	t.Parallel()
	used := make([]bool, len(rows))
	total := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join(repository, page))
		if err != nil {
			t.Fatal(err)
		}
		flat := strings.Join(strings.Fields(string(text)), " ")
		for _, b := range blocks(t, page) {
			total++
			i := slices.IndexFunc(rows, func(r row) bool { return r.names(b) })
			if i < 0 {
				continue
			}
			if used[i] && rows[i].why == "" {
				t.Errorf("%s:%d: the row of %q names more than one block", page, b.line, rows[i].block)
			}
			used[i] = true
			if says := rows[i].says; says != "" && !strings.Contains(flat, says) {
				t.Errorf("%s no longer says: %s", page, says)
			}
			if rows[i].replace != "" && !strings.Contains(b.text, rows[i].replace) {
				t.Errorf("%s:%d: the block has no %q to replace", page, b.line, rows[i].replace)
			}
		}
	}
	tests := testNames(t)
	for i, r := range rows {
		for _, name := range testName.FindAllString(r.why, -1) {
			if !slices.Contains(tests, name) {
				t.Errorf("%s, %q: there is no %s", r.page, r.block, name)
			}
		}
		if !used[i] {
			t.Errorf("no block of %s begins with %q: delete the row", r.page, r.block)
		}
		if r.why == "" && (r.says == "") != (r.before == "") || r.why != "" && r.before != "" {
			t.Errorf("%s, %q: a row says why the block is not run, or what the reader does before it and which words say so", r.page, r.block)
		}
	}
	if total < 30 {
		t.Errorf("only %d shell blocks were found", total)
	}
}

var testName = regexp.MustCompile(`\bTest\w+`)

// testNames returns the names of the tests in integration.
func testNames(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "integration", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
