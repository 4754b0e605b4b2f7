// Command testreport reads what `go test -json` writes, and prints what a person wants of it: a line for
// each package as it ends, the whole output of what failed, and at the end the tests that took longest
// and, again, the last words of those that failed: the end is all that some CI systems keep.
// It exits with 1 when something failed, and when no test was run.
//
//	go test -json ./... | go run ./integration/testreport
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	slowest   = 20  // tests are named as such
	lastWords = 6   // messages of a failed test are repeated
	lastLines = 4   // of each message
	lastWidth = 400 // bytes of each line
)

// message is the first line of what a test says of itself, or of a panic.
var message = regexp.MustCompile(`^ +\S+\.go:\d+: |^panic: `)

func main() { os.Exit(run(os.Stdin, os.Stdout)) }

func run(in io.Reader, out io.Writer) int {
	r := report{out: out, packages: map[string]*pkg{}, started: time.Now()}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err != nil {
			break
		}
	}
	return r.end()
}

// event is one of test2json's (`go doc test2json`) or of `go build -json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build
	Test        string
	Elapsed     float64 // seconds; of a test in parallel without the wait for its turn
	Output      string
	FailedBuild string
}

// pkg is a package whose tests have begun.
type pkg struct {
	output  []event
	state   map[string]string // the last action of each test
	parents map[string]bool   // tests with others in them
	times   map[string]float64
}

type timed struct {
	name string
	secs float64
}

type report struct {
	out                     io.Writer
	packages                map[string]*pkg
	started                 time.Time
	passed, failed, skipped int
	broken                  bool // a package failed
	times                   []timed
	reasons                 []string // of what was skipped
	words                   []string // of what failed
}

func (r *report) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(r.out, line) // of the go command itself
		return
	}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Action == "build-fail":
		r.broken = true
	case e.Package != "":
		r.test(e)
	}
}

func (r *report) test(e event) {
	p := r.packages[e.Package]
	if p == nil {
		p = &pkg{state: map[string]string{}, parents: map[string]bool{}, times: map[string]float64{}}
		r.packages[e.Package] = p
	}
	switch e.Action {
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			p.output = append(p.output, e)
		}
	case "run":
		p.state[e.Test] = e.Action
		if i := strings.LastIndex(e.Test, "/"); i > 0 {
			p.parents[e.Test[:i]] = true
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packageEnds(e, p)
			return
		}
		p.state[e.Test], p.times[e.Test] = e.Action, e.Elapsed
		if e.Action == "fail" && !p.parents[e.Test] {
			fmt.Fprintf(r.out, "failed: %s %s, %.1f s into it\n", e.Package, e.Test, e.Elapsed)
		}
	}
}

// packageEnds prints what `go test` would: all output of a test that failed or did not end, a line for
// the package, and nothing of a test that passed.
func (r *report) packageEnds(e event, p *pkg) {
	for test, state := range p.state {
		switch {
		case p.parents[test]:
			continue
		case state == "pass":
			r.passed++
		case state == "skip":
			r.skipped++
		default:
			r.failed++
		}
		if secs, ended := p.times[test]; ended {
			r.times = append(r.times, timed{strings.TrimPrefix(e.Package, prefix) + " " + test, secs})
		}
	}
	if e.Action == "fail" {
		r.broken = true
	}
	for _, test := range slices.Sorted(maps.Keys(p.state)) {
		if state := p.state[test]; state == "fail" || state == "run" {
			r.words = append(r.words, words(strings.TrimPrefix(e.Package, prefix)+" "+test, p.outputOf(test))...)
		}
	}
	for _, o := range p.output {
		switch state := p.state[o.Test]; {
		case o.Test == "" && o.Output != "PASS\n", state == "fail", state == "run":
			fmt.Fprint(r.out, o.Output)
		case state == "skip" && !strings.HasPrefix(strings.TrimSpace(o.Output), "--- SKIP"):
			r.reasons = append(r.reasons, strings.TrimPrefix(e.Package, prefix)+" "+o.Test+": "+strings.TrimSpace(o.Output))
		}
	}
	if e.FailedBuild != "" {
		fmt.Fprintf(r.out, "FAIL\t%s [build failed]\n", e.Package)
	}
	delete(r.packages, e.Package)
}

func (p *pkg) outputOf(test string) string {
	var b strings.Builder
	for _, o := range p.output {
		if o.Test == test {
			b.WriteString(o.Output)
		}
	}
	return b.String()
}

// words returns the last messages of a test's output, each with its name and cut short.
func words(test, output string) []string {
	var all []string
	lines := 0
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		switch {
		case message.MatchString(line):
			all, lines = append(all, test+": "), 0
		case len(all) == 0 || lines >= lastLines || !strings.HasPrefix(line, "  "):
			lines = lastLines
			continue
		}
		all[len(all)-1] += strings.ToValidUTF8(line[:min(len(line), lastWidth)], "") + "\n"
		lines++
	}
	return all[max(0, len(all)-lastWords):]
}

const prefix = "github.com/npcnix/npcnix/"

func (r *report) end() int {
	for name := range r.packages { // the go command was killed
		fmt.Fprintf(r.out, "FAIL\t%s did not end\n", name)
		r.broken = true
	}
	if len(r.reasons) > 0 {
		fmt.Fprintf(r.out, "\nSkipped:\n%s\n", strings.Join(r.reasons, "\n"))
	}
	slices.SortFunc(r.times, func(a, b timed) int {
		return cmp.Or(cmp.Compare(b.secs, a.secs), cmp.Compare(a.name, b.name))
	})
	fmt.Fprintf(r.out, "\nThe slowest tests, of %s in all:\n", time.Since(r.started).Round(time.Second))
	for _, t := range r.times[:min(len(r.times), slowest)] {
		fmt.Fprintf(r.out, "%8.1f s  %s\n", t.secs, t.name)
	}
	if len(r.words) > 0 {
		fmt.Fprintf(r.out, "\nThe last words of what failed:\n%s", strings.Join(r.words, ""))
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.broken || r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}
