package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// reports runs `go test -json` on packages with these tests and returns what is printed of that.
func reports(t *testing.T, packages map[string]string) (string, int) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module example\n\ngo 1.26\n"}
	for name, body := range packages {
		files[name+"/x_test.go"] = "package x\n\nimport \"testing\"\n\n" + body
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir = dir
	events, _ := cmd.Output() // its status is not what is tested
	var out bytes.Buffer
	code := run(bytes.NewReader(events), &out)
	return out.String(), code
}

func TestReport(t *testing.T) {
	t.Parallel()
	const good = "func TestGood(t *testing.T) { t.Log(\"hush\"); t.Run(\"part\", func(t *testing.T) {}); t.Run(\"other\", func(t *testing.T) {}) }\n"
	for name, test := range map[string]struct {
		packages map[string]string
		code     int
		has      []string
		lacks    []string
	}{
		"all passes": {map[string]string{"a": good, "b": good}, 0,
			[]string{"ok  \texample/a", "ok  \texample/b", "The slowest tests", "example/a TestGood/part\n", "\n4 passed, 0 failed, 0 skipped\n"}, []string{"hush", "TestGood\n"}},
		"one fails": {map[string]string{"a": good + "func TestBad(t *testing.T) { t.Run(\"part\", func(t *testing.T) { t.Error(\"alas\") }) }\n", "b": good}, 1,
			[]string{"failed: example/a TestBad/part", "--- FAIL: TestBad/part", "alas", "FAIL\texample/a", "ok  \texample/b", "\n4 passed, 1 failed, 0 skipped\n"}, []string{"hush"}},
		"one says much": {map[string]string{"a": "func TestBad(t *testing.T) { t.Log(\"early\"); for range 6 { t.Error(\"alas\\n1\\n2\\n3\\n4\\n5\") } }\n"}, 1,
			[]string{"The last words of what failed:\nexample/a TestBad:     x_test.go:5: alas\n        1\n        2\n        3\nexample/a TestBad: "}, nil},
		"one panics": {map[string]string{"a": "func TestBad(t *testing.T) { panic(\"alas\") }\n"}, 1,
			[]string{"panic: alas", "x_test.go:", "FAIL\texample/a", "\n0 passed, 1 failed, 0 skipped\n"}, nil},
		"one ends the process": {map[string]string{"a": "import \"os\"\n\nfunc TestBad(t *testing.T) { println(\"alas\"); os.Exit(0) }\n"}, 1,
			[]string{"alas", "FAIL\texample/a", ", 1 failed, "}, nil},
		"one is skipped": {map[string]string{"a": good + "func TestNot(t *testing.T) { t.Skip(\"no such part\") }\n"}, 0,
			[]string{"Skipped:\nexample/a TestNot: ", "no such part", "\n2 passed, 0 failed, 1 skipped\n"}, nil},
		"one does not compile": {map[string]string{"a": "func TestBad(t *testing.T) { alas }\n", "b": good}, 1,
			[]string{"undefined: alas", "FAIL\texample/a [build failed]", "ok  \texample/b"}, nil},
		"there is no test": {map[string]string{"a": "var _ testing.T\n"}, 1, []string{"\n0 passed, 0 failed, 0 skipped\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := reports(t, test.packages)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, text := range test.has {
				if !strings.Contains(out, text) {
					t.Errorf("%q is not printed", text)
				}
			}
			for _, text := range test.lacks {
				if strings.Contains(out, text) {
					t.Errorf("%q is printed", text)
				}
			}
			if t.Failed() {
				t.Logf("printed:\n%s", out)
			}
		})
	}
}

func TestReportOfAnEndTooEarly(t *testing.T) {
	var out bytes.Buffer
	code := run(strings.NewReader(`{"Action":"run","Package":"example/a","Test":"TestLong"}`+"\ngo: killed\n"), &out)
	if code != 1 || !strings.Contains(out.String(), "FAIL\texample/a did not end\n") || !strings.Contains(out.String(), "go: killed\n") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}
