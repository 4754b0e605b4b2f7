package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testRun is a command that runs some tests of a folder.
var testRun = regexp.MustCompile(`go test .*-run ['"]?([^'" ]+)['"]?(?: .*)? \./([\w/]+)`)

// What a name in -run selects exists: go test says nothing of a test that was renamed, and runs none.
func TestSelectedTestsExist(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob(filepath.Join(root, "integration", "*.sh"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(scripts, filepath.Join(root, "Makefile")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range testRun.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\\n", " "), -1) {
			found++
			for _, name := range missingTests(t, strings.ReplaceAll(run[1], "$$", "$"), run[2]) {
				t.Errorf("%s: %s has no test %s", file, run[2], name)
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d commands", found)
	}
}

// missingTests returns those alternatives of a -run that select no test of the folder.
func missingTests(t *testing.T, pattern, folder string) (missing []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{""} // ^$ is for benchmarks alone
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, test[1])
		}
	}
	for alternative := range strings.SplitSeq(strings.NewReplacer("(", "", ")", "").Replace(pattern), "|") {
		top, _, _ := strings.Cut(alternative, "/")
		selects := false
		for _, name := range names {
			selects = selects || regexp.MustCompile(top).MatchString(name)
		}
		if !selects {
			missing = append(missing, alternative)
		}
	}
	return missing
}

func TestSelectedTestsThatAreMissing(t *testing.T) {
	t.Parallel()
	got := missingTests(t, "^TestSelectedTestsExist$/one|(^TestSelected$|TestGone)|^$", "integration/rules")
	if want := "^TestSelected$ TestGone"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
