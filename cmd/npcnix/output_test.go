package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/integration/foreign"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store/release"
)

// filled is a value of which a host, a store or a publisher wrote every text.
func filled[T any](change ...func(*T)) T {
	var v T
	foreign.Fill(&v)
	for _, f := range change {
		f(&v)
	}
	return v
}

// Each row is what a command prints of foreign texts.
func TestNothingForeignSpeaksToATerminal(t *testing.T) {
	text := foreign.Text()
	printed := func(s string) func(*common) error {
		return func(c *common) error { return c.print("%s", s) }
	}
	manifest := filled(func(m *release.Manifest) {
		m.Rollout.Waves, m.Rollout.Base = [][]string{{text}}, &release.Base{Release: text}
	})
	next := &release.Verified{Manifest: &manifest, Keys: []string{text}}
	type row struct {
		name  string
		print func(c *common) error
	}
	rows := []row{
		{"doctor", printed(findingText(filled[doctor.Finding](), 80))},
		{"history", printed(filled[historyView]().text())},
		{"release show", printed(describeRelease(&manifest, &release.Frame{}))},
		{"release verify", printed("verified: " + publish.Short(&manifest))},
		{"diff", printed(filled[diffView]().text())},
		{"diff of a changed system", printed(filled(func(v *diffView) { v.Configurations[0].SameAs, v.Configurations[0].Unknown = "", "" }).text())},
		{"diff of what cannot be compared", printed(filled(func(v *diffView) { v.Configurations[0].SameAs = "" }).text())},
		{"diff of a new system", printed(filled(func(v *diffView) { v.Configurations[0].From = "" }).text())},
		{"diff of a removed system", printed(filled(func(v *diffView) { v.Configurations[0].To = "" }).text())},
		{"rollout status", printed(describeRollout(&manifest, filled[release.Progress](), rollout.Tally{Hosts: []rollout.Host{filled[rollout.Host]()}}))},
		{"what a publish will change", printed(nameOf(&manifest) + changes([]record.Record{filled(func(r *record.Record) { r.RenamedTo = "" })}, next))},
		{"trust show", func(c *common) error { return showTrust(t, c, text) }},
		{"an object of JSON", func(c *common) error { return c.printJSON(filled[hostStatus]()) }},
		{"an error", func(c *common) error { report(errors.New(text), c.stdout); return nil }},
		{"a question", func(c *common) error { _ = ask(t.Context(), c.stdout, strings.NewReader("n\n"), text); return nil }},
		{"a log of text", logs("text", text)},
		{"a log of JSON", logs("json", text)},
	}
	for name, change := range statusVariants() {
		rows = append(rows, row{"status " + name, printed(filled(func(s *hostStatus) { s.Agent.Error = "" }, change).text(statusNow))})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var out strings.Builder
			if err := row.print(&common{stdout: &out, stderr: &out}); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "x") {
				t.Errorf("nothing of it is printed: %q", out.String())
			}
			if leak, leaks := foreign.Leak(out.String()); leaks {
				t.Errorf("it prints %U", leak)
			}
		})
	}
}

// statusVariants are the changes to a status by which all of its texts are printed.
func statusVariants() map[string]func(*hostStatus) {
	variants := map[string]func(*hostStatus){
		"of a failure":                     func(s *hostStatus) { s.Specialisation = "" },
		"of a rejected version":            func(s *hostStatus) { s.Failure.Rejected, s.Intent, s.Paused = true, nil, nil },
		"of an agent that cannot be asked": func(s *hostStatus) { s.Agent.Error = foreign.Text() },
		"of an agent that runs": func(s *hostStatus) {
			part := s.Agent.Parts[health.Code(foreign.Text())]
			s.Agent.Running, s.Paused, s.Intent, s.Failure = true, nil, nil, nil
			for _, code := range []health.Code{health.Queue, health.Store, health.Record, health.Lease, health.Config} {
				s.Agent.Parts[code] = part
			}
		},
		"of a host that is unhealthy": func(s *hostStatus) {
			s.Agent.Running, s.Paused, s.Intent, s.Failure, s.Agent.Held = true, nil, nil, nil, ""
		},
		"of a host that drifted": func(s *hostStatus) { s.Paused, s.Intent, s.Failure, s.Drifted = nil, nil, nil, true },
	}
	for _, phase := range []activation.Phase{activation.Pending, activation.Switching, activation.Verifying, activation.Committing,
		activation.RebootPending, activation.RollingBack, activation.RollbackFailed} {
		variants["while "+string(phase)] = func(s *hostStatus) { s.Activation.Phase = phase }
	}
	return variants
}

// logs logs a message, the name of a value and a value.
func logs(format, text string) func(*common) error {
	return func(c *common) error {
		c.logLevel, c.logFormat = "info", format
		if err := c.openLog(); err != nil {
			return err
		}
		c.log.Warn(text, text, text, "error", errors.New(text))
		return nil
	}
}

// showTrust has the command print what a host remembers of a remote with a hostile name.
func showTrust(t *testing.T, c *common, text string) error {
	t.Helper()
	c.dataDir, c.settings = t.TempDir(), filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(c.settings, []byte("{}"), 0o600); err != nil {
		return err
	}
	data, err := json.Marshal(trust.Memory{Schema: 1, Remotes: map[string]release.Accepted{text: {Serial: 1}}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.dir().Path("trust.json"), data, 0o600); err != nil {
		return err
	}
	return runTrustShow(c)
}

// What a person reads goes through print and printTo, which remove what speaks to a terminal. Nothing is written past
// them to what the program prints on.
func TestNothingIsPrintedUncleaned(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is {
				return true
			}
			switch name, to := calledOn(call); {
			case name == "print" || name == "printTo":
				seen++
			case slices.Contains([]string{"Print", "Printf", "Println"}, name) && to == "fmt":
				t.Errorf("%s: fmt.%s prints past (*common).print", file, name)
			case slices.Contains([]string{"Fprint", "Fprintf", "Fprintln", "WriteString", "Write"}, name):
				if on := append([]string{to}, firstArgument(call)); slices.ContainsFunc(on, isStream) {
					t.Errorf("%s: %s prints past (*common).print", file, name)
				}
			}
			return true
		})
	}
	if seen < 20 {
		t.Errorf("only %d calls print", seen)
	}
}

// calledOn is the name of what is called, and of what it belongs to.
func calledOn(call *ast.CallExpr) (name, on string) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name, ""
	case *ast.SelectorExpr:
		return f.Sel.Name, lastName(f.X)
	}
	return "", ""
}

// firstArgument is the name of the first argument.
func firstArgument(call *ast.CallExpr) string {
	if len(call.Args) == 0 {
		return ""
	}
	return lastName(call.Args[0])
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// isStream reports whether something has the name of what the program prints on.
func isStream(name string) bool {
	return slices.Contains([]string{"stdout", "stderr", "Stdout", "Stderr", "screen", "out"}, name)
}
