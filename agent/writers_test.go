package agent

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

// In the text of this package, only transition.go, what reads a file and what gives it its schema change a State or what
// it points to.
func TestNothingElseChangesAState(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"fromSchema1": true, "UnmarshalJSON": true, "saveState": true}
	set, parsed := token.NewFileSet(), []*ast.File{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	// Of other packages nothing is known, and nothing has to be: a State is of this one.
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	loose := types.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = loose.Check("agent", set, parsed, info)
	seen := 0
	for _, file := range parsed {
		own := set.Position(file.Pos()).Filename == "transition.go"
		for _, d := range file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || allowed[f.Name.Name] {
				continue
			}
			for _, at := range changes(info, f) {
				if seen++; !own {
					t.Errorf("%s: %s changes a State", set.Position(at), f.Name.Name)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d changes of a State are seen, and transition.go has more", seen)
	}
}

// changes are the places in a function that assign to a member of a State or of what it points to, or make a State with
// more than a schema.
func changes(info *types.Info, f *ast.FuncDecl) (places []token.Pos) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				if changesState(info, to) {
					places = append(places, to.Pos())
				}
			}
		case *ast.IncDecStmt:
			if changesState(info, n.X) {
				places = append(places, n.Pos())
			}
		case *ast.CompositeLit:
			if named(info.Types[n].Type) != "State" {
				return true
			}
			for _, e := range n.Elts {
				if kv, is := e.(*ast.KeyValueExpr); !is || kv.Key.(*ast.Ident).Name != "Schema" {
					places = append(places, n.Pos())
				}
			}
		}
		return true
	})
	return places
}

// changesState reports whether an assignment to this changes a State, directly or through one of its pointers.
func changesState(info *types.Info, to ast.Expr) bool {
	switch e := to.(type) {
	case *ast.SelectorExpr:
		of := info.Types[e.X].Type
		_, shared := of.(*types.Pointer)
		switch named(of) {
		case "State":
			return true
		case "Applied", "Intent", "Failure":
			if shared {
				return true
			}
		}
		return changesState(info, e.X)
	case *ast.IndexExpr:
		return changesState(info, e.X)
	case *ast.StarExpr:
		of := named(info.Types[e.X].Type)
		return of == "State" || of == "Applied" || of == "Intent" || of == "Failure"
	case *ast.ParenExpr:
		return changesState(info, e.X)
	}
	return false
}

// named is the name of a type of this package, or of one that it points to.
func named(of types.Type) string {
	if pointer, is := of.(*types.Pointer); is {
		of = pointer.Elem()
	}
	if n, is := of.(*types.Named); is && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == "agent" {
		return n.Obj().Name()
	}
	return ""
}

// noImports knows no other package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not looked at") }
