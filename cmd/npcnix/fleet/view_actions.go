package fleet

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxAnnotations is how many errors of a step GitHub shows.
const maxAnnotations = 10

// Annotations tells GitHub Actions of hosts that have failed, as annotations of the run, when the wait is over.
type Annotations struct {
	W io.Writer
}

func (a *Annotations) Update(Progress, []Host) {}
func (a *Annotations) Note(string)             {}

func (a *Annotations) End(r Result) {
	err := r.Err()
	if err == nil {
		return
	}
	lines := []string{annotation("npcnix: "+string(r.Outcome), err.Error())}
	for _, h := range byRank(r.Hosts) {
		if h.Verdict == Failed && len(lines) < maxAnnotations {
			lines = append(lines, annotation(h.Name, inWords(h.State)+": "+h.Why))
		}
	}
	fmt.Fprint(a.W, strings.Join(lines, ""))
}

var (
	dataOf     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyOf = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func annotation(title, text string) string {
	return "::error title=" + propertyOf.Replace(clean(title)) + "::" + dataOf.Replace(Text(text)) + "\n"
}

// StepOutput gives the following steps of a job in GitHub Actions the outcome, by the file of GITHUB_OUTPUT.
type StepOutput struct {
	Path string
	Warn func(msg string) // told that the file cannot be written
}

func (s *StepOutput) Update(Progress, []Host) {}
func (s *StepOutput) Note(string)             {}

func (s *StepOutput) End(r Result) {
	file, err := os.OpenFile(s.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(file, "outcome=%s\nversion=%s\ndone=%d\nfailed=%d\nmissing=%d\n",
			strings.ReplaceAll(string(r.Outcome), " ", "_"), clean(r.Version.ETag), r.Done, r.Failed, r.Missing)
		if closed := file.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		s.Warn("the step's outputs cannot be written: " + err.Error())
	}
}
