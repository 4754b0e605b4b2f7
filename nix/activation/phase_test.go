package activation

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var phases = []Phase{Pending, Switching, Verifying, Committing, Committed, RebootPending, RollingBack, RolledBack, RollbackFailed}

func TestTransitions(t *testing.T) {
	t.Run("a transition of the table is made durable", func(t *testing.T) {
		for from, tos := range transitions {
			for _, to := range tos {
				dir := t.TempDir()
				j := Journal{Schema: journalSchema, ID: "x", Phase: from}
				if err := j.advance(dir, to); err != nil || j.Phase != to {
					t.Errorf("%s to %s: %s, %v", from, to, j.Phase, err)
				}
				if now, err := Read(dir); err != nil || now.Phase != to {
					t.Errorf("on disk: %+v, %v", now, err)
				}
			}
		}
	})
	t.Run("any other is refused, and the error names both phases", func(t *testing.T) {
		for _, from := range phases {
			for _, to := range append(phases, "") {
				if slices.Contains(transitions[from], to) {
					continue
				}
				dir := t.TempDir()
				j := Journal{Schema: journalSchema, ID: "x", Phase: from}
				err := j.advance(dir, to)
				if err == nil || !strings.Contains(err.Error(), `"`+string(from)+`"`) || !strings.Contains(err.Error(), `"`+string(to)+`"`) {
					t.Errorf("%s to %s: %v", from, to, err)
				}
				if _, err := os.Stat(filepath.Join(dir, journalFile)); err == nil || j.Phase != from {
					t.Errorf("%s to %s: it is %s, on disk %v", from, to, j.Phase, err)
				}
			}
		}
	})
	t.Run("one that cannot be written did not happen", func(t *testing.T) {
		j := Journal{Schema: journalSchema, Phase: Pending}
		if err := j.advance(filepath.Join(t.TempDir(), "gone"), Switching); err == nil || j.Phase != Pending {
			t.Errorf("%s, %v", j.Phase, err)
		}
	})
	t.Run("every phase but an end leads to one, and an end to nothing, but for another try at a rollback", func(t *testing.T) {
		for _, p := range phases {
			again := p == RollbackFailed && slices.Equal(transitions[p], []Phase{RollingBack})
			if p.Ended() != (len(transitions[p]) == 0 || again) {
				t.Errorf("%s ended is %v, and goes on to %v", p, p.Ended(), transitions[p])
			}
			if !p.Ended() && !slices.ContainsFunc(transitions[p], func(to Phase) bool { return to == RollingBack || to.Ended() }) {
				t.Errorf("%s has no way to an end", p)
			}
		}
	})
	t.Run("a system is committed only after its verification", func(t *testing.T) {
		for from, tos := range transitions {
			if slices.Contains(tos, Committed) && from != Committing || slices.Contains(tos, Committing) && from != Verifying {
				t.Errorf("%s leads to %v", from, tos)
			}
		}
	})
}

// In the text of this package, only advance and what reads a file assign to a phase.
func TestNothingElseChangesAPhase(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"advance": true, "readSchema1": true}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || allowed[f.Name.Name] {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if a, ok := n.(*ast.AssignStmt); ok {
					for _, to := range a.Lhs {
						if s, ok := to.(*ast.SelectorExpr); ok && s.Sel.Name == "Phase" {
							t.Errorf("%s: %s assigns to a phase", name, f.Name.Name)
						}
					}
				}
				if l, ok := n.(*ast.CompositeLit); ok && isJournal(l.Type) {
					for _, e := range l.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Phase" {
							t.Errorf("%s: %s makes a journal with a phase", name, f.Name.Name)
						}
					}
				}
				return true
			})
		}
	}
}

func isJournal(e ast.Expr) bool {
	name, ok := e.(*ast.Ident)
	return ok && name.Name == "Journal"
}
