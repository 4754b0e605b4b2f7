package fleet

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// StepSummary appends a summary in Markdown to the file that GitHub Actions names in
// GITHUB_STEP_SUMMARY, when the wait is over. GitHub takes 1 MiB a step, so hosts that are not
// done are told of one by one only up to a bound.
type StepSummary struct {
	Path string
	Warn func(msg string) // told that the file cannot be written
}

func (s *StepSummary) Update(Progress, []Host) {}
func (s *StepSummary) Note(string)             {}

func (s *StepSummary) End(r Result) {
	file, err := os.OpenFile(s.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		var written int64
		if info, err := file.Stat(); err == nil {
			written = info.Size()
		}
		_, err = file.WriteString(cutPage(Text(markdown(r)), maxSummary-int(written)))
		if closed := file.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		s.Warn("the step summary cannot be written: " + err.Error())
	}
}

// maxSummary is how many bytes GitHub takes of a step; of a longer page it shows nothing.
const maxSummary = 1 << 20

// cutPage returns the whole lines of the page that fit into n bytes, and says that there were more.
func cutPage(page string, n int) string {
	const note = "\n(The rest is too long for this page.)\n"
	if len(page) <= n {
		return page
	}
	end := strings.LastIndexByte(page[:max(0, n-len(note))], '\n') + 1
	if end == 0 {
		return ""
	}
	return page[:end] + note
}

// literal keeps Markdown and HTML from reading anything into a text.
var literal = strings.NewReplacer("\\", "\\\\", "&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "\\|", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "@", "&#64;")

// doneTable is what a page says of hosts that all run the version.
func doneTable(all []Host) string {
	var b strings.Builder
	b.WriteString("| host | state | publish to applied |\n|---|---|---|\n")
	for _, h := range all[:min(len(all), shownHosts)] {
		took := ""
		if h.Timed {
			took = Duration(h.Took)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", literal.Replace(h.Name), literal.Replace(inWords(h.State)), took)
	}
	if n := len(all) - shownHosts; n > 0 {
		fmt.Fprintf(&b, "\nand %d more\n", n)
	}
	return b.String()
}

func markdown(r Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### npcnix: %s\n\n`%s` of %s: %s, in %s.\n\n",
		r.Outcome, Short(r.Version.ETag), literal.Replace(r.Remote), counts(r.Progress), stopwatch(r.Elapsed))
	if err := r.Err(); err != nil {
		fmt.Fprintf(&b, "%s\n\n", literal.Replace(err.Error()))
	}
	if l := r.Latency; l.Hosts > 0 {
		fmt.Fprintf(&b, "| publish to applied | p50 | p99 | slowest |\n|---|---|---|---|\n| %s | %s | %s | %s (%s) |\n\n",
			Hosts(l.Hosts), Duration(l.P50), Duration(l.P99), Duration(l.Slowest), literal.Replace(l.SlowestHost))
	}
	open := slices.DeleteFunc(byRank(r.Hosts), func(h Host) bool { return h.Verdict == Done })
	if len(open) == 0 {
		return b.String() + doneTable(r.Hosts)
	}
	b.WriteString("| host | state | |\n|---|---|---|\n")
	for _, h := range open[:min(len(open), shownHosts)] {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", literal.Replace(h.Name), literal.Replace(inWords(h.State)), literal.Replace(h.Why))
	}
	if n := len(open) - shownHosts; n > 0 {
		fmt.Fprintf(&b, "\nand %d more\n", n)
	}
	b.WriteString("\n")
	for _, h := range open[:min(len(open), shownHosts)] {
		if h.Verdict == Failed && h.Record != nil && len(tail(h.Record)) > 0 {
			// Indented code is the one form that no line of a log can end.
			fmt.Fprintf(&b, "%s ended with:\n\n", literal.Replace(h.Name))
			for _, line := range tail(h.Record) {
				fmt.Fprintf(&b, "    %s\n", line)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
