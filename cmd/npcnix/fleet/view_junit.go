package fleet

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"
)

// JUnit writes the file that GitLab and Jenkins read, when the wait is over: a test case for each host.
type JUnit struct {
	Path string
	Warn func(msg string) // told that the file cannot be written
}

func (j *JUnit) Update(Progress, []Host) {}
func (j *JUnit) Note(string)             {}

func (j *JUnit) End(r Result) {
	data, err := xml.MarshalIndent(suitesOf(r), "", "  ")
	if err == nil {
		err = os.WriteFile(j.Path, []byte(Text(xml.Header+string(data)+"\n")), 0o644)
	}
	if err != nil {
		j.Warn("the JUnit file cannot be written: " + err.Error())
	}
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"` // seconds
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitOutcome `xml:"failure"`
	Skipped *junitOutcome `xml:"skipped"`
}

type junitOutcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// suitesOf makes a failure of each host that has failed. One that is missing is a failure if the wait failed, and
// else skipped: enough others run the version.
func suitesOf(r Result) junitSuites {
	s := junitSuite{Name: "npcnix " + Short(r.Version.ETag) + " of " + r.Remote, Tests: len(r.Hosts), Time: fmt.Sprintf("%.3f", r.Elapsed.Seconds())}
	for _, h := range r.Hosts {
		c := junitCase{Name: clean(h.Name), Class: "npcnix", Time: fmt.Sprintf("%.3f", h.Took.Seconds())}
		said := junitOutcome{Message: inWords(h.State), Type: h.State}
		if h.Why != "" {
			said.Message += ": " + h.Why
		}
		switch {
		case h.Verdict == Done:
		case h.Verdict == Missing && r.Err() == nil:
			s.Skipped++
			said.Type = ""
			c.Skipped = &said
		default:
			s.Failures++
			if h.Record != nil {
				said.Text = strings.Join(tail(h.Record), "\n")
			}
			c.Failure = &said
		}
		s.Cases = append(s.Cases, c)
	}
	return junitSuites{Suites: []junitSuite{s}}
}
