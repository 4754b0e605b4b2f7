package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// One thing has one word: words that the project has replaced do not come back.
func TestWords(t *testing.T) {
	if out, err := exec.Command(filepath.Join(root, "integration", "words.sh")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The search finds a word that stands in a sentence or in a name, and no others.
func TestWordsAreFound(t *testing.T) {
	words, err := filepath.Abs(filepath.Join(root, "integration", "words.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for text, found := range map[string]bool{
		"a person has to mend it":               true,
		"Somebody switched the host.":           true,
		"func TestAHostThatWasSwitchedByHand()": true,
		`log.Warn("no answer", "err", err)`:     true,
		"confirmTimeoutSecs = 300;":             true,
		"after settle_secs no unit has failed":  false,
		"a recommended amendment":               false,
		"improve the approved approach":         false,
		`"booting" // old form`:                 false,
		`"stranded" // old form`:                false,
	} {
		t.Run(text, func(t *testing.T) {
			dir := t.TempDir()
			for _, args := range [][]string{{"init", "-q"}, {"add", "."}} {
				if args[0] == "add" {
					write(t, filepath.Join(dir, "page.md"), text+"\n")
				}
				git := exec.Command("git", args...)
				git.Dir = dir
				if out, err := git.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}
			cmd := exec.Command(words)
			cmd.Env = append(os.Environ(), "WORDS_ROOT="+dir)
			if out, err := cmd.CombinedOutput(); (err != nil) != found {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
