package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// longest is how many lines a function may have, from its name to its closing brace.
const longest = 60

// A function of the program fits on a screen.
func TestLengths(t *testing.T) {
	seen := 0
	for _, room := range []string{"agent", "cmd", "events", "nix", "store"} {
		err := filepath.WalkDir(filepath.Join("..", "..", room), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			seen++
			for name, lines := range longFunctions(t, path, nil) {
				t.Errorf("%s: %s has %d lines, %d are the most", path, name, lines, longest)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 50 {
		t.Errorf("saw %d files", seen)
	}
	for name, lines := range map[string]int{"func f() {": longest, "func (t T) f() {": longest, "func g() { _ = func() {": longest + 1} {
		source := "package p\n\n" + name + strings.Repeat("\n", lines-1) + strings.Repeat("}", strings.Count(name, "{"))
		if long := longFunctions(t, "p.go", source); (len(long) > 0) != (lines > longest) {
			t.Errorf("%q with %d lines: too long is %v", name, lines, long)
		}
	}
}

// longFunctions returns the functions of a file, or of a source, that are too long, with their lines.
func longFunctions(t *testing.T, path string, source any) map[string]int {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	long := map[string]int{}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			if lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; lines > longest {
				long[f.Name.Name] = lines
			}
		}
	}
	return long
}

// longestName is how many letters the name of a test may have. What is longer is a sentence, for t.Run.
const longestName = 48

func TestNamesOfTests(t *testing.T) {
	seen := 0
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir // downloads
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
				seen++
				if n := len(f.Name.Name); n > longestName {
					t.Errorf("%s: %s has %d letters, %d are the most", path, f.Name.Name, n, longestName)
				}
			}
		}
		return nil
	})
	if err != nil || seen < 300 {
		t.Errorf("saw %d tests: %v", seen, err)
	}
}
